//! The part of a heap that hits touch: its bins, the way to page words, and the mark.
//!
//! | file       | what of it                                                              |
//! |------------|-------------------------------------------------------------------------|
//! | `bins.rs`  | objects taken and put back: the work of a hit                           |
//! | `pages.rs` | what the word of an object's page tells without any lock                |
//! | `marks.rs` | the mark as the crate above sees it, whose assembly marks and ends hits |
//!
//! A heap whose hits shall all miss is one with other contents here, so that hits need no test for it: the static
//! empty heap of threads that have none, and the *detour* of one that has.

mod bins;
mod marks;
mod pages;

use core::ptr;

use crate::bin::Bin;
use crate::class::NR_STEPS;
use crate::mark::Mark;
use crate::sync::atomic::AtomicU32;
use crate::sync::program::AtomicU64 as MarkWord;

pub use bins::{Found, Push};

/// The part of a heap that hits touch. First field of `Heap`.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct HeapHot {
    /// Start of the window that holds all sections.
    pub(crate) base: usize,
    /// Bytes of the window that have page words, as this heap last read it.
    pub(crate) covered: usize,
    /// Page words, indexed by page from `base`.
    pub(crate) words: *const AtomicU32,
    /// Where the owner's stack stood when it took the heap, while a call has it. Written by assembly of the
    /// caller's. From it the calls of signal handlers know that they must not take the heap, and whether the
    /// call that took it still runs. A visitor closes the bins by it: [`crate::mark`].
    mark: MarkWord,
    /// By step, so that there is one for any page word: those of no class take nothing.
    pub(crate) bins: [Bin; NR_STEPS],
}

// SAFETY: `mark` and the page words are atomics. `base`, `covered` and `words` are the owner's alone, whoever visits
// the heap. The bins are the owner's in a call that has marked the heap, or where the mark is `ABSENT` (it borrows
// the heap); else a visitor's who is inside the gate and finds them closed, or of one inside a heap of the pool.
// `Heap::bin_len` alone reads a `top` beside them, for figures: an estimate, by which nothing is reached. Of the
// static empty heap nobody changes anything but the mark.
unsafe impl Sync for HeapHot {}

impl HeapHot {
    /// A heap on which every operation misses. A thread's state starts with the address of a static one, so that
    /// hits need no null check.
    #[expect(clippy::declare_interior_mutable_const, reason = "to make a static")]
    pub const EMPTY: HeapHot = HeapHot {
        base: 0,
        covered: 0,
        words: ptr::null(),
        mark: MarkWord::new(Mark::ABSENT.bits()),
        bins: [Bin::EMPTY; NR_STEPS],
    };

    /// Where the window of a detour begins, and no other.
    const NOWHERE: usize = 1;

    /// Writes one like [`HeapHot::EMPTY`], bin by bin: a copy of that would be 2 KiB that the dynamic linker
    /// relocates in each process.
    ///
    /// # Safety
    /// `this` is valid for a `HeapHot`.
    pub(crate) unsafe fn init(this: *mut HeapHot) {
        // SAFETY: the caller's promise.
        unsafe {
            (&raw mut (*this).base).write(0);
            (&raw mut (*this).covered).write(0);
            (&raw mut (*this).words).write(ptr::null());
            (&raw mut (*this).mark).write(MarkWord::new(Mark::ABSENT.bits()));
            for bin in 0..NR_STEPS {
                (&raw mut (*this).bins[bin]).write(Bin::EMPTY);
            }
        }
    }

    /// The same for a thread that has a heap and whose hits shall miss. See [`crate::Heap::detour`].
    ///
    /// # Safety
    /// As for [`HeapHot::init`].
    pub(crate) unsafe fn init_detour(this: *mut HeapHot) {
        // SAFETY: the caller's promise.
        unsafe {
            HeapHot::init(this);
            (*this).base = HeapHot::NOWHERE;
            (*this).mark = MarkWord::new(Mark::FREE.bits());
        }
    }

    /// Whether it may hit: it is neither the empty heap nor a detour, and knows of pages.
    ///
    /// # Safety
    /// `this` points to a `HeapHot`, of the calling thread's or empty.
    #[inline(always)]
    pub unsafe fn knows_pages(this: *mut HeapHot) -> bool {
        // SAFETY: the caller's promise.
        unsafe { (*this).base > HeapHot::NOWHERE }
    }

    /// Whether this was made by [`HeapHot::init_detour`].
    ///
    /// # Safety
    /// `this` points to a `HeapHot`.
    #[inline]
    pub(crate) unsafe fn is_detour(this: *mut HeapHot) -> bool {
        // SAFETY: the caller's promise; that does not change.
        unsafe { (*this).base == HeapHot::NOWHERE }
    }
}
