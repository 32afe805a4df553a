//! How many pages of large runs a thread may keep.
//!
//! Its share of the page caches in any case, which is less the more threads there are. Beyond that as many
//! as left for want of room and were wanted again, out of one [pool](crate::kept_pool) for all threads, in which each reserves
//! what it has and not what it may come to have: of many threads few have their runs free at a time. Some of the pool
//! is only for who finds nearly all it wants: what others have more of is mostly of the wrong lengths.

use crate::order::Order;
use crate::pages::Pages;

/// Pages are reserved for so many at a time, or for this part of a share where that is more, and given back
/// when twice as many are for nothing.
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
    /// With fewer pages it gives back to the pool. By the share as it was when that was last done.
    low: usize,
}

impl KeptRoom {
    pub(crate) const NEW: KeptRoom = KeptRoom { spilled: 0, depth: 0, reserved: 0, low: 0 };

    /// Whether there is room for `nr_pages` pages in all, with what is reserved already.
    #[inline]
    pub(crate) fn holds(&self, pages: &Pages, nr_pages: usize) -> bool {
        // By the share of now: it becomes less with more threads.
        pages.is_pcp_share(nr_pages.saturating_sub(self.reserved))
    }

    /// The same in the common case: what is reserved, and the least share that a thread may have, will do.
    #[inline(always)]
    pub(crate) fn holds_plainly(&self, pages: &Pages, nr_pages: usize) -> bool {
        pages.is_least_pcp_share(nr_pages.saturating_sub(self.reserved))
    }

    /// The same with what is left of `most` pages in the pool: to be asked by who has that many then.
    pub(crate) fn make(&mut self, pages: &Pages, nr_pages: usize, most: usize) -> bool {
        self.holds(pages, nr_pages)
            || (nr_pages <= self.depth && self.reserve(pages, nr_pages, most))
    }

    /// Whether nothing is given back when pages leave and there are `nr_pages` then.
    #[inline(always)]
    pub(crate) fn is_quiet_at(&self, nr_pages: usize) -> bool {
        nr_pages >= self.low
    }

    /// Pages left, and there are `nr_pages` now.
    #[inline]
    pub(crate) fn note_left(&mut self, pages: &Pages, nr_pages: usize) {
        if nr_pages < self.low {
            self.unreserve(pages, nr_pages);
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
        self.unreserve(pages, 0);
        *self = KeptRoom::NEW;
    }

    /// What of the pool is this thread's.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Reserves room for `nr_pages` pages in all; whether there is any left.
    #[cold]
    #[inline(never)]
    fn reserve(&mut self, pages: &Pages, nr_pages: usize, most: usize) -> bool {
        let share = pages.pcp_share(Order::ZERO);
        let wanted = nr_pages.saturating_sub(share).next_multiple_of(step_of(share));
        let wanted = wanted.min(self.depth.saturating_sub(share));
        let more = wanted.saturating_sub(self.reserved);
        if !pages.kept.reserve(more, most) {
            return false;
        }
        self.reserved += more;
        self.set_low(share);
        true
    }

    /// Gives back what is reserved for more than `nr_pages` pages and a step, or all if there are none.
    #[cold]
    #[inline(never)]
    fn unreserve(&mut self, pages: &Pages, nr_pages: usize) {
        let share = pages.pcp_share(Order::ZERO);
        let most = if nr_pages > 0 { nr_pages + step_of(share) } else { 0 };
        let keep = self.reserved.min(most.saturating_sub(share));
        let gone = self.reserved - keep;
        self.reserved = keep;
        self.set_low(share);
        pages.kept.unreserve(gone);
    }

    fn set_low(&mut self, share: usize) {
        let low = (share + self.reserved).saturating_sub(2 * step_of(share)).max(1);
        self.low = if self.reserved > 0 { low } else { 0 };
    }
}

/// What is reserved at a time by who has that share.
fn step_of(share: usize) -> usize {
    STEP.max(share / STEP_PART)
}
