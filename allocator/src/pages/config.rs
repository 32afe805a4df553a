//! What can be set about the page layer.

use zonal_numa::{MAX_NODES, NodeMask};

use crate::charge::UNLIMITED;
use crate::policy::NodeReclaimMode;
use crate::thp::Thp;
use crate::watermark::WatermarkFactors;

/// What the OS is told about where a section's memory shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On the section's node while that has room.
    #[default]
    Prefer,
    /// On the section's node, then on others of these: the kernel kills the process when all of them
    /// are full.
    Strict(NodeMask),
    /// Nothing: the kernel decides.
    Kernel,
}

/// What can be set about the page layer.
#[derive(Clone, Copy, Debug)]
pub struct PageConfig {
    /// Most pages that may be charged, [`UNLIMITED`] for no limit.
    pub limit: usize,
    /// From this many charged pages on requests reclaim before they take more; a bound that gives
    /// way. [`UNLIMITED`] for none.
    pub soft_limit: usize,
    /// The limit by node.
    pub node_limits: [usize; MAX_NODES],
    /// When to use huge pages.
    pub thp: Thp,
    /// Where memory shall be.
    pub placement: Placement,
    /// What is reclaimed on a node before others are asked.
    pub node_reclaim: NodeReclaimMode,
    /// What the watermarks are computed with.
    pub watermarks: WatermarkFactors,
}

impl Default for PageConfig {
    fn default() -> PageConfig {
        PageConfig {
            limit: UNLIMITED,
            soft_limit: UNLIMITED,
            node_limits: [UNLIMITED; MAX_NODES],
            thp: Thp::default(),
            placement: Placement::default(),
            node_reclaim: NodeReclaimMode::default(),
            watermarks: WatermarkFactors::DEFAULT,
        }
    }
}
