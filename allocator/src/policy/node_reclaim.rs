//! What a node may reclaim before memory is taken from others, and that one thread does it at a time.

use zonal_numa::NodeId;

use crate::node::Node;
use crate::pages::Pages;
use crate::sync::atomic::Ordering::Relaxed;

/// What `node_reclaim` may take, by the bits of the kernel's `zone_reclaim_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct NodeReclaimMode(u8);

impl NodeReclaimMode {
    /// Others are asked at once.
    pub const OFF: NodeReclaimMode = NodeReclaimMode(0);
    /// All bits that there are.
    const ALL: u8 = 7;

    /// The mode of these bits; none if there are others.
    pub const fn from_bits(bits: usize) -> Option<NodeReclaimMode> {
        if bits <= Self::ALL as usize { Some(NodeReclaimMode(bits as u8)) } else { None }
    }

    /// Whether a node reclaims at all before others are asked.
    pub const fn is_on(self) -> bool {
        self.0 != 0
    }

    /// 2: freed mappings that are kept for reuse, too.
    pub const fn takes_mappings(self) -> bool {
        self.0 & 2 != 0
    }

    /// 4: what the caches of other threads hold, too.
    pub const fn takes_from_threads(self) -> bool {
        self.0 & 4 != 0
    }
}

/// One thread reclaims on a node: ends when dropped.
#[derive(Debug)]
pub struct NodeReclaimLock<'a>(&'a Node);

impl Drop for NodeReclaimLock<'_> {
    fn drop(&mut self) {
        // Relaxed: it orders nothing, it only keeps others from the same work.
        self.0.reclaiming.store(false, Relaxed);
    }
}

impl Pages {
    /// Keeps others from reclaiming on the node meanwhile; none if somebody does it already.
    pub fn begin_node_reclaim(&self, id: NodeId) -> Option<NodeReclaimLock<'_>> {
        let node = self.node(id)?;
        // Relaxed: as above. Not `then_some`: a lock that nobody gets would end that of the other.
        (!node.reclaiming.swap(true, Relaxed)).then(|| NodeReclaimLock(node))
    }

    /// Counts what came of it.
    pub fn note_node_reclaim(&self, id: NodeId, success: bool) {
        if let Some(node) = self.node(id) {
            let stat = &node.numastat;
            let word = if success { &stat.reclaim_success } else { &stat.reclaim_failed };
            word.fetch_add(1, Relaxed);
        }
    }
}
