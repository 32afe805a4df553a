//! Which node serves a request: a memory policy over the machine's distances.
//!
//! The kernel's modes, applied where pages are taken, so that small objects follow at the pace of
//! slabs: a policy places pages, not objects. `bind` is kept here, by never asking other nodes, and
//! so ends in ENOMEM where the kernel's own `MPOL_BIND` would kill the process.
//!
//! The policy of a request is that which the thread asked for ([`Mm::set_policy`]), else that of the
//! process, else the one that the kernel has for the thread (`numactl`, `set_mempolicy`), else local.
//! All of them choose among the nodes that the process is allowed.

use zonal_numa::{Errno, MAX_NODES, MemPolicy, NodeId, NodeMask, PolicyMode};

use crate::heap::{Heap, OwnHeap};
use crate::mm::Mm;
use crate::pages::{Pages, Placement};
use crate::policy::turns::{Turns, Weights};
use crate::sync::atomic::Ordering::Relaxed;

/// The policy of an instance.
#[derive(Debug)]
pub(crate) struct Placing {
    /// What the user set; where that is nothing, each thread's own policy in the kernel counts.
    pub(crate) policy: Option<MemPolicy>,
    /// Whose turn it is under policies of the process and of the kernel.
    turns: Turns,
    pub(crate) weights: Weights,
}

impl Placing {
    /// `policy`, if any of its nodes is there.
    pub(crate) fn new(
        policy: Option<MemPolicy>,
        weights: [u8; MAX_NODES],
        pages: &Pages,
    ) -> Placing {
        let policy = policy.filter(|_| pages.placement != Placement::Kernel);
        let policy = policy.map(|policy| among(policy, pages.allowed()));
        let placing = Placing { policy, turns: Turns::new(), weights: Weights::new(weights) };
        if let Some(policy) = policy {
            placing.prepare(policy, pages);
        }
        placing
    }

    /// What a policy needs before it is followed: bound nodes give only what they have, and weights
    /// are known.
    fn prepare(&self, policy: MemPolicy, pages: &Pages) {
        if pages.online().count() <= 1 {
            return;
        }
        match policy.mode {
            PolicyMode::Bind => note_bound(policy, pages),
            PolicyMode::WeightedInterleave => self.weights.read(&pages.machine, pages.online()),
            _ => {}
        }
    }
}

/// The policy for nodes that may be used; the default one if there is none of them.
fn among(policy: MemPolicy, allowed: NodeMask) -> MemPolicy {
    let nodes = policy.nodes.and(allowed);
    if nodes.is_empty() { MemPolicy::LOCAL } else { MemPolicy { nodes, ..policy } }
}

/// From now on these nodes give only what they have.
fn note_bound(policy: MemPolicy, pages: &Pages) {
    for node in policy.nodes.iter().filter_map(|node| pages.node(node)) {
        node.note_bound();
    }
}

impl Mm {
    /// The policy for memory that a thread takes now which asked for `asked`.
    pub(crate) fn policy_now(&self, asked: Option<MemPolicy>) -> MemPolicy {
        let pages = self.pages();
        if let Some(policy) = asked.or(self.placing().policy) {
            return among(policy, pages.allowed());
        }
        if pages.placement == Placement::Kernel || pages.online().count() <= 1 {
            return MemPolicy::LOCAL;
        }
        let Some(own) = self.machine().thread_policy() else { return MemPolicy::LOCAL };
        let own = among(own, pages.allowed());
        match own.mode {
            PolicyMode::Bind => {
                note_bound(own, pages);
                // All else that the thread has is bound as well, by the kernel.
                for node in own.nodes.iter().filter_map(|node| pages.node(node)) {
                    node.note_shared();
                }
            }
            PolicyMode::WeightedInterleave => {
                self.placing().weights.read(&pages.machine, pages.online());
            }
            _ => {}
        }
        own
    }

    /// Gives the calling thread a memory policy of its own, or takes it away. It counts for what
    /// is taken from now on.
    ///
    /// # Errors
    /// `EINVAL` when the policy is not sound, or none of its nodes may be used.
    /// [`PolicyMode::BindStrict`] is for whole processes only.
    pub fn set_policy(&self, own: OwnHeap, policy: Option<MemPolicy>) -> Result<(), Errno> {
        if let Some(policy) = policy {
            self.check_policy(policy)?;
            self.placing().prepare(policy, self.pages());
        }
        own.ask_for(policy);
        Ok(())
    }

    /// The nodes of a bind policy give only what they have.
    pub(crate) fn bound_from_now_on(&self, policy: MemPolicy) {
        self.placing().prepare(policy, self.pages());
    }

    fn check_policy(&self, policy: MemPolicy) -> Result<(), Errno> {
        self.pages().refresh_allowed();
        let some_allowed = !policy.nodes.and(self.pages().allowed()).is_empty();
        let is_local = policy.mode == PolicyMode::Local;
        let is_sound = policy.is_sound() && policy.mode != PolicyMode::BindStrict;
        if is_sound && (is_local || some_allowed) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Whether the calling thread should take its memory from another node, by its policy and where
    /// it runs at this moment.
    pub fn is_away(&self, own: OwnHeap) -> bool {
        !self.is_one_node()
            && self.home_for(own.policy(), self.machine().current_node()) != own.node()
    }

    /// The node that a thread running on `here` shall get its memory from.
    pub(crate) fn home_for(&self, policy: MemPolicy, here: NodeId) -> NodeId {
        let near = self.zonelist(here);
        let allowed = self.pages().allowed();
        let chosen = if policy.mode == PolicyMode::Local { allowed } else { policy.nodes };
        let wanted = |node: &&NodeId| chosen.contains(**node);
        near.iter().find(wanted).or(near.first()).copied().unwrap_or(here)
    }

    /// The node that the next pages for `heap` come from.
    pub fn next_node(&self, heap: &Heap) -> NodeId {
        let policy = heap.policy();
        if !is_in_turn(policy) {
            return heap.node();
        }
        let turns = heap.turns().unwrap_or(&self.placing().turns);
        turns.next(policy.nodes, self.weights_of(policy)).unwrap_or(heap.node())
    }

    /// The weights that a policy goes by, if it does.
    pub(crate) fn weights_of(&self, policy: MemPolicy) -> Option<&Weights> {
        (policy.mode == PolicyMode::WeightedInterleave).then_some(&self.placing().weights)
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
            heap.turns().unwrap_or(&self.placing().turns).note(node, nr_pages);
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

    /// The nodes in the order in which a request from `node` tries them.
    pub fn zonelist(&self, node: NodeId) -> &[NodeId] {
        self.machine().topology().zonelist(node)
    }

    /// Whether pages of `node` may be used for `heap` when the preferred ones are exhausted.
    pub fn may_use(&self, heap: &Heap, node: NodeId) -> bool {
        let policy = heap.policy();
        match policy.mode {
            PolicyMode::Bind | PolicyMode::BindStrict => policy.nodes.contains(node),
            _ => self.pages().allowed().contains(node),
        }
    }
}

/// Whether nodes take turns.
pub(crate) fn is_in_turn(policy: MemPolicy) -> bool {
    matches!(policy.mode, PolicyMode::Interleave | PolicyMode::WeightedInterleave)
}
