//! Which node serves a request: the process's memory policy over the machine's distances.
//!
//! The kernel's modes, applied where pages are taken, so that small objects follow at the pace of
//! slabs: a policy places pages, not objects. `bind` is kept here, by never asking other nodes, and
//! so ends in ENOMEM where the kernel's own `MPOL_BIND` would kill the process.

use zonal_numa::{MAX_NODES, MemPolicy, NodeId, NodeMask, PolicyMode};

use crate::heap::Heap;
use crate::mm::Mm;
use crate::pages::{Pages, Placement};
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

/// The policy of an instance.
#[derive(Debug)]
pub(crate) struct Placing {
    /// What the user set. Where that is local, each thread's own policy counts (`numactl`,
    /// `set_mempolicy`).
    policy: MemPolicy,
    /// Whether memory shall follow policies at all.
    follows_threads: bool,
    /// Pages taken from each node in turn so far.
    taken: [AtomicUsize; MAX_NODES],
}

impl Placing {
    /// `policy` for the nodes in `existing`; the default policy when none of its nodes is there.
    pub(crate) fn new(policy: MemPolicy, pages: &Pages) -> Placing {
        let policy = among(policy, pages.online());
        note_bound(policy, pages);
        Placing {
            policy,
            follows_threads: policy.mode == PolicyMode::Local
                && pages.placement != Placement::Kernel
                && pages.online().count() > 1,
            taken: core::array::from_fn(|_| AtomicUsize::new(0)),
        }
    }
}

/// The policy for nodes that there are; the default one if there is none of them.
fn among(policy: MemPolicy, existing: NodeMask) -> MemPolicy {
    let nodes = policy.nodes.and(existing);
    if nodes.is_empty() { MemPolicy::LOCAL } else { MemPolicy { nodes, ..policy } }
}

/// From now on these nodes give only what they have.
fn note_bound(policy: MemPolicy, pages: &Pages) {
    if policy.mode == PolicyMode::Bind && pages.online().count() > 1 {
        for node in policy.nodes.iter().filter_map(|node| pages.node(node)) {
            node.note_bound();
        }
    }
}

impl Mm {
    /// The policy for memory that the calling thread takes now.
    pub(crate) fn policy_now(&self) -> MemPolicy {
        let Placing { policy, follows_threads, .. } = self.placing();
        if !*follows_threads {
            return *policy;
        }
        let Some(own) = self.machine().thread_policy() else { return *policy };
        let own = among(own, self.pages().online());
        note_bound(own, self.pages());
        own
    }

    /// The node that a thread running on `here` shall get its memory from.
    pub(crate) fn home_for(&self, policy: MemPolicy, here: NodeId) -> NodeId {
        let near = self.zonelist(here);
        let wanted =
            |node: &&NodeId| policy.mode == PolicyMode::Local || policy.nodes.contains(**node);
        near.iter().find(wanted).or(near.first()).copied().unwrap_or(here)
    }

    /// The node that the next pages for `heap` come from.
    pub fn next_node(&self, heap: &Heap) -> NodeId {
        let policy = heap.policy();
        if !is_in_turn(policy) {
            return heap.node();
        }
        // Relaxed: only the spread matters.
        let taken = |node: &NodeId| self.placing().taken[node.index()].load(Relaxed);
        policy.nodes.iter().min_by_key(taken).unwrap_or(heap.node())
    }

    /// Notes that `heap` took pages of `node`. Turns are counted in pages, so that blocks of all
    /// sizes spread evenly.
    pub(crate) fn note_taken(&self, heap: &Heap, node: NodeId, nr_pages: usize) {
        if self.is_one_node() {
            return;
        }
        let policy = heap.policy();
        let in_turn = is_in_turn(policy);
        if in_turn {
            // Relaxed: only the spread matters.
            self.placing().taken[node.index()].fetch_add(nr_pages, Relaxed);
        }
        let Some(taken) = self.pages().node(node) else { return };
        let is_local = self.machine().current_node() == node;
        let as_intended = if in_turn { policy.nodes.contains(node) } else { node == heap.node() };
        if as_intended {
            taken.numastat.note_hit(nr_pages as u64, in_turn, is_local);
        } else {
            let wanted = self.pages().node(heap.node()).map(|home| &home.numastat);
            taken.numastat.note_miss(nr_pages as u64, wanted, is_local);
        }
    }

    /// A thread has come to `node`.
    pub(crate) fn note_migration(&self, node: NodeId) {
        if let Some(node) = self.pages().node(node) {
            // Relaxed: statistic only.
            node.numastat.migrations.fetch_add(1, Relaxed);
        }
    }

    /// Whether pages of `node` may be used for `heap` when the preferred ones are exhausted.
    pub fn may_use(&self, heap: &Heap, node: NodeId) -> bool {
        let policy = heap.policy();
        match policy.mode {
            PolicyMode::Bind | PolicyMode::BindStrict => policy.nodes.contains(node),
            _ => true,
        }
    }
}

/// Whether nodes take turns.
pub(crate) fn is_in_turn(policy: MemPolicy) -> bool {
    matches!(policy.mode, PolicyMode::Interleave | PolicyMode::WeightedInterleave)
}
