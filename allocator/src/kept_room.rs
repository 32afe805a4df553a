//! How many pages of large runs a thread may keep.
//!
//! Its share of the page caches in any case, which is less the more threads there are. Beyond that as many
//! as left for want of room and were wanted again, out of one *pool* for all threads, in which each reserves
//! what it has and not what it may come to have: of many threads few have their runs free at a time.

use crate::order::Order;
use crate::pages::Pages;

/// So many pages are reserved at a time, and twice as many at most for nothing.
const STEP: usize = 64;
/// So many are remembered as spilled, and may come to be wanted, at most.
const MOST: usize = 8192;

/// The room of one thread, in pages. All zeros at first.
#[derive(Debug)]
pub(crate) struct KeptRoom {
    /// Pages for which there was no room, and that were not missed since.
    spilled: usize,
    /// So many may stay although the thread's share is less: since others were spilled and missed.
    depth: usize,
    /// What of the pool is this thread's.
    reserved: usize,
    /// What that makes with its share, as of then; 0 where nothing is reserved.
    all: usize,
    /// With fewer than so many pages it gives back to the pool.
    low: usize,
}

impl KeptRoom {
    pub(crate) const NEW: KeptRoom = KeptRoom { spilled: 0, depth: 0, reserved: 0, all: 0, low: 0 };

    /// Whether there is room for `nr_pages` pages in all.
    #[inline]
    pub(crate) fn holds(&mut self, pages: &Pages, nr_pages: usize) -> bool {
        pages.is_pcp_share(nr_pages)
            || nr_pages <= self.all
            || (nr_pages <= self.depth && self.reserve(pages, nr_pages))
    }

    /// Pages left, and there are `nr_pages` now.
    #[inline]
    pub(crate) fn note_left(&mut self, pages: &Pages, nr_pages: usize) {
        if nr_pages < self.low {
            self.unreserve(pages, if nr_pages > 0 { nr_pages + STEP } else { 0 });
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

    /// Reserves room for `nr_pages` pages in all; whether there is any left.
    #[cold]
    #[inline(never)]
    fn reserve(&mut self, pages: &Pages, nr_pages: usize) -> bool {
        let share = pages.pcp_share(Order::ZERO);
        let wanted = nr_pages.saturating_sub(share).next_multiple_of(STEP);
        let more = wanted.saturating_sub(self.reserved);
        if !pages.reserve_kept(more) {
            return false;
        }
        self.set_reserved(share, self.reserved + more);
        true
    }

    /// Gives back what is reserved for more than `nr_pages` pages in all.
    #[cold]
    #[inline(never)]
    fn unreserve(&mut self, pages: &Pages, nr_pages: usize) {
        let share = pages.pcp_share(Order::ZERO);
        let keep = self.reserved.min(nr_pages.saturating_sub(share));
        let gone = self.reserved - keep;
        self.set_reserved(share, keep);
        pages.unreserve_kept(gone);
    }

    fn set_reserved(&mut self, share: usize, reserved: usize) {
        self.reserved = reserved;
        self.all = if reserved > 0 { share + reserved } else { 0 };
        self.low = if reserved > 0 { self.all.saturating_sub(2 * STEP).max(1) } else { 0 };
    }
}
