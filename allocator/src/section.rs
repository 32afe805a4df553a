//! Sections: runs of the window that belong to one node and are of one kind.
//!
//! A section is reserved without access and committed densely from the bottom, so that policy and
//! advice apply to all of it at once and it never costs more than two mappings. Its length is a
//! multiple of the largest block, its start aligned to it.
//!
//! # Synchronisation
//!
//! Entries are added under the window lock; `len` is stored last. `nr_committed` grows under the
//! lock of the section's zone. `holed` changes under the window lock and, but for `REFUSED`, that of the
//! zone; either suffices to read it. All else is constant once added.

use zonal_numa::{NodeId, PAGE_SIZE, Span};

use crate::fault::weakened_by;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU8, AtomicU32};

/// How many sections there can be: a whole window of the largest ones.
pub(crate) const MAX_SECTIONS: usize = if cfg!(zonal_loom) { 2 } else { 1 << 14 };
/// Sections start and end at multiples of this: no block reaches over a border.
pub(crate) const SECTION_ALIGN: usize = Order::MAX.nr_pages() * PAGE_SIZE;
/// The first section of a node and kind. Small, because a program may lock all its memory, address
/// space included, under the customary limit of 8 MiB.
pub(crate) const FIRST_SECTION: usize = 4 << 20;
/// Sections double up to this.
pub(crate) const LARGEST_SECTION: usize = 1 << 30;

/// One section.
#[derive(Debug)]
pub(crate) struct Section {
    start: AtomicU32,
    nr_pages: AtomicU32,
    nr_committed: AtomicU32,
    node: AtomicU8,
    huge: AtomicU8,
    /// [`WHOLE`], [`HOLED`] or [`REFUSED`].
    holed: AtomicU8,
    /// The generation in which it was last holed, and how often it was, modulo 256.
    holed_at: AtomicU32,
    nr_holings: AtomicU8,
    /// Pages that could be had if it was holed: in this round of kswapd so far, and in the last.
    wishes: [AtomicU32; 2],
    /// The same in this round, of huge pages that are spared for now.
    spared: AtomicU32,
    /// Pageblocks from the start on that are to be collapsed since it was made whole again.
    to_collapse: AtomicU32,
}

/// A section is holed for one page in so many.
const WORTH_PART: usize = 32;
/// The same once it was made whole again: less than that is missing in a dense one, so that it does
/// not change for the same pages in turns.
const WORTH_PART_AGAIN: usize = 4;

/// Its huge pages stay whole.
const WHOLE: u8 = 0;
/// Pages of it are purged singly; the kernel was told to leave the holes alone.
const HOLED: u8 = 1;
/// The kernel was told and refused: as whole, and not to be tried again.
const REFUSED: u8 = 2;

impl Section {
    pub(crate) fn start(&self) -> Pfn {
        Pfn::new(self.start.load(Relaxed))
    }

    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages.load(Relaxed) as usize
    }

    /// Pages that are committed, or claimed by whoever commits them ([`crate::zone`]).
    pub(crate) fn nr_committed(&self) -> usize {
        self.nr_committed.load(Relaxed) as usize
    }

    /// Pages that nobody claimed yet.
    pub(crate) fn nr_left(&self) -> usize {
        self.nr_pages() - self.nr_committed()
    }

    pub(crate) fn set_committed(&self, nr_pages: usize) {
        debug_assert!(nr_pages <= self.nr_pages());
        self.nr_committed.store(nr_pages as u32, Relaxed);
    }

    pub(crate) fn node(&self) -> usize {
        usize::from(self.node.load(Relaxed))
    }

    pub(crate) fn is_huge(&self) -> bool {
        self.huge.load(Relaxed) != 0
    }

    pub(crate) fn is_holed(&self) -> bool {
        self.holed.load(Relaxed) == HOLED
    }

    /// Whether it is neither holed, nor was that refused.
    pub(crate) fn may_be_holed(&self) -> bool {
        self.holed.load(Relaxed) == WHOLE
    }

    /// Marks it as holed in `generation`. For the holder of the window lock and the zone's.
    pub(crate) fn begin_holing(&self, generation: u32) {
        debug_assert!(self.may_be_holed());
        self.holed.store(HOLED, Relaxed);
        self.holed_at.store(generation, Relaxed);
        self.nr_holings.fetch_add(1, Relaxed);
        self.end_collapse();
    }

    /// Notes that `nr_pages` could be had if it was holed. Whether there were enough in the last round:
    /// the small pages that its others then become cost more than a few are worth. A round that purges much
    /// comes by several times and counts each, so that a rest of that is enough sooner.
    pub(crate) fn wish(&self, nr_pages: usize) -> bool {
        let [now, last] = &self.wishes;
        now.fetch_add(nr_pages as u32, Relaxed);
        self.is_worth(last.load(Relaxed))
    }

    /// Notes that `nr_pages` more could be had some day: huge pages are too young to be given up for them.
    pub(crate) fn spare(&self, nr_pages: usize) {
        self.spared.fetch_add(nr_pages as u32, Relaxed);
    }

    /// Whether there are enough in this round.
    pub(crate) fn has_wishes(&self) -> bool {
        self.is_worth(self.wishes[0].load(Relaxed)) && self.may_be_holed()
    }

    /// The pages that were spared in this round, where there would be enough with them.
    pub(crate) fn nr_spared(&self) -> usize {
        let spared = self.spared.load(Relaxed);
        let is_worth = self.is_worth(self.wishes[0].load(Relaxed) + spared);
        if is_worth && self.may_be_holed() { spared as usize } else { 0 }
    }

    fn is_worth(&self, nr_pages: u32) -> bool {
        let nr_pages = nr_pages as usize;
        let part = if self.nr_holings() == 0 { WORTH_PART } else { WORTH_PART_AGAIN };
        nr_pages > 0 && nr_pages * part >= self.nr_committed()
    }

    /// A round begins; what the last one spared may count among its wishes.
    pub(crate) fn begin_wishes(&self, with_spared: bool) {
        let [now, last] = &self.wishes;
        let spared = self.spared.swap(0, Relaxed);
        last.store(now.swap(0, Relaxed) + if with_spared { spared } else { 0 }, Relaxed);
    }

    /// The generation in which it was last holed; 0 before.
    pub(crate) fn holed_at(&self) -> u32 {
        self.holed_at.load(Relaxed)
    }

    /// How often it was holed, modulo 256.
    pub(crate) fn nr_holings(&self) -> u8 {
        self.nr_holings.load(Relaxed)
    }

    /// Marks a holed section as whole again. For the holder of the window lock and the zone's.
    pub(crate) fn end_holing(&self) {
        self.holed.store(WHOLE, Relaxed);
    }

    /// All its pageblocks are to be collapsed.
    pub(crate) fn begin_collapse(&self) {
        let nr_pageblocks = self.nr_committed() / PAGEBLOCK_PAGES;
        self.to_collapse.store(nr_pageblocks as u32, Relaxed);
    }

    /// Whether any pageblocks are.
    pub(crate) fn is_to_collapse(&self) -> bool {
        self.to_collapse.load(Relaxed) > 0
    }

    /// The next pageblock to be collapsed, which is kswapd's from here on.
    pub(crate) fn next_to_collapse(&self) -> Option<usize> {
        let next = self.to_collapse.load(Relaxed).checked_sub(1)?;
        self.to_collapse.store(next, Relaxed);
        Some(next as usize)
    }

    /// Collapses no more of it: the rest stays in small pages.
    pub(crate) fn end_collapse(&self) {
        self.to_collapse.store(0, Relaxed);
    }

    /// It is not to be holed, for good. For the holder of the window lock.
    pub(crate) fn refuse_holing(&self) {
        self.holed.store(REFUSED, Relaxed);
    }

    /// The first pages of its pageblocks, as far as it is committed.
    pub(crate) fn pageblocks(&self) -> impl Iterator<Item = Pfn> + use<> {
        let start = self.start();
        (0..self.nr_committed()).step_by(PAGEBLOCK_PAGES).map(move |at| start.add(at))
    }

    /// Address range of `nr_pages` pages from the `first`th on.
    pub(crate) fn span(&self, map: &PageMap, first: usize, nr_pages: usize) -> Span {
        debug_assert!(first + nr_pages <= self.nr_pages());
        // SAFETY: the range is inside a section, which zonal reserved and nobody else uses.
        unsafe { Span::new(map.addr_of(self.start().add(first)).addr(), nr_pages * PAGE_SIZE) }
    }
}

/// The table of sections. All zeros is the empty table.
///
/// It fills from its end, where `len` stands: a small process then touches the one page that
/// holds whatever follows in memory, too.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Sections {
    table: [Section; MAX_SECTIONS],
    len: AtomicU32,
}

impl Sections {
    /// The empty table; zeros are no atomics of loom's.
    #[cfg(all(test, zonal_loom))]
    pub(crate) fn new() -> Sections {
        let number = || AtomicU32::new(0);
        let section = || Section {
            start: number(),
            nr_pages: number(),
            nr_committed: number(),
            node: AtomicU8::new(0),
            huge: AtomicU8::new(0),
            holed: AtomicU8::new(0),
            holed_at: number(),
            nr_holings: AtomicU8::new(0),
            wishes: [number(), number()],
            spared: number(),
            to_collapse: number(),
        };
        Sections { table: [(); MAX_SECTIONS].map(|()| section()), len: number() }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u16, &Section)> {
        // ORDERING: Acquire, pairs with Release in `add`: the entries are filled in.
        let len = self.len.load(Acquire) as usize;
        self.table[MAX_SECTIONS - len..]
            .iter()
            .rev()
            .enumerate()
            .map(|(i, section)| (i as u16, section))
    }

    pub(crate) fn get(&self, index: u16) -> &Section {
        &self.table[MAX_SECTIONS - 1 - usize::from(index)]
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len.load(Relaxed) as usize == MAX_SECTIONS
    }

    /// Whether half of the places are taken.
    pub(crate) fn is_half_full(&self) -> bool {
        self.len.load(Relaxed) as usize >= MAX_SECTIONS / 2
    }

    /// Enters a section; the caller holds the window lock and checked `is_full`.
    pub(crate) fn add(&self, node: NodeId, huge: bool, start: Pfn, nr_pages: usize) -> u16 {
        let index = self.len.load(Relaxed);
        let section = self.get(index as u16);
        section.start.store(start.get(), Relaxed);
        section.nr_pages.store(nr_pages as u32, Relaxed);
        section.node.store(node.index() as u8, Relaxed);
        section.huge.store(u8::from(huge), Relaxed);
        // ORDERING: Release, pairs with Acquire in `iter`.
        self.len.store(index + 1, weakened_by("section_add_relaxed", Release));
        index as u16
    }
}
