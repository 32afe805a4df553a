//! Who is inside the gate of a heap: its owner on a slow path, or one visitor.
//!
//! | way in                                     | for whom      | where somebody else is inside     | barrier |
//! |--------------------------------------------|---------------|-----------------------------------|---------|
//! | [`Heap::try_enter`]                        | owner         | does not go in                    | light   |
//! | [`Heap::try_enter_unnoted`]                | owner, who    | does not go in                    | light   |
//! |                                            | leaves no use |                                   |         |
//! | [`Heap::enter`]                            | owner         | sleeps until the visitor has left | light   |
//! | [`Heap::enter_with`]                       | owner         | as its [`Patience`] says          | light   |
//! | [`Heap::begin_visit`], then                | visitor       | does not go in; looks for the     | heavy   |
//! | [`Heap::finish_visit`]                     |               | owner to leave so many times      |         |
//! | [`Heap::begin_visit_by_all_means`], then   | fork, of all  | sleeps until another visitor has  | heavy   |
//! | [`Heap::is_settled`], [`Heap::leave_open`] | heaps         | left; looks for the owner         |         |
//! | [`Heap::finish_visit`], [`Heap::reopen`]   | the child of  | nobody is                         | none    |
//! | of the visits that fork began              | that fork     |                                   |         |
//! | [`Heap::visit_dead`]                       | holder of the | does not go in                    | none    |
//! |                                            | pool's lock   |                                   |         |
//!
//! The visitor itself issues the heavy barrier between the two halves of its visits, one for all heaps of a round. An
//! owner that goes in counts as a use of the heap, by which kswapd knows that its thread does not sleep; but for
//! who goes in unnoted, and leaves kswapd nothing to do there, or says so by [`Heap::note_use`].
//!
//! A heap in the pool has no owner. Who visits it there is alone with all of it, bins too, until the visit
//! ends: [`crate::registry::Registry::visit_dead`].

use core::ops::{Deref, DerefMut};

use super::{Heap, Inner};
use crate::gate::Barrier;
use crate::mark::{self, Mark};
use crate::sync::atomic::Ordering::Relaxed;

/// The one inside a heap's gate: the only way to [`Inner`].
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    heap: &'a Heap,
    who: Who,
}

/// Who is inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Owner,
    /// While the owner may be at work on the bins, unless they are closed.
    Visitor,
    /// Of a heap in the pool.
    VisitorOfDead,
}

/// What to do about a heap in which somebody else is at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Wait until it is left, however long that takes: for who asks for all heaps and needs the answer.
    Wait,
    /// Leave it out: for what a call of the program does on its way.
    PassBy,
}

impl<'a> Entered<'a> {
    /// Whether a visitor is inside, and the owner may be at work on the bins meanwhile.
    pub(crate) fn is_visitor(&self) -> bool {
        self.who == Who::Visitor
    }

    /// Whether a visitor is inside and has the bins, too, since they are closed to the owner's hits.
    pub(crate) fn visitor_has_bins(&self) -> bool {
        self.is_visitor() && mark::is_closed(self.heap.mark_word())
    }

    /// Whether the owner came meanwhile, or somebody who has to have the heap.
    pub(crate) fn is_wanted(&self) -> bool {
        self.owner().waits()
    }

    /// Whether somebody sleeps until the visitor leaves.
    pub(crate) fn is_awaited(&self) -> bool {
        self.who != Who::Owner && self.heap.gate.is_awaited()
    }

    /// The owner, to be asked whether it came while the heap is worked on.
    pub(crate) fn owner(&self) -> Owner<'a> {
        match self.who {
            Who::Owner => Owner::IsInside,
            Who::Visitor | Who::VisitorOfDead => Owner::MayCome(self.heap),
        }
    }

    /// The heap, for what is not behind the gate.
    pub(crate) fn heap(&self) -> &'a Heap {
        self.heap
    }
}

/// Where the owner of a heap is in which somebody is at work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// It is at work there itself.
    IsInside,
    /// Outside, as far as it lives. It may come to this heap, or a fork that has to have it.
    MayCome(&'a Heap),
}

impl Owner<'_> {
    /// Whether it, or a fork, came while the visitor was there.
    pub(crate) fn waits(self) -> bool {
        match self {
            Owner::IsInside => false,
            Owner::MayCome(heap) => heap.gate.is_wanted(),
        }
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
        match self.who {
            Who::Owner => self.heap.gate.leave(),
            Who::Visitor | Who::VisitorOfDead => self.heap.leave_open(),
        }
    }
}

impl Heap {
    /// Goes inside the gate, however long a visitor takes to leave: not for what a program does all the time. Owner
    /// only.
    pub(crate) fn enter(&self) -> Entered<'_> {
        if !self.gate.try_enter(self.kind.barrier) {
            self.wait_for_visitor();
        }
        self.note_entry()
    }

    /// Goes inside the gate; if a visitor is there, after it has left or not at all. Owner only.
    pub(crate) fn enter_with(&self, patience: Patience) -> Option<Entered<'_>> {
        match patience {
            Patience::Wait => Some(self.enter()),
            Patience::PassBy => self.try_enter(),
        }
    }

    /// Goes inside after the visitor has left, and counts the time until it did: how long the kernel
    /// then takes to run this thread again is not zonal's.
    #[cold]
    fn wait_for_visitor(&self) {
        if cfg!(zonal_loom) {
            // The heaps of models belong to no instance that could count.
            return self.gate.enter(self.kind.barrier);
        }
        let machine = self.mm.machine();
        let since = machine.now_ns();
        self.gate.enter(self.kind.barrier);
        let left_at = self.left_at.load(Relaxed);
        self.mm.vmstat().note_blocked(left_at.saturating_sub(since));
    }

    /// Goes inside the gate unless a visitor is there. Makes no system call. Owner only.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Entered<'_>> {
        self.gate.try_enter(self.kind.barrier).then(|| self.note_entry())
    }

    /// Goes inside the gate unless a visitor is there, and does not count as a use of the heap. Owner only.
    pub(crate) fn try_enter_unnoted(&self) -> Option<Entered<'_>> {
        self.gate.try_enter(self.kind.barrier).then(|| Entered { heap: self, who: Who::Owner })
    }

    #[inline]
    fn note_entry(&self) -> Entered<'_> {
        self.note_use();
        Entered { heap: self, who: Who::Owner }
    }

    /// First half of a visit, see [`crate::gate`]: claims the gate, unless another visitor has. The caller issues the
    /// heavy barrier for all heaps of its round, then calls [`Heap::finish_visit`].
    pub(crate) fn begin_visit(&self) -> bool {
        self.gate.begin_visit()
    }

    /// The same, and shuts the owner out of its hits, unless one is under way.
    pub(crate) fn begin_visit_closing(&self) -> bool {
        let is_claimed = self.begin_visit();
        if is_claimed {
            self.close_bins();
        }
        is_claimed
    }

    /// First half of a visit for fork, which goes without no heap: claims the gate as soon as no other visitor has.
    pub(crate) fn begin_visit_by_all_means(&self) {
        self.gate.begin_visit_by_all_means();
    }

    /// Between the two halves: closes the bins to the owner's hits, unless one is under way.
    pub(crate) fn close_bins(&self) -> bool {
        self.can_close() && mark::close(self.mark_word())
    }

    /// Whether its bins are such that they can be closed, and its owner has hits.
    pub(crate) fn can_close(&self) -> bool {
        mark::CAN_CLOSE && self.kind.barrier == Barrier::Asymmetric && self.mark() != Mark::ABSENT
    }

    /// Second half of a visit: goes inside, after `patience` looks at an owner that is there; none, and the visit is
    /// over, when it stayed for longer.
    pub(crate) fn finish_visit(&self, patience: u32) -> Option<Entered<'_>> {
        if self.gate.settle(patience) {
            return Some(Entered { heap: self, who: Who::Visitor });
        }
        self.leave_open();
        None
    }

    /// Goes inside a heap in the pool, for the holder of the pool's lock: no owner can be there, so that needs no
    /// barrier. None when another visitor is.
    pub(crate) fn visit_dead(&self) -> Option<Entered<'_>> {
        self.gate.begin_visit().then(|| Entered { heap: self, who: Who::VisitorOfDead })
    }

    /// Second half of a visit for fork: whether the owner is out, after so many looks. The visit goes on in either
    /// case, until [`Heap::leave_open`].
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

    /// A forked child: nobody is inside any more, nor at work beside it.
    pub(crate) fn reopen(&self) {
        self.gate.reinit();
        self.inbox.unmark();
    }

    /// Whether somebody is inside its gate.
    pub fn is_entered(&self) -> bool {
        self.gate.is_inside()
    }

    /// Whether a visitor has or wants it: [`crate::gate::Gate::is_visited`].
    pub(crate) fn is_visited(&self) -> bool {
        self.gate.is_visited()
    }

    /// Whether somebody sleeps until a visitor leaves.
    #[cfg(test)]
    pub(crate) fn is_awaited(&self) -> bool {
        self.gate.is_awaited()
    }

    /// Asks a visitor that did not let the owner in to make haste.
    pub(super) fn hurry(&self) {
        self.gate.hurry();
    }
}
