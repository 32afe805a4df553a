//! Who is inside the gate of a heap: its owner on a slow path, or one visitor.

use core::ops::{Deref, DerefMut};

use super::{Heap, Inner};
use crate::misuse::BadPointer;
use crate::sync::atomic::Ordering::Relaxed;

/// The one inside a heap's gate: the only way to [`Inner`].
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    heap: &'a Heap,
    visitor: bool,
}

impl<'a> Entered<'a> {
    /// Whether the owner may be at work on the bins meanwhile.
    pub(crate) fn is_visitor(&self) -> bool {
        self.visitor
    }

    /// Whether the owner waits for this visitor.
    pub(crate) fn is_wanted(&self) -> bool {
        self.owner().waits()
    }

    /// The owner, to be asked whether it waits while the heap is worked on.
    pub(crate) fn owner(&self) -> Owner<'a> {
        Owner(self.visitor.then_some(self.heap))
    }

    /// The heap, for what is not behind the gate.
    pub(crate) fn heap(&self) -> &'a Heap {
        self.heap
    }
}

/// The owner of a heap that is visited; none of one that is there itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a>(Option<&'a Heap>);

impl Owner<'_> {
    /// Whether it waits for the visitor.
    pub(crate) fn waits(self) -> bool {
        self.0.is_some_and(|heap| heap.gate.is_wanted())
    }
}

impl Deref for Entered<'_> {
    type Target = Inner;
    #[inline]
    fn deref(&self) -> &Inner {
        // SAFETY: the gate lets one in at a time.
        unsafe { &*self.heap.inner.get() }
    }
}

impl DerefMut for Entered<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Inner {
        // SAFETY: the gate lets one in at a time.
        unsafe { &mut *self.heap.inner.get() }
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.visitor {
            self.heap.leave_open();
        } else {
            self.heap.gate.leave();
        }
    }
}

impl Heap {
    /// Owner only: goes inside the gate.
    #[inline]
    pub(crate) fn enter(&self) -> Entered<'_> {
        if !self.gate.try_enter(self.barrier) {
            self.wait_for_visitor();
        }
        self.note_entry()
    }

    /// Goes inside after the visitor has left, and counts the time until it did: how long the kernel
    /// then takes to run this thread again is not zonal's.
    #[cold]
    fn wait_for_visitor(&self) {
        if cfg!(zonal_loom) {
            // The heaps of models belong to no instance that could count.
            return self.gate.enter(self.barrier);
        }
        let machine = self.mm.machine();
        let since = machine.now_ns();
        self.gate.enter(self.barrier);
        let left_at = self.left_at.load(Relaxed);
        self.mm.vmstat().note_blocked(left_at.saturating_sub(since));
    }

    /// Owner only: goes inside the gate unless a visitor is there. Makes no system call.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Entered<'_>> {
        self.gate.try_enter(self.barrier).then(|| self.note_entry())
    }

    /// The same for who leaves the keeper nothing to do there, or says so by [`Heap::note_use`].
    pub(crate) fn try_look_in(&self) -> Option<Entered<'_>> {
        self.gate.try_enter(self.barrier).then(|| Entered { heap: self, visitor: false })
    }

    #[inline]
    fn note_entry(&self) -> Entered<'_> {
        self.note_use();
        Entered { heap: self, visitor: false }
    }

    /// Something happens to the heap.
    #[inline]
    pub(crate) fn note_use(&self) {
        // Relaxed: one writer; the keeper only compares for change.
        self.epoch.store(self.epoch.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// First half of a visit, see [`crate::gate`]. The caller issues the heavy barrier for all heaps of
    /// its round, then calls [`Heap::finish_visit`].
    pub(crate) fn begin_visit(&self) -> bool {
        self.gate.begin_visit()
    }

    /// Second half: the heap, or none when its owner stayed inside for too long.
    pub(crate) fn finish_visit(&self, patience: u32) -> Option<Entered<'_>> {
        if self.gate.settle(patience) {
            return Some(Entered { heap: self, visitor: true });
        }
        self.leave_open();
        None
    }

    /// Second half of a visit for fork: whether the owner is out. The visit goes on.
    pub(crate) fn is_settled(&self, patience: u32) -> bool {
        self.gate.settle(patience)
    }

    /// Ends a visit.
    pub(crate) fn leave_open(&self) {
        // The heaps of models belong to no instance with a clock.
        if !cfg!(zonal_loom) && self.gate.is_wanted() {
            // Relaxed: the end of the visit carries it.
            self.left_at.store(self.mm.machine().now_ns(), Relaxed);
        }
        self.gate.end_visit();
    }

    /// A forked child: nobody is inside any more.
    pub(crate) fn reopen_gate(&self) {
        self.gate.reinit();
    }

    /// Whether somebody is inside its gate.
    pub fn is_entered(&self) -> bool {
        self.gate.is_inside()
    }

    /// The misuse that a slow path came upon, once.
    pub fn take_fault(&self) -> Option<BadPointer> {
        self.enter().fault.take()
    }
}
