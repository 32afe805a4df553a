//! Where the memory of a heap comes from: the NUMA policy of its owner.

use core::ptr::NonNull;

use zonal_numa::MemPolicy;

use super::Heap;
use crate::policy::is_in_turn;
use crate::policy::turns::Turns;

impl Heap {
    /// The owner's memory policy, as last read.
    pub(crate) fn policy(&self) -> MemPolicy {
        self.policy.get()
    }

    /// A thread takes the heap that asked for `asked` and so has that policy.
    pub(crate) fn take_over(&self, policy: MemPolicy, asked: Option<MemPolicy>) {
        self.policy.set(policy);
        self.strays.set(0);
        self.asked.set(asked);
        self.prepare_turns();
    }

    /// The owner of `heap` borrows this one for a request: it goes by the same policy and the same turns.
    /// Gives the turns that it had, for [`Heap::take_back`].
    pub(crate) fn lend_to(&self, heap: &Heap) -> *const Turns {
        self.policy.set(heap.policy());
        self.asked.set(heap.asked_policy());
        self.turns.replace(heap.turns.get())
    }

    /// It has its own turns again.
    pub(crate) fn take_back(&self, turns: *const Turns) {
        self.turns.set(turns);
    }

    /// The owner asks for a policy, or for none of its own. Owner only.
    pub(crate) fn ask_for(&self, asked: Option<MemPolicy>) {
        self.asked.set(asked);
        self.prepare_turns();
        self.read_policy();
    }

    /// The policy that the owner asked for by itself. Owner only.
    pub fn asked_policy(&self) -> Option<MemPolicy> {
        self.asked.get()
    }

    fn prepare_turns(&self) {
        if self.turns.get().is_null() && self.asked.get().is_some_and(is_in_turn) {
            let memory = self.mm.meta().alloc(self.mm.machine(), size_of::<Turns>());
            // Without memory it goes by the turns of the process.
            let Some(place) = memory.map(NonNull::cast::<Turns>) else { return };
            // SAFETY: a fresh block of that size, aligned to it, for as long as the heap.
            unsafe { place.write(Turns::new()) };
            self.turns.set(place.as_ptr());
        }
    }

    /// Whose turn it is, where the owner has turns of its own. Owner only.
    pub(crate) fn turns(&self) -> Option<&Turns> {
        self.asked.get()?;
        // SAFETY: null or made by `prepare_turns`, for ever.
        unsafe { self.turns.get().as_ref() }
    }

    /// Whether all its memory is of its node.
    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned.get()
    }

    /// From here on all its memory is of its node. Only for who made it, before others see it.
    pub(crate) fn pin(&self) {
        self.is_pinned.set(true);
    }

    /// Reads the owner's memory policy again. Owner only.
    pub(crate) fn read_policy(&self) {
        if !self.mm.is_one_node() {
            self.policy.set(self.mm.policy_now(self.asked.get()));
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
        if self.is_pinned() || self.asked.get().or(mm.placing().policy).is_some() {
            return false;
        }
        self.read_policy();
        self.policy() == MemPolicy::LOCAL && mm.machine().current_node() == self.node
    }

    /// Whether the owner's memory should come from another node: at the second slow path in a row
    /// that finds it there. Owner only.
    pub(crate) fn is_astray(&self) -> bool {
        let here = self.mm.home_for(self.policy(), self.mm.machine().current_node());
        let strays = if here == self.node { 0 } else { self.strays.get() + 1 };
        self.strays.set(strays % 2);
        strays == 2
    }
}
