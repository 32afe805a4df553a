//! How many pages of large runs a thread may keep.
//!
//! Its share of the page caches in any case, which is less the more threads there are. Beyond that as many as left
//! for want of room and were wanted again, out of one [pool](crate::large::kept_pool) for all threads, in which each
//! reserves what it has and not what it may come to have: of many threads few have their runs free at a time. What
//! is reserved for more than that goes back when the thread has to ask the zone, or somebody else found too
//! little. Some of the pool is only for who finds nearly all it wants: what others have more of is mostly of the
//! wrong lengths.

use crate::order::Order;
use crate::pages::Pages;

/// Pages are reserved for so many at a time, or for this part of a share where that is more.
const STEP: usize = 64;
const STEP_PART: usize = 4;
/// So many are remembered as spilled, and may come to be wanted, at most.
const MOST: usize = 8192;

/// The room of one thread, in pages.
#[derive(Debug)]
pub(crate) struct KeptRoom {
    /// Pages for which there was no room, and that were not missed since.
    spilled: usize,
    /// So many may stay although the thread's share is less: since others were spilled and missed.
    depth: usize,
    /// What of the pool is this thread's.
    reserved: usize,
    /// How often somebody had found too little in the pool when this one last gave back.
    refusals: u32,
}

impl KeptRoom {
    pub(crate) const NEW: KeptRoom = KeptRoom { spilled: 0, depth: 0, reserved: 0, refusals: 0 };

    /// Pages for which there is room, by the share of now: it becomes less with more threads.
    pub(crate) fn most(&self, pages: &Pages) -> usize {
        pages.pcp_share(Order::ZERO) + self.reserved
    }

    /// Makes room for `nr_pages` pages in all, if it can, of what is left of `most` pages in the pool: for who has that
    /// many then. Returns for how many there is room.
    pub(crate) fn make(&mut self, pages: &Pages, nr_pages: usize, most: usize) -> usize {
        let share = pages.pcp_share(Order::ZERO);
        if nr_pages > share + self.reserved && nr_pages <= self.depth {
            self.reserve(pages, share, nr_pages - share, most);
        }
        share + self.reserved
    }

    /// Gives back what is reserved for more than `nr_pages` pages and a step, or all if there are none.
    pub(crate) fn settle(&mut self, pages: &Pages, nr_pages: usize) {
        let share = pages.pcp_share(Order::ZERO);
        let most = if nr_pages > 0 { nr_pages + step_of(share) } else { 0 };
        self.unreserve_to(pages, most.saturating_sub(share));
    }

    /// The same if somebody else found too little since the last time.
    pub(crate) fn settle_if_refused(&mut self, pages: &Pages, nr_pages: usize) {
        let refusals = pages.kept.refusals();
        if self.refusals != refusals {
            self.refusals = refusals;
            self.settle(pages, nr_pages);
        }
    }

    /// There was no room for so many pages.
    pub(crate) fn note_spilled(&mut self, nr_pages: usize) {
        self.spilled = (self.spilled + nr_pages).min(MOST);
    }

    /// So many pages came from the zone. If as many were spilled before, there shall be room for them.
    pub(crate) fn note_missed(&mut self, pages: &Pages, nr_pages: usize) {
        if self.spilled >= nr_pages {
            self.spilled -= nr_pages;
            let depth = self.depth.max(pages.pcp_share(Order::ZERO)) + nr_pages;
            self.depth = depth.min(MOST);
        }
    }

    /// Forgets all, and gives back what is reserved: there are no pages any more.
    pub(crate) fn clear(&mut self, pages: &Pages) {
        self.unreserve_to(pages, 0);
        *self = KeptRoom::NEW;
    }

    /// What of the pool is this thread's.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Reserves room for so many pages beyond the share, if there is any left.
    fn reserve(&mut self, pages: &Pages, share: usize, beyond: usize, most: usize) {
        let wanted = beyond.next_multiple_of(step_of(share)).min(self.depth - share);
        if pages.kept.reserve(wanted - self.reserved, most) {
            self.reserved = wanted;
        } else if self.refusals == pages.kept.refusals() {
            // Who gives back tells the others again, so all write there rarely.
            pages.kept.note_refusal();
        }
    }

    fn unreserve_to(&mut self, pages: &Pages, keep: usize) {
        let keep = self.reserved.min(keep);
        pages.kept.unreserve(self.reserved - keep);
        self.reserved = keep;
    }
}

/// What is reserved at a time by who has that share.
fn step_of(share: usize) -> usize {
    STEP.max(share / STEP_PART)
}
