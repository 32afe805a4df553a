//! Memory policies: on which nodes the pages of a span shall be.

use crate::{NodeId, NodeMask};

/// How a policy chooses among its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyMode {
    /// The node of the thread that touches the page first.
    Local,
    /// One node if it has room, else the nearest.
    Preferred,
    /// The nearest of several nodes if they have room, else the nearest at all.
    PreferredMany,
    /// Only these nodes: asked of the kernel as [`PolicyMode::PreferredMany`],
    /// because a thread that finds strictly bound nodes full is killed, not told.
    /// Headroom is checked before, and strays are counted, above this crate.
    Bind,
    /// Only these nodes, by the kernel's own strictness, with its kill.
    BindStrict,
    /// Page by page around the nodes.
    Interleave,
    /// Around the nodes by the weights that the administrator set.
    WeightedInterleave,
}

/// A mode and the nodes that it rules over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemPolicy {
    /// How to choose.
    pub mode: PolicyMode,
    /// Among which nodes; of no interest to [`PolicyMode::Local`].
    pub nodes: NodeMask,
}

impl Default for MemPolicy {
    fn default() -> MemPolicy {
        MemPolicy::LOCAL
    }
}

impl MemPolicy {
    /// The default policy.
    pub const LOCAL: MemPolicy = MemPolicy { mode: PolicyMode::Local, nodes: NodeMask::EMPTY };

    /// Prefers one node.
    pub const fn preferred(node: NodeId) -> MemPolicy {
        MemPolicy { mode: PolicyMode::Preferred, nodes: NodeMask::of(node) }
    }

    /// Keeps to these nodes.
    pub const fn bind(nodes: NodeMask) -> MemPolicy {
        MemPolicy { mode: PolicyMode::Bind, nodes }
    }

    /// Whether it says what it must and no more: nodes where the mode chooses among some, one where
    /// it prefers one, none where it takes the thread's.
    pub const fn is_sound(self) -> bool {
        match (self.mode, self.nodes.count()) {
            (PolicyMode::Local, nr) => nr == 0,
            (PolicyMode::Preferred, nr) => nr == 1,
            (_, nr) => nr > 0,
        }
    }

    /// Out of the kernel's words for a thread's policy; none for its default.
    pub(crate) fn from_kernel(mode: i32, bits: u64) -> Option<MemPolicy> {
        let nodes = NodeMask::from_bits(bits);
        let mode = match mode & !MODE_FLAGS {
            libc::MPOL_PREFERRED => PolicyMode::Preferred,
            libc::MPOL_BIND => PolicyMode::Bind,
            libc::MPOL_INTERLEAVE => PolicyMode::Interleave,
            MPOL_PREFERRED_MANY => PolicyMode::PreferredMany,
            MPOL_WEIGHTED_INTERLEAVE => PolicyMode::WeightedInterleave,
            _ => return None,
        };
        // An empty preferred set has always meant local.
        (!nodes.is_empty()).then_some(MemPolicy { mode, nodes })
    }

    /// The kernel's words for it, and the words for kernels too old to know those.
    pub(crate) fn to_kernel(self) -> (KernelPolicy, Option<KernelPolicy>) {
        let first = self.nodes.first().map_or(0, |node| NodeMask::of(node).bits());
        let preferred = KernelPolicy { mode: libc::MPOL_PREFERRED, bits: first };
        let all = |mode| KernelPolicy { mode, bits: self.nodes.bits() };
        match self.mode {
            // An empty preferred set has always meant local.
            PolicyMode::Local => (KernelPolicy { mode: libc::MPOL_PREFERRED, bits: 0 }, None),
            PolicyMode::Preferred => (preferred, None),
            // One node needs no new mode.
            PolicyMode::PreferredMany | PolicyMode::Bind if self.nodes.count() <= 1 => {
                (preferred, None)
            }
            PolicyMode::PreferredMany | PolicyMode::Bind => {
                (all(MPOL_PREFERRED_MANY), Some(preferred))
            }
            PolicyMode::BindStrict => (all(libc::MPOL_BIND), None),
            PolicyMode::Interleave => (all(libc::MPOL_INTERLEAVE), None),
            PolicyMode::WeightedInterleave => {
                (all(MPOL_WEIGHTED_INTERLEAVE), Some(all(libc::MPOL_INTERLEAVE)))
            }
        }
    }
}

/// Arguments of `mbind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelPolicy {
    pub(crate) mode: i32,
    pub(crate) bits: u64,
}

/// `MPOL_F_STATIC_NODES`, `MPOL_F_RELATIVE_NODES` and `MPOL_F_NUMA_BALANCING`.
const MODE_FLAGS: i32 = 7 << 13;
/// From Linux 5.15.
const MPOL_PREFERRED_MANY: i32 = 5;
/// From Linux 6.9.
const MPOL_WEIGHTED_INTERLEAVE: i32 = 6;
