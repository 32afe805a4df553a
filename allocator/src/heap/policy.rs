//! Where the memory of a heap comes from: the NUMA policy of its owner.

use core::ptr::NonNull;

use zonal_numa::MemPolicy;

use super::Heap;
use crate::policy::is_in_turn;
use crate::policy::turns::Turns;

impl Heap {
    /// The owner's memory policy, as last read.
    pub(crate) fn policy(&self) -> MemPolicy {
        self.owner.policy.get()
    }

    /// A thread takes the heap that asked for `asked` and so has that policy.
    pub(crate) fn adopt_policy(&self, policy: MemPolicy, asked: Option<MemPolicy>) {
        self.owner.policy.set(policy);
        self.owner.strays.set(0);
        self.owner.asked.set(asked);
        self.prepare_turns();
    }

    /// The owner of `heap` borrows this one for a request: it goes by the same policy and the same turns.
    /// Gives the turns that it had, for [`Heap::end_lending`].
    pub(crate) fn lend_to(&self, heap: &Heap) -> *const Turns {
        self.owner.policy.set(heap.policy());
        self.owner.asked.set(heap.asked_policy());
        self.owner.turns.replace(heap.owner.turns.get())
    }

    /// The heap has its own turns again, which [`Heap::lend_to`] gave.
    pub(crate) fn end_lending(&self, turns: *const Turns) {
        self.owner.turns.set(turns);
    }

    /// The owner asks for a policy, or for none of its own. Owner only.
    pub(crate) fn ask_for(&self, asked: Option<MemPolicy>) {
        self.owner.asked.set(asked);
        self.prepare_turns();
        self.read_policy();
    }

    /// The policy that the owner asked for by itself. Owner only.
    pub fn asked_policy(&self) -> Option<MemPolicy> {
        self.owner.asked.get()
    }

    fn prepare_turns(&self) {
        if self.owner.turns.get().is_null() && self.owner.asked.get().is_some_and(is_in_turn) {
            let memory = self.mm.meta().alloc(self.mm.machine(), size_of::<Turns>());
            // Without memory it goes by the turns of the process.
            let Some(place) = memory.map(NonNull::cast::<Turns>) else { return };
            // SAFETY: a fresh block of that size, aligned to it, for as long as the heap.
            unsafe { place.write(Turns::new()) };
            self.owner.turns.set(place.as_ptr());
        }
    }

    /// Whose turn it is, where the owner has turns of its own. Owner only.
    pub(crate) fn turns(&self) -> Option<&Turns> {
        self.owner.asked.get()?;
        // SAFETY: null or made by `prepare_turns`, for ever.
        unsafe { self.owner.turns.get().as_ref() }
    }

    /// Whether all its memory is of its node.
    pub(crate) fn is_pinned(&self) -> bool {
        self.kind.is_pinned
    }

    /// Reads the owner's memory policy again. Owner only.
    pub(crate) fn read_policy(&self) {
        if !self.mm.is_one_node() {
            self.owner.policy.set(self.mm.policy_now(self.owner.asked.get()));
        }
    }

    /// Whether memory that the kernel places as it likes, with the first touch by the owner, is where
    /// the owner's shall be. Owner only.
    pub(crate) fn is_placed_by_touch(&self) -> bool {
        let mm = self.mm;
        if mm.is_one_node() {
            return true;
        }
        // A policy of zonal's is not the kernel's.
        if self.is_pinned() || self.owner.asked.get().or(mm.placing().policy).is_some() {
            return false;
        }
        self.read_policy();
        self.policy() == MemPolicy::LOCAL && mm.machine().current_node() == self.kind.node
    }

    /// Whether the owner's memory should come from another node: at the second slow path in a row
    /// that finds it there. Owner only.
    pub(crate) fn is_astray(&self) -> bool {
        let here = self.mm.home_for(self.policy(), self.mm.machine().current_node());
        let strays = if here == self.kind.node { 0 } else { self.owner.strays.get() + 1 };
        self.owner.strays.set(strays % 2);
        strays == 2
    }
}
