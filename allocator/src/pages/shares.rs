//! What each thread may keep: its share, and of the page caches a part of what is charged.

use super::Pages;
use crate::order::Order;

/// All page caches together hold at most one page in so many of each order, and so do the large runs of all
/// threads; more where `PCP_LEAST`, `PCP_RUNS` or [`crate::large::kept_pool::KeptPool`] say so.
const PCP_PART: usize = 64;
/// What caches hold is little up to this part of the charged memory beyond `PCP_LEAST`.
const SMALL_PART: usize = 8;
/// What all page caches together may hold of each order in any case, in pages.
const PCP_LEAST: usize = (4 << 20) / zonal_numa::PAGE_SIZE;
/// Runs that each may hold in any case.
const PCP_RUNS: usize = 2;

impl Pages {
    /// What each thread gets of what all of them together may have.
    #[inline]
    pub(crate) fn share_of(&self, all: usize) -> usize {
        all / self.nr_threads().max(1)
    }

    /// Runs of that order that one page cache may hold: the caches of all threads together get
    /// 1/64 of the charged memory and 4 MiB in any case, each at least two runs.
    pub(crate) fn pcp_share(&self, order: Order) -> usize {
        (self.share_of(self.pcp_of_all()) / order.nr_pages()).max(PCP_RUNS)
    }

    /// Whether so many pages in each thread's hand are little beside what is charged: in a small process
    /// next to none are.
    pub(crate) fn is_small_beside_charged(&self, nr_pages: usize) -> bool {
        self.in_all_hands(nr_pages) <= self.charged().saturating_sub(PCP_LEAST) / SMALL_PART
    }

    /// What it comes to if each thread has so many pages.
    #[inline]
    fn in_all_hands(&self, nr_pages: usize) -> usize {
        nr_pages * self.nr_threads().max(1)
    }

    /// Pages that all page caches together may hold of each order.
    #[inline]
    fn pcp_of_all(&self) -> usize {
        (self.charged() / PCP_PART).max(PCP_LEAST)
    }
}
