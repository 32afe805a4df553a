//! Large runs that a thread freed and may want again, in front of the zone lock.
//!
//! Runs of up to 256 KiB stay here, as many as the thread's share of the page caches allows, and
//! some more where what left for want of room is wanted again. A request gets the shortest that will do,
//! and of those the newest, or one that other threads left ([`crate::large::node_cache`]), or, while pages are owed
//! for misses, the front of a longer one. What finds no room is left for others, or, where they have enough,
//! takes the place of the older half.
//!
//! The runs themselves lie outside the gate of the heap, so that hits have them ([`crate::large::kept_hits`]); what
//! decides how many stay is touched inside the gate only. [`Large`] is both.

use core::iter;

use zonal_numa::NodeId;

use crate::large::kept_pool;
use crate::large::kept_room::KeptRoom;
use crate::large::kept_runs::{KeptRuns, MAX_PAGES};
use crate::large::node_cache::StripeIdx;
use crate::mm::Attempt;
use crate::order::Order;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::word::Migratetype;

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
/// After so many pages that were freed, a free is for its thread to see whether anything else is to be done.
const MANY: u32 = 2048;
/// With fewer pages missed than that not long ago, nearly all is served.
const FEW_MISSED: usize = MANY as usize / 32;
/// With so many about one in eight is not.
const OFTEN_MISSED: usize = MANY as usize / 4;
/// What is kept is much from so many pages on, and from one part in so many of a thread's share of what is charged.
const LEAST_MUCH: usize = 32;
const MUCH_PART: usize = 8;
/// A page that the cache gives makes up for one part in so many of one that the zone gave.
pub(crate) const MADE_UP: usize = 32;

/// The large runs that one thread keeps, fewer than so many.
pub(crate) type Runs = KeptRuns<128>;

/// What decides how many of them stay.
#[derive(Debug)]
pub(crate) struct LargeCache {
    /// Pages that the zone gave instead of the cache, and did not get back from it yet, in parts of
    /// [`MADE_UP`].
    owed: usize,
    /// What had come when that was last reckoned, and how many pages were kept.
    reckoned: (u32, usize),
    /// How many pages may stay.
    room: KeptRoom,
    /// Pages that the zone had to give, not long ago: each [`MANY`] pages that are freed, half of them are forgotten.
    missed: usize,
    /// Where it looks first for what others left.
    stripe: StripeIdx,
}

impl LargeCache {
    pub(crate) const NEW: LargeCache = LargeCache {
        owed: 0,
        reckoned: (0, 0),
        room: KeptRoom::NEW,
        missed: 0,
        stripe: StripeIdx::FIRST,
    };

    /// What is reserved for it of the room that threads have together.
    pub(crate) fn reserved(&self) -> usize {
        self.room.reserved()
    }
}

/// All that a thread keeps of large runs, for who is inside the gate of its heap and has the runs.
#[derive(Debug)]
pub(crate) struct Large<'a> {
    pub(crate) cache: &'a mut LargeCache,
    pub(crate) runs: &'a mut Runs,
}

impl Large<'_> {
    /// A run of `nr_pages` pages, at most [`MAX_PAGES`], or slightly more, wherever it is to be had without the
    /// zone. Its word, as that of what the next ones give, is still that of a run that is kept.
    pub(crate) fn find(&mut self, pages: &Pages, node: NodeId, nr_pages: usize) -> Option<PageRun> {
        self.runs
            .take(nr_pages)
            .or_else(|| self.fetch(pages, node, nr_pages))
            .or_else(|| self.take_front(pages, nr_pages))
    }

    /// The front of a longer run that would not do as a whole; the rest stays, and is long enough for other
    /// requests. Only while pages are owed, since each cut leaves less for what is long; it pays nothing off.
    pub(crate) fn take_front(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        self.reckon();
        if self.cache.owed == 0 {
            return None;
        }
        let mut run = self.runs.take_longer(nr_pages)?;
        let rest = run.split_tail(nr_pages);
        self.runs.keep(pages, rest);
        self.reckon_from_here();
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
                self.runs.keep(pages, run);
            } else {
                pages.free_run(run);
            }
        }
        self.runs.take(nr_pages)
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
        let run = shared.take(pages, nr_pages, &mut self.cache.stripe, (&mut *self.runs, room))?;
        self.cache.room.note_missed(pages, self.runs.nr_pages() - before + nr_pages);
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
            return self.runs.keep(pages, run);
        }
        if !is_shared && self.has_room(pages, nr_pages) {
            // From who is better off with free neighbours.
            return pages.free_run(run);
        }
        let Err(run) = self.leave(pages, node, run) else { return };
        self.cache.room.note_spilled(nr_pages);
        if is_shared && self.leave_half(pages, nr_pages) {
            self.runs.keep(pages, run);
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
        pages.node_cache(node).put(pages, run, &mut self.cache.stripe)?;
        self.runs.note_elsewhere(nr_pages);
        self.cache.room.note_spilled(nr_pages);
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
        let share = pages.share_of(pages.charged());
        if self.cache.missed >= OFTEN_MISSED && nr_kept >= LEAST_MUCH.max(share / MUCH_PART) {
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
        self.cache.missed += nr_pages;
        self.reckon();
        if would_do {
            self.cache.room.note_missed(pages, nr_pages);
        }
        self.cache.room.settle(pages, self.runs.nr_pages());
        self.runs.limit = self.cache.room.most(pages);
        if pages.is_small_beside_charged(self.runs.nr_pages()) {
            self.cache.owed = 0;
            return;
        }
        self.cache.owed += nr_pages * MADE_UP;
        if self.cache.owed >= OWED.max(self.runs.nr_pages() / OWED_PART) * MADE_UP {
            let least = self.runs.nr_pages().saturating_sub(self.cache.owed / MADE_UP);
            self.cache.owed = 0;
            self.give_back(pages, least);
        }
    }

    /// What was taken since the last time pays off some of what is owed.
    fn reckon(&mut self) {
        let (before, had) = self.cache.reckoned;
        let came = self.runs.now().wrapping_sub(before) as usize;
        let taken = (had + came).saturating_sub(self.runs.nr_pages());
        self.cache.owed = self.cache.owed.saturating_sub(taken);
        self.reckon_from_here();
    }

    /// What came or left since the last time does not count.
    fn reckon_from_here(&mut self) {
        self.cache.reckoned = (self.runs.now(), self.runs.nr_pages());
    }

    /// Makes room for a run of that length without another one leaving, for who keeps it then; whether it
    /// could.
    pub(crate) fn make_room(&mut self, pages: &Pages, nr_pages: usize) -> bool {
        if nr_pages > MAX_PAGES || !self.runs.has_place() {
            return false;
        }
        let is_served = self.cache.missed < FEW_MISSED;
        let most = if is_served { kept_pool::MOST_SERVED } else { kept_pool::MOST };
        let wanted = self.runs.nr_pages() + nr_pages;
        self.runs.limit = self.cache.room.make(pages, wanted, most);
        wanted <= self.runs.limit
    }

    /// Whether there is some without that.
    fn has_room(&self, pages: &Pages, nr_pages: usize) -> bool {
        self.runs.has_place() && self.runs.nr_pages() + nr_pages <= self.cache.room.most(pages)
    }

    /// Whether so much came that it is time to look around; not again until as much came once more.
    pub(crate) fn look_after_many(&mut self, pages: &Pages) -> bool {
        if !self.runs.is_paused() {
            return false;
        }
        self.runs.pause_after(MANY);
        self.cache.missed /= 2;
        self.cache.room.settle_if_refused(pages, self.runs.nr_pages());
        self.runs.limit = self.cache.room.most(pages);
        true
    }

    /// Gives the runs back that start from `start` up to `end`: somebody wants to grow there.
    pub(crate) fn clear_way(&mut self, pages: &Pages, start: Pfn, end: Pfn) {
        pages.free_bulk(iter::from_fn(|| self.runs.take_from(pages, start, end)));
    }

    /// Gives everything back to the zones; returns the number of pages.
    pub(crate) fn drain(&mut self, pages: &Pages) -> usize {
        let drained = self.runs.nr_pages();
        self.give_back(pages, 0);
        self.cache.room.clear(pages);
        self.runs.limit = self.cache.room.most(pages);
        drained
    }

    /// Pages that it holds.
    #[cfg(test)]
    pub(crate) fn nr_pages(&self) -> usize {
        self.runs.nr_pages()
    }

    /// Gives the oldest runs back until at most `keep` pages are left.
    fn give_back(&mut self, pages: &Pages, keep: usize) {
        self.reckon();
        let runs = &mut *self.runs;
        let next = || (runs.nr_pages() > keep).then(|| runs.take_to_keep(pages, keep)).flatten();
        pages.free_bulk(iter::from_fn(next));
        self.reckon_from_here();
    }
}
