//! The large runs of a heap: whose they are.
//!
//! | who                                        | has them                                                |
//! |--------------------------------------------|---------------------------------------------------------|
//! | the owner in a hit, which marked the heap  | yes, without the gate                                   |
//! | the owner inside the gate                  | once the bins are open: [`Entered::large`] opens them   |
//! | a visitor                                  | where the bins are closed, or there are no such hits    |
//! | whoever visits a heap of the pool          | yes                                                     |
//!
//! So it is as with the bins ([`crate::mark`]), but that where no bins can be closed the gate is enough, since only
//! who is inside goes there ([`Heap::has_large_hits`]). A fork closes all bins, so that the child finds the runs of
//! other threads whole, or else knows that it does not.

use super::{Entered, Heap};
use crate::large::cache::{Large, Runs};
use crate::mark::State;

impl Heap {
    /// The runs, for hits, and for who has them.
    #[inline(always)]
    pub(crate) fn kept_runs(&self) -> *mut Runs {
        self.kept.get()
    }

    /// Pages of them. Owner only; others get an estimate.
    pub(crate) fn kept_pages(&self) -> usize {
        // SAFETY: a field of the heap.
        unsafe { Runs::peek_pages(self.kept_runs()) }
    }

    /// In a forked child: forgets the runs of a thread that vanished in the middle of a hit, which may have been at work
    /// on them. They stay as they are, and nobody's.
    pub(crate) fn forget_kept_in_hit(&self) {
        if !self.has_large_hits() {
            return;
        }
        let mark = self.mark();
        let is_in_call = matches!(mark.state(), State::Call { .. } | State::Sum);
        if is_in_call && !mark.is_slow() && !mark.is_closed() {
            // SAFETY: the child is alone with it.
            unsafe { Runs::init(self.kept_runs()) };
        }
    }
}

impl Entered<'_> {
    /// Whether [`Entered::large`] may be asked for.
    pub(crate) fn has_large(&self) -> bool {
        !self.is_visitor() || !self.heap().has_large_hits() || self.visitor_has_bins()
    }

    /// The runs, and what decides how many stay.
    pub(crate) fn large(&mut self) -> Large<'_> {
        debug_assert!(self.has_large());
        if self.heap().has_large_hits() && !self.is_visitor() {
            self.open_bins();
        }
        let runs = self.heap().kept_runs();
        // SAFETY: whoever is inside has them, by the table above, and nobody has hits until this is over: the owner
        // itself is here, or the bins are closed.
        Large { cache: &mut self.large, runs: unsafe { &mut *runs } }
    }
}
