//! Which node serves a request: the process's memory policy over the machine's distances.
//!
//! The kernel's modes, applied where pages are taken, so that small objects follow at the pace of
//! slabs: a policy places pages, not objects. `bind` is kept here, by never asking other nodes, and
//! so ends in ENOMEM where the kernel's own `MPOL_BIND` would kill the process.

use zonal_numa::{MemPolicy, NodeId, NodeMask, PolicyMode};

use crate::mm::Mm;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// The policy of an instance.
#[derive(Debug)]
pub(crate) struct Placing {
    policy: MemPolicy,
    /// Turns of interleaving so far.
    turn: AtomicU32,
}

impl Placing {
    /// `policy` for the nodes in `existing`; the default policy when none of its nodes is there.
    pub(crate) fn new(policy: MemPolicy, existing: NodeMask) -> Placing {
        let nodes = policy.nodes.and(existing);
        let policy =
            if nodes.is_empty() { MemPolicy::LOCAL } else { MemPolicy { nodes, ..policy } };
        Placing { policy, turn: AtomicU32::new(0) }
    }
}

impl Mm {
    /// The node that a thread running on `here` shall get its memory from.
    pub(crate) fn home_for(&self, here: NodeId) -> NodeId {
        let wanted = self.placing().policy.nodes;
        if self.placing().policy.mode == PolicyMode::Local || wanted.contains(here) {
            return here;
        }
        let near = self.zonelist(here).iter().copied().find(|&node| wanted.contains(node));
        near.unwrap_or(here)
    }

    /// The node that the next pages for a heap at home on `home` come from.
    pub fn next_node(&self, home: NodeId) -> NodeId {
        let Placing { policy, turn } = self.placing();
        match policy.mode {
            PolicyMode::Interleave | PolicyMode::WeightedInterleave if !self.is_one_node() => {
                let nodes = policy.nodes;
                // Relaxed: only the spread matters.
                let turn = turn.fetch_add(1, Relaxed) as usize;
                nodes.iter().nth(turn % nodes.count().max(1)).unwrap_or(home)
            }
            _ => home,
        }
    }

    /// Whether pages of `node` may be used when the preferred ones are exhausted.
    pub fn may_use(&self, node: NodeId) -> bool {
        let policy = &self.placing().policy;
        match policy.mode {
            PolicyMode::Bind | PolicyMode::BindStrict => policy.nodes.contains(node),
            _ => true,
        }
    }
}
