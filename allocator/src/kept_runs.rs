//! Free runs of large blocks, found by their length and by their age.
//!
//! Each stands in two rings: of all runs, and of those of its length; a word of bits says of which lengths
//! there are any. So a request finds the shortest run that will do, and of those the newest, in a few
//! instructions, and what is oldest leaves first.

use core::mem::{MaybeUninit, offset_of};

use zonal_numa::PAGE_SIZE;

use crate::class::MAX_SMALL;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::rings::{Link, Rings};
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::PageWord;

/// The longest run that is kept, in pages.
pub(crate) const MAX_PAGES: usize = u64::BITS as usize;
/// The places are 1 to so many.
pub(crate) const CAPACITY: usize = 127;
/// What is left of a run that is cut has so many pages at least, as the shortest large block.
const LEAST_REST: usize = MAX_SMALL / PAGE_SIZE + 2;
/// A run may be longer than what is asked for by one part in so many.
const FIT_PART: usize = 4;

/// Runs, at most [`CAPACITY`] of them. **All zeros are one without runs.**
///
/// What stands behind the first link is written with the first runs, from the front: where there are none,
/// it needs no memory.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct KeptRuns {
    /// The lengths of which there are any: those of one page first.
    lengths: u64,
    nr_pages: usize,
    nr: u8,
    /// The place that was left last, its `older` link names the one before; `END`: none.
    left: u8,
    /// So many places were ever taken.
    opened: u8,
    /// One ring through all runs.
    by_age: Rings,
    runs: [MaybeUninit<PageRun>; CAPACITY + 1],
    /// One through those of each length; it ends at [`end_of`]. Closed where `lengths` has the bit.
    by_length: Rings,
}

/// Where the ring of all runs begins and ends: no place. Zero, as its links are while it is empty.
const END: u8 = 0;

/// The same for runs of `nr_pages` pages.
#[inline]
const fn end_of(nr_pages: usize) -> u8 {
    (CAPACITY + nr_pages) as u8
}

impl KeptRuns {
    /// Bytes at its front that are written before it has a run.
    pub(crate) const WRITTEN: usize = offset_of!(KeptRuns, by_age) + size_of::<Link>();

    /// Makes one without runs in `place`.
    ///
    /// # Safety
    /// `place` is valid for it.
    pub(crate) unsafe fn init(place: *mut KeptRuns) {
        // SAFETY: each write goes to a field of `*place`, which the caller gives. The others may be
        // anything.
        unsafe {
            (&raw mut (*place).lengths).write(0);
            (&raw mut (*place).nr_pages).write(0);
            (&raw mut (*place).nr).write(0);
            (&raw mut (*place).left).write(END);
            (&raw mut (*place).opened).write(0);
            (*place).by_age.close(END);
        }
    }

    /// How many there are.
    #[inline]
    pub(crate) fn nr(&self) -> usize {
        usize::from(self.nr)
    }

    /// Pages of all of them.
    #[inline]
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Whether there is a place for another one.
    #[inline]
    pub(crate) fn has_place(&self) -> bool {
        self.nr() < CAPACITY
    }

    /// A run of `nr_pages` pages, at most [`MAX_PAGES`], or slightly more.
    #[inline(always)]
    pub(crate) fn take(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        let longer = self.lengths >> (nr_pages - 1);
        let extra = longer.trailing_zeros() as usize;
        if longer == 0 || extra > nr_pages / FIT_PART {
            return None;
        }
        let newest = self.by_length.link(end_of(nr_pages + extra)).older;
        Some(self.remove(pages, newest))
    }

    /// A run that is longer than what would do, so that what is left of it is long enough for others.
    pub(crate) fn take_longer(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        let longer = self.lengths.checked_shr((nr_pages + LEAST_REST - 1) as u32).unwrap_or(0);
        if longer == 0 {
            return None;
        }
        let length = nr_pages + LEAST_REST + longer.trailing_zeros() as usize;
        let newest = self.by_length.link(end_of(length)).older;
        Some(self.remove(pages, newest))
    }

    /// Pages of the run that came last.
    pub(crate) fn newest_pages(&mut self) -> Option<usize> {
        let newest = self.by_age.link(END).older;
        // SAFETY: a place in a ring has a run.
        (newest != END)
            .then(|| unsafe { self.runs[usize::from(newest)].assume_init_ref() }.nr_pages())
    }

    /// The run that came last.
    pub(crate) fn take_newest(&mut self, pages: &Pages) -> Option<PageRun> {
        let newest = self.by_age.link(END).older;
        (newest != END).then(|| self.remove(pages, newest))
    }

    /// The one that came first.
    pub(crate) fn take_oldest(&mut self, pages: &Pages) -> Option<PageRun> {
        let oldest = self.by_age.link(END).newer;
        (oldest != END).then(|| self.remove(pages, oldest))
    }

    /// One that starts from `start` up to `end`.
    pub(crate) fn take_from(&mut self, pages: &Pages, start: Pfn, end: Pfn) -> Option<PageRun> {
        let mut place = self.by_age.link(END).newer;
        while place != END {
            // SAFETY: a place in a ring has a run.
            let run = unsafe { self.runs[usize::from(place)].assume_init_ref() };
            if (start..end).contains(&run.head()) {
                return Some(self.remove(pages, place));
            }
            place = self.by_age.link(place).newer;
        }
        None
    }

    /// Keeps a run of at most [`MAX_PAGES`], for which there is a place.
    #[inline]
    pub(crate) fn keep(&mut self, pages: &Pages, run: PageRun) {
        let nr_pages = run.nr_pages();
        pages.map.word(run.head()).store(PageWord::pcp(nr_pages as u32).raw(), Relaxed);
        let place = self.open_place();
        let (bit, end) = (1 << (nr_pages - 1), end_of(nr_pages));
        self.runs[usize::from(place) % (CAPACITY + 1)].write(run);
        if self.lengths & bit == 0 {
            self.lengths |= bit;
            self.by_length.close(end);
        }
        self.by_length.add(end, place);
        self.by_age.add(END, place);
        self.nr += 1;
        self.nr_pages += nr_pages;
    }

    /// A place without a run: there is one.
    #[inline]
    fn open_place(&mut self) -> u8 {
        let left = self.left;
        if left == END {
            self.opened += 1;
            return self.opened;
        }
        self.left = self.by_age.link(left).older;
        left
    }

    /// Takes the run out that is in `place`.
    #[inline(always)]
    fn remove(&mut self, pages: &Pages, place: u8) -> PageRun {
        // SAFETY: a place in a ring has a run, and now it is in none.
        let run = unsafe { self.runs[usize::from(place) % (CAPACITY + 1)].assume_init_read() };
        let nr_pages = run.nr_pages();
        pages.map.word(run.head()).store(PageWord::NOTHING.raw(), Relaxed);
        if self.by_length.remove(place) {
            self.lengths &= !(1 << (nr_pages - 1));
        }
        self.by_age.remove(place);
        self.by_age.link(place).older = self.left;
        self.left = place;
        self.nr -= 1;
        self.nr_pages -= nr_pages;
        run
    }
}
