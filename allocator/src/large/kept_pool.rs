//! The pool of room for the large runs that threads keep beyond their shares: see [`crate::large::kept_room`].
//!
//! # Synchronisation
//!
//! The pages that are reserved, in one word. Every thread reserves and gives back by a read-modify-write, so
//! the sum never passes the bound and nothing is lost. Relaxed: it carries no data. Model:
//! `loom/kept.rs`. Beside it a count of who found too little: a hint, by which the others see that they have to give
//! back what they do not need just now. Only who heard of the last refusal counts the next one, so that many in a row
//! write there once.

use crate::fault::fault;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicUsize};

/// What all threads together may reserve, in pages.
pub(crate) const MOST: usize = (6 << 20) / zonal_numa::PAGE_SIZE;
/// The same for who finds nearly all it wants.
pub(crate) const MOST_SERVED: usize = (16 << 20) / zonal_numa::PAGE_SIZE;

/// How many pages are reserved, of [`MOST`] or [`MOST_SERVED`].
#[derive(Debug)]
pub(crate) struct KeptPool {
    nr_pages: AtomicUsize,
    refusals: AtomicU32,
}

impl KeptPool {
    pub(crate) fn new() -> KeptPool {
        KeptPool { nr_pages: AtomicUsize::new(0), refusals: AtomicU32::new(0) }
    }

    /// Reserves so many pages for one thread; false, and nothing done, where less is left of `most`.
    pub(crate) fn reserve(&self, nr_pages: usize, most: usize) -> bool {
        let more = |reserved| Some(reserved + nr_pages).filter(|&reserved| reserved <= most);
        if fault("kept_in_two_steps") {
            let sum = more(self.reserved());
            self.nr_pages.fetch_add(sum.map_or(0, |_| nr_pages), Relaxed);
            return sum.is_some();
        }
        self.nr_pages.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Somebody found too little.
    pub(crate) fn note_refusal(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    /// How often somebody found too little.
    pub(crate) fn refusals(&self) -> u32 {
        self.refusals.load(Relaxed)
    }

    /// Takes them back.
    pub(crate) fn unreserve(&self, nr_pages: usize) {
        self.nr_pages.fetch_sub(nr_pages, Relaxed);
    }

    /// Pages reserved now.
    pub(crate) fn reserved(&self) -> usize {
        self.nr_pages.load(Relaxed)
    }

    /// Tells how many are reserved: for a forked child.
    pub(crate) fn set(&self, nr_pages: usize) {
        self.nr_pages.store(nr_pages, Relaxed);
    }
}
