//! Large runs that a thread freed and may want again, in front of the zone lock.
//!
//! As the stacks of [`crate::pcp`], it belongs to a heap and is touched inside the heap's gate
//! only. Runs of up to 256 KiB stay here, as many as the thread's share of the page caches allows, and
//! some more where what left for want of room is wanted again. A request gets the shortest that will do,
//! found by two words of bits; when there are too many, the older half leaves under one lock.

use core::iter;
use core::mem::{MaybeUninit, offset_of};

use zonal_numa::NodeId;

use crate::mm::Attempt;
use crate::order::Order;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Migratetype, PageWord};

/// The longest run that is kept, in pages.
pub(crate) const MAX_PAGES: usize = u64::BITS as usize;
/// The longest one that serves blocks that grow, which are better off with free neighbours, and that comes
/// from others than `free`.
pub(crate) const MAX_SHARED: usize = 16;
/// A bit of a word for each.
const CAPACITY: usize = u128::BITS as usize;
/// Runs of up to so many pages are taken from the zone by the batch.
const MAX_BATCHED: usize = 8;
const BATCH: usize = 8;
/// So many pages are owed before the oldest runs leave for them.
const OWED: usize = 32;
/// So many pages at most are remembered as spilled.
const MAX_SPILLED: usize = CAPACITY * MAX_PAGES;
/// A run may be longer than what is asked for by one part in so many.
const FIT_PART: usize = 4;

/// The large runs that one thread keeps.
///
/// What stands behind the first link is written with the first runs, from the front: most threads keep
/// none, and need no memory for it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LargeCache {
    /// The lengths of which there are any: those of one page first.
    lengths: u64,
    nr: usize,
    nr_pages: usize,
    /// Pages that the zone gave instead of the cache, and did not get back from it yet.
    owed: usize,
    /// Pages for which there was no room, and that were not missed since.
    spilled: usize,
    /// So many pages may stay although the thread's share is less: since others were spilled and missed.
    depth: usize,
    /// The places where there is no run.
    vacant: u128,
    /// The runs as a ring, by age, which begins and ends at `END`. Links of places in use are written.
    ring: [MaybeUninit<Link>; CAPACITY + 1],
    /// The places in `runs` where such a run is, by length. Written where `lengths` has the bit.
    places: [MaybeUninit<u128>; MAX_PAGES],
    /// Written where `vacant` has no bit.
    runs: [MaybeUninit<PageRun>; CAPACITY],
}

/// The neighbours of a run in the ring.
#[derive(Clone, Copy, Debug)]
struct Link {
    older: u8,
    newer: u8,
}

/// Where the ring begins and ends; the link of a place stands behind it.
const END: usize = 0;

impl LargeCache {
    /// Bytes at its front that are written before it has a run.
    pub(crate) const WRITTEN: usize = offset_of!(LargeCache, ring) + size_of::<Link>();

    /// Makes an empty one in `place`.
    ///
    /// # Safety
    /// `place` is valid for it.
    pub(crate) unsafe fn init(place: *mut LargeCache) {
        let end = Link { older: END as u8, newer: END as u8 };
        // SAFETY: each write goes to a field of `*place`, which the caller gives. The others may be
        // anything.
        unsafe {
            (&raw mut (*place).lengths).write(0);
            (&raw mut (*place).nr).write(0);
            (&raw mut (*place).nr_pages).write(0);
            (&raw mut (*place).owed).write(0);
            (&raw mut (*place).spilled).write(0);
            (&raw mut (*place).depth).write(0);
            (&raw mut (*place).vacant).write(u128::MAX);
            (&raw mut (*place).ring[END]).write(MaybeUninit::new(end));
        }
    }

    /// The link of a place in use, or of the end.
    #[inline]
    fn link(&mut self, at: usize) -> &mut Link {
        // SAFETY: written by `init` or `keep`.
        unsafe { self.ring[at].assume_init_mut() }
    }

    /// The places of runs with a length of which there are any, less one.
    #[inline]
    fn places(&mut self, length: usize) -> &mut u128 {
        // SAFETY: written by the first `keep` of such a run.
        unsafe { self.places[length].assume_init_mut() }
    }

    /// The place of the run that came first, `CAPACITY` or above if there is none.
    #[inline]
    fn oldest(&mut self) -> usize {
        usize::from(self.link(END).newer).wrapping_sub(1)
    }

    /// A run of `nr_pages` pages, at most [`MAX_PAGES`], or slightly more.
    #[inline]
    pub(crate) fn take(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        let longest = (nr_pages + nr_pages / FIT_PART).min(MAX_PAGES);
        let fitting =
            self.lengths & (u64::MAX << (nr_pages - 1)) & (u64::MAX >> (MAX_PAGES - longest));
        if fitting == 0 {
            return None;
        }
        let places = *self.places(fitting.trailing_zeros() as usize);
        self.remove(pages, places.trailing_zeros() as usize)
    }

    /// A run of `nr_pages` pages, with some more of the kind for the requests that follow, under one
    /// lock; none where that is not worth it.
    pub(crate) fn refill(
        &mut self,
        pages: &Pages,
        nr_pages: usize,
        from: Attempt,
    ) -> Option<PageRun> {
        let order = Order::holding(nr_pages).filter(|order| order.nr_pages() == nr_pages)?;
        let room = pages.pcp_share(Order::ZERO).saturating_sub(self.nr_pages) / nr_pages;
        let nr = BATCH.min(CAPACITY - self.nr).min(room);
        if nr_pages > MAX_BATCHED || nr < 2 {
            return None;
        }
        let mut batch = [const { None }; BATCH];
        pages.alloc_bulk(from.node, order, Migratetype::Large, from.level, &mut batch[..nr]);
        batch.into_iter().flatten().for_each(|run| self.keep(pages, run));
        self.take(pages, nr_pages)
    }

    /// Takes a run, whose words are all 0, or gives it back to its zone: when it is long, or may not
    /// rest here.
    pub(crate) fn put(&mut self, pages: &Pages, node: NodeId, run: PageRun) {
        let nr_pages = run.nr_pages();
        if nr_pages <= MAX_PAGES && !self.has_room(pages, nr_pages) {
            self.spilled = (self.spilled + nr_pages).min(MAX_SPILLED);
        }
        if nr_pages > MAX_SHARED || !pages.may_rest(run.head(), node) {
            pages.free_run(run);
            return;
        }
        if !self.has_room(pages, nr_pages) {
            self.give_back(pages, self.nr / 2);
        }
        if !self.has_room(pages, nr_pages) {
            self.give_back(pages, 0);
        }
        if self.has_room(pages, nr_pages) {
            self.keep(pages, run);
        } else {
            pages.free_run(run);
        }
    }

    /// The zone gave a run that the cache did not have. Where the cache is large beside what is in use,
    /// as many of the oldest pages leave it: so it keeps what its thread had at a time and has again, but
    /// runs of the wrong lengths do not add to that.
    ///
    /// If as much was spilled before that would have done, there shall be room for it.
    pub(crate) fn note_miss(&mut self, pages: &Pages, nr_pages: usize, would_do: bool) {
        if would_do && self.spilled >= nr_pages {
            self.spilled -= nr_pages;
            let depth = self.depth.max(pages.pcp_share(Order::ZERO)) + nr_pages;
            if pages.is_deep_share(depth) {
                self.depth = depth;
            }
        }
        if pages.is_small_beside_charged(self.nr_pages) {
            self.owed = 0;
            return;
        }
        self.owed += nr_pages;
        if self.owed >= OWED {
            let least = self.nr_pages.saturating_sub(self.owed);
            self.owed = 0;
            self.give_while(pages, |cache| cache.nr_pages > least);
        }
    }

    /// Whether a run of that length may be kept without another one leaving.
    #[inline]
    pub(crate) fn has_room(&self, pages: &Pages, nr_pages: usize) -> bool {
        let after = self.nr_pages + nr_pages;
        let is_deep = || after <= self.depth && pages.is_deep_share(after);
        nr_pages <= MAX_PAGES && self.vacant != 0 && (pages.is_pcp_share(after) || is_deep())
    }

    /// Keeps a run for which there is room.
    #[inline]
    pub(crate) fn keep(&mut self, pages: &Pages, run: PageRun) {
        let nr_pages = run.nr_pages();
        pages.map.word(run.head()).store(PageWord::pcp(nr_pages as u32).raw(), Relaxed);
        let place = self.vacant.trailing_zeros() as usize % CAPACITY;
        let (bit, length, at) = (1 << place, nr_pages - 1, place + 1);
        self.vacant &= !bit;
        if self.lengths & 1 << length == 0 {
            self.lengths |= 1 << length;
            self.places[length].write(bit);
        } else {
            *self.places(length) |= bit;
        }
        self.runs[place].write(run);
        let newest = self.link(END).older;
        self.ring[at].write(Link { older: newest, newer: END as u8 });
        self.link(usize::from(newest)).newer = at as u8;
        self.link(END).older = at as u8;
        self.nr += 1;
        self.nr_pages += nr_pages;
    }

    #[inline]
    fn remove(&mut self, pages: &Pages, place: usize) -> Option<PageRun> {
        if place >= CAPACITY || self.vacant & 1 << place != 0 {
            return None;
        }
        // SAFETY: a place that is not vacant has a run, and now it is.
        let run = unsafe { self.runs[place].assume_init_read() };
        self.vacant |= 1 << place;
        let nr_pages = run.nr_pages();
        pages.map.word(run.head()).store(PageWord::NOTHING.raw(), Relaxed);
        let length = nr_pages - 1;
        let places = self.places(length);
        *places &= !(1 << place);
        if *places == 0 {
            self.lengths &= !(1 << length);
        }
        let Link { older, newer } = *self.link(place + 1);
        self.link(usize::from(older)).newer = newer;
        self.link(usize::from(newer)).older = older;
        self.nr -= 1;
        self.nr_pages -= nr_pages;
        Some(run)
    }

    /// Gives the runs back that start from `start` up to `end`: somebody wants to grow there.
    pub(crate) fn clear_way(&mut self, pages: &Pages, start: Pfn, end: Pfn) {
        for place in 0..CAPACITY {
            if self.vacant & 1 << place != 0 {
                continue;
            }
            // SAFETY: as in `remove`.
            let head = unsafe { self.runs[place].assume_init_ref() }.head();
            if (start..end).contains(&head)
                && let Some(run) = self.remove(pages, place)
            {
                pages.free_run(run);
            }
        }
    }

    /// Gives everything back to the zones; returns the number of pages.
    pub(crate) fn drain(&mut self, pages: &Pages) -> usize {
        let drained = self.nr_pages;
        self.give_back(pages, 0);
        (self.spilled, self.depth) = (0, 0);
        drained
    }

    /// Pages that it holds.
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Gives the oldest runs back until `keep` are left.
    fn give_back(&mut self, pages: &Pages, keep: usize) {
        self.give_while(pages, |cache| cache.nr > keep);
    }

    /// Gives the oldest run back as long as there are `too_many`.
    fn give_while(&mut self, pages: &Pages, too_many: impl Fn(&LargeCache) -> bool) {
        pages.free_bulk(iter::from_fn(|| {
            let oldest = self.oldest();
            too_many(self).then(|| self.remove(pages, oldest)).flatten()
        }));
    }
}
