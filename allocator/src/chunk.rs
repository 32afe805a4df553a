//! The chunk: what is known about one pageblock, apart from its memory and its page words.
//!
//! The cold words stand here too: what the core touches when it lists a block then lies on one
//! page, so that a small process pays for one page of metadata less.
//!
//! The bitmaps are positional, so splitting and merging blocks touches neither. A chunk that was
//! never used is all zeros: nothing resident, nothing dirty, which is why fresh metadata needs no
//! initialising beyond `Chunk::online`.
//!
//! # Synchronisation
//!
//! All fields are written under the zone lock of the chunk's node; `node`, `section` and `huge`
//! only once, before any page of the chunk is handed out, so holders of a page read them without
//! the lock. Relaxed throughout: the lock, or whatever handed the page over, carries the order.

use zonal_numa::NodeId;

use crate::order::PAGEBLOCK_PAGES;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use crate::word::Migratetype;

const WORDS: usize = PAGEBLOCK_PAGES / 64;

/// One bit a page of a pageblock.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Bitmap([AtomicU64; WORDS]);

/// The bits `[lo, hi)` of one word.
const fn mask(lo: usize, hi: usize) -> u64 {
    (u64::MAX >> (64 - (hi - lo))) << lo
}

impl Bitmap {
    /// Calls `f(word, mask)` for every word that `[lo, hi)` touches, until it returns false.
    fn walk(&self, lo: usize, hi: usize, mut f: impl FnMut(&AtomicU64, u64) -> bool) -> bool {
        debug_assert!(lo < hi && hi <= PAGEBLOCK_PAGES);
        let mut at = lo;
        while at < hi {
            let end = hi.min((at | 63) + 1);
            if !f(&self.0[at / 64], mask(at % 64, at % 64 + (end - at))) {
                return false;
            }
            at = end;
        }
        true
    }

    /// Bits set in `[lo, hi)`.
    pub(crate) fn count(&self, lo: usize, hi: usize) -> usize {
        let mut n = 0;
        self.walk(lo, hi, |word, mask| {
            n += (word.load(Relaxed) & mask).count_ones() as usize;
            true
        });
        n
    }

    /// Bits clear in `[lo, hi)`, where mostly none is.
    pub(crate) fn count_clear(&self, lo: usize, hi: usize) -> usize {
        let mut n = 0;
        self.walk(lo, hi, |word, mask| {
            let clear = mask & !word.load(Relaxed);
            if clear != 0 {
                n += clear.count_ones() as usize;
            }
            true
        });
        n
    }

    /// Whether a bit of `[lo, hi)` is set.
    pub(crate) fn any(&self, lo: usize, hi: usize) -> bool {
        !self.walk(lo, hi, |word, mask| word.load(Relaxed) & mask == 0)
    }

    /// Sets `[lo, hi)`; returns how many bits were clear. Mostly none is.
    pub(crate) fn set(&self, lo: usize, hi: usize) -> usize {
        let mut n = 0;
        self.walk(lo, hi, |word, mask| {
            let old = word.load(Relaxed);
            let clear = mask & !old;
            if clear != 0 {
                n += clear.count_ones() as usize;
                word.store(old | clear, Relaxed);
            }
            true
        });
        n
    }

    /// Clears `[lo, hi)`; returns how many bits were set.
    pub(crate) fn clear(&self, lo: usize, hi: usize) -> usize {
        let mut n = 0;
        self.walk(lo, hi, |word, mask| {
            let old = word.load(Relaxed);
            n += (mask & old).count_ones() as usize;
            word.store(old & !mask, Relaxed);
            true
        });
        n
    }
}

/// Metadata of one pageblock: the unit that reclaim ages and purges.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Chunk {
    nr_free: AtomicU16,
    nr_free_resident: AtomicU16,
    section: AtomicU16,
    migratetype: AtomicU8,
    /// Node number + 1; 0 while no memory is committed here.
    node: AtomicU8,
    generation: AtomicU32,
    freed_at: AtomicU32,
    huge: AtomicU8,
    /// Its section was holed: pages of it come and go one by one.
    holed: AtomicU8,
    nr_holes: AtomicU16,
    /// Pages that may hold memory of the OS.
    pub(crate) resident: Bitmap,
    /// Pages that may hold something other than zeros.
    pub(crate) dirty: Bitmap,
    /// The cold words of the pages.
    pub(crate) cold: [Cold; PAGEBLOCK_PAGES],
}

/// Two words a page: the links of whatever list the page heads a block of.
pub(crate) type Cold = [AtomicU32; 2];

// Owners of runs keep records there that want cache lines of their own.
const _: () = assert!(core::mem::offset_of!(Chunk, cold).is_multiple_of(64));
const _: () =
    assert!(cfg!(zonal_loom) || size_of::<Chunk>() == 192 + PAGEBLOCK_PAGES * size_of::<Cold>());

impl Chunk {
    /// Takes the chunk into service: its memory was just committed and is free.
    pub(crate) fn online(&self, node: NodeId, section: u16, huge: bool, mt: Migratetype) {
        self.section.store(section, Relaxed);
        self.huge.store(u8::from(huge), Relaxed);
        self.node.store(node.index() as u8 + 1, Relaxed);
        self.set_migratetype(mt);
    }

    /// The node of its memory; none while nothing is committed.
    #[inline]
    pub(crate) fn node(&self) -> Option<NodeId> {
        NodeId::new(self.node.load(Relaxed).wrapping_sub(1))
    }

    /// Whether its memory is of that node.
    #[inline]
    pub(crate) fn is_of(&self, node: NodeId) -> bool {
        usize::from(self.node.load(Relaxed)) == node.index() + 1
    }

    /// Index of its section.
    pub(crate) fn section(&self) -> u16 {
        self.section.load(Relaxed)
    }

    /// Whether it lies in a section of huge pages, where residency comes a pageblock at a time.
    #[inline]
    pub(crate) fn is_huge(&self) -> bool {
        self.huge.load(Relaxed) != 0
    }

    /// Whether residency comes and goes a pageblock at a time.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.is_huge() && self.holed.load(Relaxed) == 0
    }

    /// Notes that these pages were purged and hold zeros. Returns how many are no longer resident: none
    /// where residency goes a pageblock at a time and they are less, since the kernel may fill them
    /// again beside the rest.
    pub(crate) fn note_purged(&self, lo: usize, hi: usize) -> usize {
        self.dirty.clear(lo, hi);
        if self.is_whole() && hi - lo < PAGEBLOCK_PAGES {
            return 0;
        }
        self.resident.clear(lo, hi)
    }

    pub(crate) fn set_holed(&self, holed: bool) {
        self.holed.store(u8::from(holed), Relaxed);
    }

    /// Pages handed out to slabs and purged since.
    pub(crate) fn nr_holes(&self) -> usize {
        usize::from(self.nr_holes.load(Relaxed))
    }

    pub(crate) fn adjust_holes(&self, nr_pages: isize) {
        let nr_holes = self.nr_holes() as isize + nr_pages;
        debug_assert!((0..=PAGEBLOCK_PAGES as isize).contains(&nr_holes));
        self.nr_holes.store(nr_holes as u16, Relaxed);
    }

    /// Free pages, resident or not.
    pub(crate) fn nr_free(&self) -> usize {
        usize::from(self.nr_free.load(Relaxed))
    }

    /// Free pages that are resident: what purging gives back.
    pub(crate) fn nr_free_resident(&self) -> usize {
        usize::from(self.nr_free_resident.load(Relaxed))
    }

    /// When it last served a request, or first became worth purging.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// When something that is resident was last freed in it.
    pub(crate) fn freed_at(&self) -> u32 {
        self.freed_at.load(Relaxed)
    }

    pub(crate) fn set_freed_at(&self, generation: u32) {
        self.freed_at.store(generation, Relaxed);
    }

    /// What it is used for.
    #[inline]
    pub(crate) fn migratetype(&self) -> Migratetype {
        Migratetype::from_bits(u32::from(self.migratetype.load(Relaxed)))
    }

    /// Whether caches may keep its pages: the reserve has to be there for who needs it.
    #[inline]
    pub(crate) fn may_rest(&self) -> bool {
        self.migratetype() != Migratetype::HighAtomic
    }

    pub(crate) fn set_migratetype(&self, mt: Migratetype) {
        self.migratetype.store(mt as u8, Relaxed);
    }

    pub(crate) fn stamp(&self, generation: u32) {
        self.generation.store(generation, Relaxed);
    }

    /// Changes both free counts; the sums stay within `0..=512` by the caller's accounting.
    pub(crate) fn adjust(&self, free: isize, free_resident: isize) {
        let nr_free = self.nr_free() as isize + free;
        let nr_resident = self.nr_free_resident() as isize + free_resident;
        debug_assert!(0 <= nr_resident && nr_resident <= nr_free);
        debug_assert!(nr_free <= PAGEBLOCK_PAGES as isize);
        self.nr_free.store(nr_free as u16, Relaxed);
        self.nr_free_resident.store(nr_resident as u16, Relaxed);
    }
}
