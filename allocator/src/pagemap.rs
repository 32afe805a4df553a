//! The page map: from any address to its metadata, and back.
//!
//! ```text
//!    <-- grows                grows -->        base
//!   ...[    chunks][words      ]...............|[section][section][hole][section]..........|
//!       4288 B a   ^ 4 B a page                |<--- covered ---------------------->|      |
//!       pageblock  pivot                       |<----------------- span -------------------|
//! ```
//!
//! All sections lie in one window of address space, which is *placed, not reserved*: sections and
//! the used parts of the arrays are mapped one by one at addresses that follow from the base. A
//! page is named by its distance from the base, so that every lookup is one subtraction, one
//! compare and one load. The two arrays grow away from one address, the pivot, so that a small
//! process has one mapping for both and few page tables. `covered` tells how far they are mapped;
//! holes that other mappings tore into the window are covered by zero words, which mean "not
//! ours".
//!
//! # Synchronisation
//!
//! | word           | writers                  | carries                 | pairs                 |
//! |----------------|--------------------------|-------------------------|-----------------------|
//! | `covered`      | growth, window lock      | arrays mapped, bases    | Acquire in `pfn_of`   |
//! | `base`, arrays | placement, window lock   | nothing                 | read after `covered`  |
//! | page words     | owner of the page or of the zone lock | nothing    | -                     |
//! | cold words     | the same                 | nothing                 | -                     |
//!
//! Page words are Relaxed: whoever may rely on one got the page from its writer.

use core::mem::offset_of;
use core::ptr::{self, NonNull};

use zonal_numa::{PAGE_SHIFT, PAGE_SIZE};

use crate::chunk::{Chunk, Cold};
use crate::fault::{fault, weakened_by};
use crate::order::{Order, PAGEBLOCK_BYTES, PAGEBLOCK_PAGES};
use crate::pfn::Pfn;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};
use crate::word::{Kind, PageWord};

/// The arrays beside the window. All zeros is the state before the window is placed.
#[derive(Debug)]
pub(crate) struct PageMap {
    covered: AtomicUsize,
    base: AtomicUsize,
    words: AtomicPtr<AtomicU32>,
    /// One past chunk 0: they grow downwards.
    chunks: AtomicPtr<Chunk>,
}

impl PageMap {
    /// No window yet: covers nothing.
    pub(crate) fn unplaced() -> PageMap {
        PageMap {
            covered: AtomicUsize::new(0),
            base: AtomicUsize::new(0),
            words: AtomicPtr::new(ptr::null_mut()),
            chunks: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Says where the window and its arrays lie. Covers nothing yet.
    pub(crate) fn place(&self, layout: &Layout) {
        debug_assert_eq!(self.covered(), 0);
        self.base.store(layout.base, Relaxed);
        self.words.store(ptr::with_exposed_provenance_mut(layout.pivot), Relaxed);
        let chunks = layout.pivot - Layout::CHUNK_PAD;
        self.chunks.store(ptr::with_exposed_provenance_mut(chunks), Relaxed);
    }

    /// Extends the covered part.
    ///
    /// # Safety
    /// All arrays are mapped, readable and writable, for the first `covered` bytes of the window,
    /// and stay so; what is new of them is zero or valid.
    pub(crate) unsafe fn cover(&self, covered: usize) {
        // ORDERING: Release, pairs with Acquire in `pfn_of`: the bases are set and the arrays
        // are mapped.
        self.covered.store(covered, weakened_by("pagemap_cover_relaxed", Release));
    }

    /// First address of the window; 0 while there is none.
    #[inline]
    pub(crate) fn base(&self) -> usize {
        self.base.load(Relaxed)
    }

    /// How many bytes from the base on have metadata.
    #[inline]
    pub(crate) fn covered(&self) -> usize {
        // ORDERING: Acquire, as in `pfn_of`: the bases that are read next belong to it.
        self.covered.load(Acquire)
    }

    /// The array of page words, for callers that keep their own copy of the bases.
    #[inline]
    pub(crate) fn words(&self) -> *const AtomicU32 {
        self.words.load(Relaxed)
    }

    /// The page that holds `addr`, if it lies in the covered part of the window.
    #[inline]
    pub(crate) fn pfn_of(&self, addr: usize) -> Option<Pfn> {
        // ORDERING: Acquire, pairs with Release in `cover`.
        let covered = self.covered.load(Acquire);
        let offset = addr.wrapping_sub(self.base.load(Relaxed));
        (offset < covered).then_some(Pfn::new((offset >> PAGE_SHIFT) as u32))
    }

    /// The first byte of a page.
    #[inline]
    pub(crate) fn addr_of(&self, pfn: Pfn) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.base() + pfn.index() * PAGE_SIZE)
    }

    /// Whether the page has metadata.
    #[inline]
    pub(crate) fn covers(&self, pfn: Pfn) -> bool {
        pfn.index() < self.covered() >> PAGE_SHIFT
    }

    /// The page word, in place.
    #[inline]
    pub(crate) fn word(&self, pfn: Pfn) -> &AtomicU32 {
        debug_assert!(self.covers(pfn));
        // SAFETY: a `Pfn` comes from `pfn_of` or from the zone that owns the page, so it is
        // covered and the array is mapped there (`cover`).
        unsafe { &*self.words.load(Relaxed).add(pfn.index()) }
    }

    /// A copy of the page word.
    #[inline]
    pub(crate) fn word_at(&self, pfn: Pfn) -> PageWord {
        PageWord::from_raw(self.word(pfn).load(Relaxed))
    }

    /// Writes the page word. The caller owns the page or holds the zone lock.
    #[inline]
    pub(crate) fn set_word(&self, pfn: Pfn, word: PageWord) {
        self.word(pfn).store(word.raw(), Relaxed);
    }

    /// Writes the same word to each page of a run.
    #[inline]
    pub(crate) fn set_words(&self, head: Pfn, nr_pages: usize, word: PageWord) {
        for i in 0..nr_pages {
            self.set_word(head.add(i), word);
        }
    }

    /// Whether the caller is the one to change that page's word: of several that found the same one there, one is.
    #[inline(always)]
    pub(crate) fn claim(&self, pfn: Pfn, found: PageWord, becomes: PageWord) -> bool {
        let place = self.word(pfn);
        if fault("pagemap_claim_in_two_steps") {
            let is_found = place.load(Relaxed) == found.raw();
            place.store(becomes.raw(), Relaxed);
            return is_found;
        }
        // Relaxed: what the pages hold passes on with the run, under a lock, or stays with the thread.
        place.compare_exchange(found.raw(), becomes.raw(), Relaxed, Relaxed).is_ok()
    }

    /// First page and length of the live large run that holds the page. For the report of a misuse: it
    /// looks back as far as anything can begin, without a lock.
    pub(crate) fn live_run_at(&self, pfn: Pfn) -> Option<(Pfn, usize)> {
        // A run has a word on its head only. One of more pages than the largest block is a row of
        // pageblocks and begins where one does.
        let first = pfn.index().saturating_sub(Order::MAX.nr_pages() - 1);
        let rows = (0..=first / PAGEBLOCK_PAGES).rev().map(|block| block * PAGEBLOCK_PAGES);
        let places = (first..=pfn.index()).rev().chain(rows).map(|i| Pfn::new(i as u32));
        let (head, word) =
            places.map(|head| (head, self.word_at(head))).find(|(_, word)| !word.is_nothing())?;
        let nr_pages = word.large_pages();
        let is_in = word.kind() == Kind::Large && pfn.index() - head.index() < nr_pages;
        is_in.then_some((head, nr_pages))
    }

    /// The cold words of a page.
    #[inline]
    pub(crate) fn cold(&self, pfn: Pfn) -> &Cold {
        &self.chunk(pfn).cold[pfn.in_pageblock()]
    }

    /// The cold words of a whole run, for an owner that keeps a record of its own in them.
    #[inline]
    pub(crate) fn cold_area(&self, head: Pfn) -> NonNull<u8> {
        debug_assert!(self.covers(head));
        let place = self.cold_places().at(head.index() << PAGE_SHIFT, Order::ZERO);
        // SAFETY: as in `word`.
        unsafe { NonNull::new_unchecked(place) }
    }

    /// Where cold words lie, for who looks up many.
    #[inline(always)]
    pub(crate) fn cold_places(&self) -> ColdPlaces {
        let first = self.chunks.load(Relaxed).wrapping_sub(1);
        ColdPlaces { first: first.wrapping_byte_add(offset_of!(Chunk, cold)).cast() }
    }

    /// The chunk of the pageblock that holds the page.
    #[inline]
    pub(crate) fn chunk(&self, pfn: Pfn) -> &Chunk {
        debug_assert!(self.covers(pfn));
        // SAFETY: as in `word`.
        unsafe { &*self.chunks.load(Relaxed).sub(pfn.pageblock() + 1) }
    }

    /// The chunks that `nr_pages` pages from `pfn` touch, each with the part `[lo, hi)` of it.
    pub(crate) fn pieces(
        &self,
        pfn: Pfn,
        nr_pages: usize,
    ) -> impl Iterator<Item = (&Chunk, usize, usize)> {
        let mut done = 0;
        core::iter::from_fn(move || {
            if done == nr_pages {
                return None;
            }
            let at = pfn.add(done);
            let lo = at.in_pageblock();
            let len = (PAGEBLOCK_PAGES - lo).min(nr_pages - done);
            done += len;
            Some((self.chunk(at), lo, lo + len))
        })
    }
}

/// Where the cold words of pages lie: those of page 0, from which others are found by arithmetic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColdPlaces {
    first: *mut u8,
}

impl ColdPlaces {
    /// Those of the first page of the block of `order` in which the byte lies that is so many behind the base. Raw all
    /// the way, so that the pointer reaches the words of the pages that follow.
    #[inline(always)]
    pub(crate) fn at(self, offset: usize, order: Order) -> *mut u8 {
        let in_block = (offset >> PAGE_SHIFT) & (PAGEBLOCK_PAGES - order.nr_pages());
        self.first
            .wrapping_byte_sub(offset / Layout::BLOCK * size_of::<Chunk>())
            .wrapping_byte_add(in_block * size_of::<Cold>())
    }
}

/// Addresses of a window and its arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) base: usize,
    pub(crate) span: usize,
    /// Where chunks end and words begin.
    pub(crate) pivot: usize,
}

impl Layout {
    const BLOCK: usize = PAGEBLOCK_BYTES;
    /// The pivot lies in the middle of what one page table maps: both arrays share it.
    const PIVOT_ALIGN: usize = Self::BLOCK / 2;
    /// What is left free so that the first chunk starts on a page: its counts, its bitmaps and
    /// most of its cold words are then on that one.
    const CHUNK_PAD: usize = size_of::<Chunk>().next_multiple_of(PAGE_SIZE) - size_of::<Chunk>();

    /// A window of `span` bytes at `base`; at least [`Layout::below`] bytes lie under it.
    pub(crate) fn new(base: usize, span: usize) -> Layout {
        let pivot = (base - span / Self::BLOCK * Self::words_of_block()) & !(Self::BLOCK - 1);
        Layout { base, span, pivot: pivot - Self::PIVOT_ALIGN }
    }

    /// Address space that the arrays of a window of `span` bytes take below its base.
    pub(crate) fn below(span: usize) -> usize {
        let arrays = span / Self::BLOCK * (Self::words_of_block() + size_of::<Chunk>());
        arrays.next_multiple_of(Self::BLOCK) + 2 * Self::BLOCK
    }

    /// Bytes of the arrays (chunks, words) for `covered` bytes of window.
    pub(crate) fn array_lens(covered: usize) -> [usize; 2] {
        let blocks = covered / Self::BLOCK;
        [Self::CHUNK_PAD + blocks * size_of::<Chunk>(), blocks * Self::words_of_block()]
    }

    const fn words_of_block() -> usize {
        PAGEBLOCK_PAGES * size_of::<AtomicU32>()
    }
}
