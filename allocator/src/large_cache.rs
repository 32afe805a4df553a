//! Large runs that a thread freed and may want again, in front of the zone lock.
//!
//! As the stacks of [`crate::pcp`], it belongs to a heap and is touched inside the heap's gate
//! only. Runs of up to 256 KiB stay here, as many as the thread's share of the page caches allows, and
//! some more where what left for want of room is wanted again. A request gets the shortest that will do,
//! found by a word of bits, and of those the newest, or, while pages are owed for misses, the front of a
//! longer one; when there are too many, the older half leaves under one lock.

use core::iter;
use core::mem::{MaybeUninit, offset_of};

use zonal_numa::{NodeId, PAGE_SIZE};

use crate::class::MAX_SMALL;
use crate::kept_room::KeptRoom;
use crate::mm::Attempt;
use crate::order::Order;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::rings::{Link, Rings};
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Migratetype, PageWord};

/// The longest run that is kept, in pages.
pub(crate) const MAX_PAGES: usize = u64::BITS as usize;
/// The longest one that serves blocks that grow, which are better off with free neighbours, and that comes
/// from others than `free`.
pub(crate) const MAX_SHARED: usize = 16;
/// The places are 1 to so many.
const CAPACITY: usize = 127;
/// Runs of up to so many pages are taken from the zone by the batch.
const MAX_BATCHED: usize = 8;
const BATCH: usize = 8;
/// So many pages are owed before the oldest runs leave for them.
const OWED: usize = 32;
/// A page that the cache gives makes up for one part in so many of one that the zone gave.
const MADE_UP: usize = 32;
/// What is left of a run that is cut has so many pages at least, as the shortest large block.
const LEAST_REST: usize = MAX_SMALL / PAGE_SIZE + 2;
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
    nr_pages: usize,
    /// Pages that the zone gave instead of the cache, and did not get back from it yet, in parts of
    /// [`MADE_UP`].
    owed: usize,
    /// How many pages may stay.
    room: KeptRoom,
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

/// Where the ring of all runs begins and ends: no place.
const END: u8 = 0;

/// The same for runs of `nr_pages` pages.
#[inline]
const fn end_of(nr_pages: usize) -> u8 {
    (CAPACITY + nr_pages) as u8
}

impl LargeCache {
    /// Bytes at its front that are written before it has a run.
    pub(crate) const WRITTEN: usize = offset_of!(LargeCache, by_age) + size_of::<Link>();

    /// Makes an empty one in `place`.
    ///
    /// # Safety
    /// `place` is valid for it.
    pub(crate) unsafe fn init(place: *mut LargeCache) {
        // SAFETY: each write goes to a field of `*place`, which the caller gives. The others may be
        // anything.
        unsafe {
            (&raw mut (*place).lengths).write(0);
            (&raw mut (*place).nr_pages).write(0);
            (&raw mut (*place).owed).write(0);
            (&raw mut (*place).room).write(KeptRoom::NEW);
            (&raw mut (*place).nr).write(0);
            (&raw mut (*place).left).write(END);
            (&raw mut (*place).opened).write(0);
            (*place).by_age.close(END);
        }
    }

    /// A run of `nr_pages` pages, at most [`MAX_PAGES`], or slightly more.
    #[inline(always)]
    pub(crate) fn take(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        let longer = self.lengths >> (nr_pages - 1);
        let extra = longer.trailing_zeros() as usize;
        if longer == 0 || extra > nr_pages / FIT_PART {
            return None;
        }
        self.owed = self.owed.saturating_sub(nr_pages);
        let newest = self.by_length.link(end_of(nr_pages + extra)).older;
        Some(self.remove(pages, newest))
    }

    /// The front of a longer run that would not do as a whole; the rest stays, and is long enough for other
    /// requests. Only while pages are owed, since each cut leaves less for what is long; it pays nothing off.
    pub(crate) fn take_front(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        let longer = self.lengths.checked_shr((nr_pages + LEAST_REST - 1) as u32).unwrap_or(0);
        if longer == 0 || self.owed == 0 {
            return None;
        }
        let length = nr_pages + LEAST_REST + longer.trailing_zeros() as usize;
        let newest = self.by_length.link(end_of(length)).older;
        let mut run = self.remove(pages, newest);
        let rest = run.split_tail(nr_pages);
        self.keep(pages, rest);
        Some(run)
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
        let nr = BATCH.min(CAPACITY - usize::from(self.nr)).min(room);
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
        let is_shared = nr_pages <= MAX_SHARED && pages.may_rest(run.head(), node);
        let mut has_room = is_shared && self.make_room(pages, nr_pages);
        if nr_pages <= MAX_PAGES && !has_room && !self.has_room(pages, nr_pages) {
            self.room.note_spilled(nr_pages);
        }
        if !is_shared {
            pages.free_run(run);
            return;
        }
        for nr_left in [self.nr / 2, 0] {
            if !has_room {
                self.give_back(pages, nr_left);
                has_room = self.make_room(pages, nr_pages);
            }
        }
        if has_room {
            self.keep(pages, run);
        } else {
            pages.free_run(run);
        }
    }

    /// The zone gave a run that the cache did not have. Where the cache is large beside what is in use,
    /// as many of the oldest pages leave it: so it keeps what its thread had at a time and has again, but
    /// runs of the wrong lengths do not add to that. Where nearly all requests find what they need, little
    /// leaves: what is spare makes a miss rare when lengths vary.
    ///
    /// If as much was spilled before that would have done, there shall be room for it.
    pub(crate) fn note_miss(&mut self, pages: &Pages, nr_pages: usize, would_do: bool) {
        if would_do {
            self.room.note_missed(pages, nr_pages);
        }
        if pages.is_small_beside_charged(self.nr_pages) {
            self.owed = 0;
            return;
        }
        self.owed += nr_pages * MADE_UP;
        if self.owed >= OWED * MADE_UP {
            let least = self.nr_pages.saturating_sub(self.owed / MADE_UP);
            self.owed = 0;
            self.give_while(pages, |cache| cache.nr_pages > least);
        }
    }

    /// Makes room for a run of that length without another one leaving, for who keeps it then; whether it
    /// could.
    #[inline]
    pub(crate) fn make_room(&mut self, pages: &Pages, nr_pages: usize) -> bool {
        nr_pages <= MAX_PAGES
            && usize::from(self.nr) < CAPACITY
            && self.room.make(pages, self.nr_pages + nr_pages)
    }

    /// Whether there is some without that.
    fn has_room(&self, pages: &Pages, nr_pages: usize) -> bool {
        usize::from(self.nr) < CAPACITY && self.room.holds(pages, self.nr_pages + nr_pages)
    }

    /// Keeps a run for which there is room.
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
        self.room.note_left(pages, self.nr_pages);
        run
    }

    /// Gives the runs back that start from `start` up to `end`: somebody wants to grow there.
    pub(crate) fn clear_way(&mut self, pages: &Pages, start: Pfn, end: Pfn) {
        let mut place = self.by_age.link(END).newer;
        while place != END {
            let next = self.by_age.link(place).newer;
            // SAFETY: as in `remove`.
            let run = unsafe { self.runs[usize::from(place)].assume_init_ref() };
            if (start..end).contains(&run.head()) {
                let run = self.remove(pages, place);
                pages.free_run(run);
            }
            place = next;
        }
    }

    /// Gives everything back to the zones; returns the number of pages.
    pub(crate) fn drain(&mut self, pages: &Pages) -> usize {
        let drained = self.nr_pages;
        self.give_back(pages, 0);
        self.room.clear(pages);
        drained
    }

    /// What is reserved for it of the room that threads have together.
    pub(crate) fn reserved(&self) -> usize {
        self.room.reserved()
    }

    /// Pages that it holds.
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Gives the oldest runs back until `keep` are left.
    fn give_back(&mut self, pages: &Pages, keep: u8) {
        self.give_while(pages, |cache| cache.nr > keep);
    }

    /// Gives the oldest run back as long as there are `too_many`.
    fn give_while(&mut self, pages: &Pages, too_many: impl Fn(&LargeCache) -> bool) {
        pages.free_bulk(iter::from_fn(|| {
            let oldest = self.by_age.link(END).newer;
            (oldest != END && too_many(self)).then(|| self.remove(pages, oldest))
        }));
    }
}
