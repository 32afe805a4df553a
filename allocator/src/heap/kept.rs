//! The large runs of a heap: whose they are.
//!
//! | who                                        | has them                                                |
//! |--------------------------------------------|---------------------------------------------------------|
//! | the owner in a hit, which marked the heap  | where nobody has claimed the gate, without going in     |
//! | the owner inside the gate                  | yes                                                     |
//! | a visitor                                  | where no hit is under way, or there are no such hits    |
//! | whoever visits a heap of the pool          | yes                                                     |
//!
//! # Synchronisation
//!
//! A hit of a large block marks the heap, and then loads `claim` of the gate; a visitor stores `claim`, runs its heavy
//! barrier, and then loads the mark. So it is as with the two words of the gate: either the mark came before the
//! barrier, and the visitor sees it, or the hit sees the claim and leaves the runs alone ([`Heap::is_visited`]). A
//! call that is not a hit, but slow, has set a bit in the mark by then and goes to the runs inside the gate only. So
//! no bins need be closed for them, and what a thread keeps is within reach also while it is in a call of some
//! length.
//!
//! | word    | writers                    | readers                 | carries                                     |
//! |---------|----------------------------|-------------------------|---------------------------------------------|
//! | mark    | owner; Release as it ends  | visitor: Acquire        | what the hit did, once it is over           |
//! | `claim` | visitor; Release as it ends| owner in a hit: Acquire | what the visitor did, once it has left      |
//!
//! Where the owner's side needs a fence, there are no such hits ([`Heap::has_large_hits`]). Model: `loom/runs.rs`.
//!
//! A fork claims all gates, so that no hit begins at the runs while the process is copied. One that was under way is
//! in the child as it was left at some instruction, which the runs bear (`[K1]` in [`crate::large::kept_runs`]): they
//! are that heap's as before, but for the one that the hit was about, which is lost as what else its thread had in
//! use.

use super::{Entered, Heap};
use crate::gate;
use crate::large::cache::{Large, Runs};
use crate::mark;
use crate::sync::spin;

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
}

impl Entered<'_> {
    /// The runs, and what decides how many stay, to the owner, and to who visits a heap of the pool.
    pub(crate) fn large(&mut self) -> Large<'_> {
        debug_assert!(!self.is_visitor());
        // SAFETY: whoever is inside has them, by the table above.
        unsafe { self.large_unlooked() }
    }

    /// The same to anybody: none where a visitor finds the owner in a hit, and it stays there.
    pub(crate) fn try_large(&mut self) -> Option<Large<'_>> {
        let is_free = !self.is_visitor()
            || !self.heap().has_large_hits()
            || (0..gate::SPINS).any(|_| {
                let is_over = !mark::load_settled(self.heap().mark_word()).is_in_hit();
                if !is_over {
                    spin();
                }
                is_over
            });
        // SAFETY: by the table above; a hit that begins from now on sees the claim.
        is_free.then(|| unsafe { self.large_unlooked() })
    }

    /// # Safety
    /// Whoever is inside has them until this is over.
    unsafe fn large_unlooked(&mut self) -> Large<'_> {
        let runs = self.heap().kept_runs();
        // SAFETY: the caller's promise.
        Large { cache: &mut self.large, runs: unsafe { &mut *runs } }
    }
}
