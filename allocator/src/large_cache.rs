//! Large runs that a thread freed and may want again, in front of the zone lock.
//!
//! As the stacks of [`crate::pcp`], it belongs to a heap and is touched inside the heap's gate
//! only. Runs of up to 256 KiB stay here, as many as the thread's share of the page caches allows, and
//! some more where what left for want of room is wanted again. A request gets the shortest that will do,
//! and of those the newest, or one that other threads left ([`crate::node_cache`]), or, while pages are owed
//! for misses, the front of a longer one. What finds no room is left for others, or, where they have enough,
//! takes the place of the older half.

use core::iter;
use core::mem::offset_of;

use zonal_numa::NodeId;

use crate::kept_pool;
use crate::kept_room::KeptRoom;
use crate::kept_runs::{KeptRuns, MAX_PAGES};
use crate::mm::Attempt;
use crate::node_cache::StripeIdx;
use crate::order::Order;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::word::Migratetype;

/// A thread keeps fewer runs than that.
const PLACES: usize = 128;
/// The longest run that serves blocks that grow, which are better off with free neighbours, and that comes
/// from others than `free`.
pub(crate) const MAX_SHARED: usize = 16;
/// Runs of up to so many pages are taken from the zone by the batch.
const MAX_BATCHED: usize = 8;
const BATCH: usize = 8;
/// So many pages are owed before the oldest runs leave for them,
const OWED: usize = 32;
/// and one part in so many of what is kept: in large batches a few misses in a row are chance, and what leaves
/// for them is missed next.
const OWED_PART: usize = 8;
/// One run in so many that hits leave is for its thread to see whether anything else is to be done.
const MANY: u16 = 128;
/// What a byte goes up by so that it is 0 again after that many: no other count takes as few instructions.
const FEW: u8 = ((u8::MAX as u16 + 1) / MANY) as u8;
/// With fewer than that not long ago, nearly all is served.
const FEW_MISSED: u8 = 4;
/// With so many about one in eight is not.
const OFTEN_MISSED: u8 = 32;
/// What is kept is much from so many pages on, and from one part in so many of a thread's share of what is charged.
const LEAST_MUCH: usize = 32;
const MUCH_PART: usize = 8;
/// A page that the cache gives makes up for one part in so many of one that the zone gave.
pub(crate) const MADE_UP: usize = 32;

/// The large runs that one thread keeps.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LargeCache {
    /// Pages that the zone gave instead of the cache, and did not get back from it yet, in parts of
    /// [`MADE_UP`].
    owed: usize,
    /// How many pages may stay.
    room: KeptRoom,
    /// Goes up by [`FEW`] with each run that hits leave here.
    nr_left: u8,
    /// Requests that the zone had to serve, not long ago: each [`MANY`] runs that hits leave, half of them are
    /// forgotten.
    nr_missed: u8,
    /// Where it looks first for what others left.
    stripe: StripeIdx,
    /// Last, for its end is not touched by most.
    runs: KeptRuns<PLACES>,
}

impl LargeCache {
    /// Bytes at its front that are written before it has a run.
    pub(crate) const WRITTEN: usize = offset_of!(LargeCache, runs) + KeptRuns::<PLACES>::WRITTEN;

    /// Makes an empty one in `place`.
    ///
    /// # Safety
    /// `place` is valid for it.
    pub(crate) unsafe fn init(place: *mut LargeCache) {
        // SAFETY: each write goes to a field of `*place`, which the caller gives.
        unsafe {
            (&raw mut (*place).owed).write(0);
            (&raw mut (*place).room).write(KeptRoom::NEW);
            (&raw mut (*place).nr_left).write(0);
            (&raw mut (*place).nr_missed).write(0);
            (&raw mut (*place).stripe).write(StripeIdx::FIRST);
            KeptRuns::init(&raw mut (*place).runs);
        }
    }

    /// A run of `nr_pages` pages, at most [`MAX_PAGES`], or slightly more, wherever it is to be had without the
    /// zone. Its word, as that of what the next ones give, is still that of a run that is kept.
    pub(crate) fn find(&mut self, pages: &Pages, node: NodeId, nr_pages: usize) -> Option<PageRun> {
        self.take(pages, nr_pages)
            .or_else(|| self.fetch(pages, node, nr_pages))
            .or_else(|| self.take_front(pages, nr_pages))
    }

    /// One that the thread keeps.
    #[inline(always)]
    pub(crate) fn take(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        let run = self.runs.take(nr_pages)?;
        if self.owed != 0 {
            self.owed = self.owed.saturating_sub(nr_pages);
        }
        self.room.note_left(pages, self.runs.nr_pages());
        Some(run)
    }

    /// The same in the common case: one of exactly that length, and nothing that follows.
    #[inline(always)]
    pub(crate) fn take_exact(&mut self, nr_pages: usize) -> Option<Pfn> {
        if !self.room.is_quiet_at(self.runs.nr_pages().wrapping_sub(nr_pages)) {
            return None;
        }
        let head = self.runs.take_exact(nr_pages)?;
        if self.owed != 0 {
            self.owed = self.owed.saturating_sub(nr_pages);
        }
        Some(head)
    }

    /// The front of a longer run that would not do as a whole; the rest stays, and is long enough for other
    /// requests. Only while pages are owed, since each cut leaves less for what is long; it pays nothing off.
    pub(crate) fn take_front(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        if self.owed == 0 {
            return None;
        }
        let mut run = self.runs.take_longer(nr_pages)?;
        let rest = run.split_tail(nr_pages);
        self.runs.keep(pages, rest);
        self.room.note_left(pages, self.runs.nr_pages());
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
        let room = pages.pcp_share(Order::ZERO).saturating_sub(self.runs.nr_pages()) / nr_pages;
        let nr = BATCH.min(room);
        if nr_pages > MAX_BATCHED || nr < 2 || !self.runs.has_place() {
            return None;
        }
        let mut batch = [const { None }; BATCH];
        pages.alloc_bulk(from.node, order, Migratetype::Large, from.level, &mut batch[..nr]);
        for run in batch.into_iter().flatten() {
            if self.runs.has_place() {
                self.keep(pages, run);
            } else {
                pages.free_run(run);
            }
        }
        self.take(pages, nr_pages)
    }

    /// One of those that the threads of `node` left for each other, and some more of them.
    pub(crate) fn fetch(
        &mut self,
        pages: &Pages,
        node: NodeId,
        nr_pages: usize,
    ) -> Option<PageRun> {
        let shared = pages.node_cache(node);
        let before = self.runs.nr_pages();
        let room = pages.pcp_share(Order::ZERO).saturating_sub(before) / 2;
        let run = shared.take(pages, nr_pages, &mut self.stripe, (&mut self.runs, room))?;
        self.room.note_missed(pages, self.runs.nr_pages() - before + nr_pages);
        Some(run)
    }

    /// Takes a run, whose words are all 0, or leaves it to others, or to its zone: when it is long, or may
    /// not rest here.
    pub(crate) fn put(&mut self, pages: &Pages, node: NodeId, run: PageRun) {
        let nr_pages = run.nr_pages();
        if nr_pages > MAX_PAGES || !pages.may_rest(run.head(), node) {
            return pages.free_run(run);
        }
        let is_shared = nr_pages <= MAX_SHARED;
        if is_shared && self.make_room(pages, nr_pages) {
            return self.keep(pages, run);
        }
        if !is_shared && self.has_room(pages, nr_pages) {
            // From who is better off with free neighbours.
            return pages.free_run(run);
        }
        let Err(run) = self.leave(pages, node, run) else { return };
        self.room.note_spilled(nr_pages);
        if is_shared && self.leave_half(pages, nr_pages) {
            self.keep(pages, run);
        } else {
            pages.free_run(run);
        }
    }

    /// Leaves a run for which there is no room to the other threads of `node`, its own, or returns it where these
    /// have enough, or somebody is at it.
    pub(crate) fn leave(
        &mut self,
        pages: &Pages,
        node: NodeId,
        run: PageRun,
    ) -> Result<(), PageRun> {
        let nr_pages = run.nr_pages();
        pages.node_cache(node).put(pages, run, &mut self.stripe)?;
        self.room.note_spilled(nr_pages);
        Ok(())
    }

    /// Gives the older half back, or all if that does not do; whether a run of `nr_pages` finds room then.
    fn leave_half(&mut self, pages: &Pages, nr_pages: usize) -> bool {
        self.give_back(pages, self.runs.nr_pages() / 2);
        if self.make_room(pages, nr_pages) {
            return true;
        }
        self.give_back(pages, 0);
        self.make_room(pages, nr_pages)
    }

    /// Before the zone is asked for a run of `nr_pages` pages: where a good part of the requests finds none here, and
    /// much is kept beside what is charged, as many of the oldest pages leave at once, for the zone to make it of.
    /// So what is kept of other lengths makes a small program no larger. In batches few requests miss, and those
    /// when little is left.
    pub(crate) fn make_way(&mut self, pages: &Pages, nr_pages: usize) {
        let nr_kept = self.runs.nr_pages();
        let share = pages.charged() / pages.nr_threads().max(1);
        if self.nr_missed >= OFTEN_MISSED && nr_kept >= LEAST_MUCH.max(share / MUCH_PART) {
            self.give_back(pages, nr_kept.saturating_sub(nr_pages));
        }
    }

    /// The zone gave a run that the cache did not have. Where the cache is large beside what is in use,
    /// as many of the oldest pages leave it: so it keeps what its thread had at a time and has again, but
    /// runs of the wrong lengths do not add to that. Where nearly all requests find what they need, little
    /// leaves: what is spare makes a miss rare when lengths vary.
    ///
    /// If as much was spilled before that would have done, there shall be room for it.
    pub(crate) fn note_miss(&mut self, pages: &Pages, nr_pages: usize, would_do: bool) {
        self.nr_missed = self.nr_missed.saturating_add(1);
        if would_do {
            self.room.note_missed(pages, nr_pages);
        }
        if pages.is_small_beside_charged(self.runs.nr_pages()) {
            self.owed = 0;
            return;
        }
        self.owed += nr_pages * MADE_UP;
        if self.owed >= OWED.max(self.runs.nr_pages() / OWED_PART) * MADE_UP {
            let least = self.runs.nr_pages().saturating_sub(self.owed / MADE_UP);
            self.owed = 0;
            self.give_back(pages, least);
        }
    }

    /// Makes room for a run of that length without another one leaving, for who keeps it then; whether it
    /// could.
    #[inline]
    pub(crate) fn make_room(&mut self, pages: &Pages, nr_pages: usize) -> bool {
        let is_served = self.nr_missed < FEW_MISSED;
        let most = if is_served { kept_pool::MOST_SERVED } else { kept_pool::MOST };
        nr_pages <= MAX_PAGES
            && self.runs.has_place()
            && self.room.make(pages, self.runs.nr_pages() + nr_pages, most)
    }

    /// Whether there is some, and a place, in the common case.
    #[inline(always)]
    pub(crate) fn has_plain_room(&self, pages: &Pages, nr_pages: usize) -> bool {
        self.runs.has_place() && self.room.holds_plainly(pages, self.runs.nr_pages() + nr_pages)
    }

    /// Whether there is some without that.
    fn has_room(&self, pages: &Pages, nr_pages: usize) -> bool {
        self.runs.has_place() && self.room.holds(pages, self.runs.nr_pages() + nr_pages)
    }

    /// Keeps a run for which there is room.
    pub(crate) fn keep(&mut self, pages: &Pages, run: PageRun) {
        self.runs.keep(pages, run);
    }

    /// The same where its word says so already.
    #[inline(always)]
    pub(crate) fn push(&mut self, run: PageRun) {
        self.runs.push(run);
    }

    /// Counts the runs that hits leave here.
    #[inline(always)]
    pub(crate) fn is_one_of_many(&mut self) -> bool {
        self.nr_left = self.nr_left.wrapping_add(FEW);
        let is_one = self.nr_left == 0;
        if is_one {
            self.nr_missed /= 2;
        }
        is_one
    }

    /// Gives the runs back that start from `start` up to `end`: somebody wants to grow there.
    pub(crate) fn clear_way(&mut self, pages: &Pages, start: Pfn, end: Pfn) {
        pages.free_bulk(iter::from_fn(|| self.runs.take_from(pages, start, end)));
        self.room.note_left(pages, self.runs.nr_pages());
    }

    /// Gives everything back to the zones; returns the number of pages.
    pub(crate) fn drain(&mut self, pages: &Pages) -> usize {
        let drained = self.runs.nr_pages();
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
        self.runs.nr_pages()
    }

    /// Gives the oldest runs back until at most `keep` pages are left.
    fn give_back(&mut self, pages: &Pages, keep: usize) {
        let runs = &mut self.runs;
        let next = || (runs.nr_pages() > keep).then(|| runs.take_to_keep(pages, keep)).flatten();
        pages.free_bulk(iter::from_fn(next));
        self.room.note_left(pages, self.runs.nr_pages());
    }
}
