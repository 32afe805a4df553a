//! How much of what large blocks hold is used: whether the next ones get huge pages.
//!
//! A huge page is cleared whole with its first touch and is resident whole from then on. A program that
//! writes all of its large blocks gains by it; one that touches a page here and there pays for 512 each
//! time. No request tells. So some pages of what was freed are looked at: one that holds nothing but
//! zeros was most likely never touched. Large blocks get small pages at first, huge ones once most of what
//! was looked at was used, and small ones again once half of it was not. Not at what hits leave with their
//! thread: that takes no new runs.
//!
//! A program may have forbidden access to a live block, or to one that it frees, so:
//!
//! * A run of a zone is looked at when it is freed, as the next owner is to write there in any case.
//! * A mapping, which would go back to the system as it is, is looked at when it is handed out again, and
//!   without a lock: a page may be brought in by a thread of the program, which allocates (`userfaultfd`).
//! * A forked child looks at nothing that it may have inherited, as that may be missing in it
//!   (`MADV_DONTFORK`): at no runs, and only at mappings of its own.
//!
//! The kernel, which knows about live blocks, too (`mincore`), is not asked in requests and frees, since
//! a seccomp filter may kill who asks. So what a program never frees stays in small pages.
//!
//! Nothing is looked at where the answer is of no use, or zeros are zonal's own (level 2): there large blocks
//! count as dense.
//!
//! # Synchronisation
//!
//! None: the words stand each for itself and are an estimate. A look that is lost beside another one is
//! one look less.

use core::ptr;

use zonal_numa::PAGE_SIZE;

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};

/// The share is counted in parts of it.
const ALL: u32 = 1 << 16;
/// Each look makes one part in so many of the share.
const WEIGHT: u32 = 8;
/// Dense from here on: four pages that were used make the first block that,
const DENSE: u32 = ALL / 10 * 7;
/// until it is less than this. It begins there.
const SPARSE: u32 = ALL / 2;
/// A block is looked at for so many pages of all that is seen,
const PERIOD: usize = 1024;
/// at so many pages of it, if it has them.
const LOOKS: usize = 4;

/// What was found in the large blocks of the process.
#[derive(Debug)]
pub(crate) struct Density {
    /// The share of pages that were used.
    share: AtomicU32,
    is_dense: AtomicBool,
    learns: AtomicBool,
    /// Whether what lies in sections is the process's own.
    owns_runs: AtomicBool,
    /// Pages to be seen until the next look.
    left: AtomicU32,
}

impl Density {
    pub(crate) fn new(learns: bool) -> Density {
        Density {
            share: AtomicU32::new(SPARSE),
            is_dense: AtomicBool::new(!learns),
            learns: AtomicBool::new(learns),
            owns_runs: AtomicBool::new(true),
            left: AtomicU32::new(0),
        }
    }

    /// In a forked child.
    pub(crate) fn after_fork(&self) {
        self.owns_runs.store(false, Relaxed);
    }

    /// Whether anything is looked at.
    pub(crate) fn learns(&self) -> bool {
        self.learns.load(Relaxed)
    }

    /// Whether large blocks are better off with huge pages.
    #[inline]
    pub(crate) fn is_dense(&self) -> bool {
        self.is_dense.load(Relaxed)
    }

    /// Looks at `nr_pages` pages that a block had which was freed, now and then.
    ///
    /// # Safety
    /// The pages at `start` are mapped for the caller, and nobody else's.
    #[inline]
    pub(crate) unsafe fn note_freed(&self, start: *const u8, nr_pages: usize) {
        if !self.learns() {
            return;
        }
        let left = self.left.load(Relaxed) as usize;
        if nr_pages < left {
            self.left.store((left - nr_pages) as u32, Relaxed);
            return;
        }
        self.left.store(PERIOD as u32, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.look(start, nr_pages) };
    }

    /// The same for a run of a zone that was freed just now.
    ///
    /// # Safety
    /// As for [`Density::note_freed`].
    #[inline]
    pub(crate) unsafe fn note_freed_run(&self, start: *const u8, nr_pages: usize) {
        if self.owns_runs.load(Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { self.note_freed(start, nr_pages) };
        }
    }

    /// # Safety
    /// As for [`Density::note_freed`].
    #[cold]
    #[inline(never)]
    unsafe fn look(&self, start: *const u8, nr_pages: usize) {
        let part = nr_pages / LOOKS;
        if part == 0 {
            return;
        }
        for i in 0..LOOKS {
            // Anywhere in its part: what is touched may have a pattern.
            let page = i * part + mix(start.addr() / PAGE_SIZE + i) % part;
            // SAFETY: one of the caller's pages.
            let is_used = unsafe { is_used(start.add(page * PAGE_SIZE)) };
            self.note(is_used);
        }
    }

    fn note(&self, is_used: bool) {
        let share = self.share.load(Relaxed);
        let share = share - share / WEIGHT + if is_used { ALL / WEIGHT } else { 0 };
        self.share.store(share, Relaxed);
        let was_dense = self.is_dense();
        let is_dense = share >= if was_dense { SPARSE } else { DENSE };
        if is_dense != was_dense {
            self.is_dense.store(is_dense, Relaxed);
        }
    }
}

/// Whether anything but zeros is seen in the page, at a word of each cache line. Most pages tell by the
/// first.
///
/// # Safety
/// It can be read, and is nobody else's.
unsafe fn is_used(page: *const u8) -> bool {
    const WORDS: usize = 64 / size_of::<u64>();
    let words = page.cast::<u64>();
    (0..PAGE_SIZE / 64).any(|line| {
        // SAFETY: inside the page, whose start is aligned. Volatile, since whoever had the block may still
        // write to it, by mistake.
        unsafe { ptr::read_volatile(words.add(line * WORDS + line % WORDS)) != 0 }
    })
}

/// Spreads the bits of a number: the multiplier of Fibonacci hashing.
fn mix(n: usize) -> usize {
    ((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}
