//! What reclaim did and what it cost, named as in `/proc/vmstat` and `/proc/pressure/memory`.
//!
//! Counts of a node stand in its zone ([`zonal_stats::ZoneEvents`]); here is what belongs to the
//! process as a whole. Statistics only: every access is Relaxed and carries nothing. Two threads
//! that begin or end a stall at the same moment may shift its borders by their own few
//! nanoseconds.

use zonal_stats::ProcessEvents;

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};

/// The counters of an instance.
#[derive(Debug)]
pub struct Vmstat {
    drain_skipped: AtomicU64,
    pub(crate) size_mismatch: AtomicU64,
    pub(crate) pageoutrun: AtomicU64,
    pub(crate) pageoutrun_boost: AtomicU64,
    pub(crate) kswapd_wakeups: AtomicU64,
    pub(crate) refaults: AtomicU64,
    activated: AtomicU64,
    cold_age_ns: AtomicU64,
    min_ttl_ns: AtomicU64,
    /// The same as the first one, in generations.
    cold_age: AtomicU32,
    pub(crate) throttled: AtomicU64,
    pub(crate) blocked_ns: AtomicU64,
    pub(crate) longest_block_ns: AtomicU64,
    visited_alloc: AtomicU64,
    visited_free: AtomicU64,
    bins_emptied: AtomicU64,
    some: Stalled,
    full: Stalled,
    nr_stalled: AtomicU32,
    /// [`KEPT`], [`EXCEEDED`] or [`REPORTED`].
    soft_limit: AtomicU32,
}

const KEPT: u32 = 0;
const EXCEEDED: u32 = 1;
const REPORTED: u32 = 2;

/// Time during which something was the case.
#[derive(Debug)]
struct Stalled {
    total_ns: AtomicU64,
    /// Since when it is the case, 0 while it is not.
    since: AtomicU64,
}

impl Stalled {
    fn new() -> Stalled {
        Stalled { total_ns: AtomicU64::new(0), since: AtomicU64::new(0) }
    }

    fn begin(&self, now: u64) {
        self.since.store(now, Relaxed);
    }

    fn end(&self, now: u64) {
        let since = self.since.swap(0, Relaxed);
        if since != 0 {
            self.total_ns.fetch_add(now.saturating_sub(since), Relaxed);
        }
    }
}

impl Vmstat {
    pub(crate) fn new() -> Vmstat {
        Vmstat {
            drain_skipped: AtomicU64::new(0),
            size_mismatch: AtomicU64::new(0),
            pageoutrun: AtomicU64::new(0),
            pageoutrun_boost: AtomicU64::new(0),
            kswapd_wakeups: AtomicU64::new(0),
            refaults: AtomicU64::new(0),
            activated: AtomicU64::new(0),
            cold_age_ns: AtomicU64::new(0),
            min_ttl_ns: AtomicU64::new(0),
            cold_age: AtomicU32::new(0),
            throttled: AtomicU64::new(0),
            blocked_ns: AtomicU64::new(0),
            longest_block_ns: AtomicU64::new(0),
            visited_alloc: AtomicU64::new(0),
            visited_free: AtomicU64::new(0),
            bins_emptied: AtomicU64::new(0),
            some: Stalled::new(),
            full: Stalled::new(),
            nr_stalled: AtomicU32::new(0),
            soft_limit: AtomicU32::new(KEPT),
        }
    }

    /// Reclaim could not keep the soft limit.
    pub fn note_over_soft_limit(&self) {
        let _ = self.soft_limit.compare_exchange(KEPT, EXCEEDED, Relaxed, Relaxed);
    }

    /// Whether the user is to be told that the soft limit was exceeded: true once.
    #[inline]
    pub fn take_soft_limit_warning(&self) -> bool {
        self.soft_limit.load(Relaxed) == EXCEEDED
            && self.soft_limit.swap(REPORTED, Relaxed) == EXCEEDED
    }

    /// One more thread, of `nr_threads`, is in direct reclaim from `now` on.
    pub fn begin_stall(&self, nr_threads: usize, now: u64) {
        let before = self.nr_stalled.fetch_add(1, Relaxed) as usize;
        if before == 0 {
            self.some.begin(now);
        }
        if before + 1 == nr_threads.max(1) {
            self.full.begin(now);
        }
    }

    /// One thread less is in direct reclaim.
    pub fn end_stall(&self, now: u64) {
        let before = self.nr_stalled.fetch_sub(1, Relaxed);
        self.full.end(now);
        if before == 1 {
            self.some.end(now);
        }
    }

    /// kswapd works for a watermark.
    pub fn note_pageoutrun(&self) {
        self.pageoutrun.fetch_add(1, Relaxed);
    }

    /// It works for marks that fragmentation raised.
    pub fn note_pageoutrun_boost(&self) {
        self.pageoutrun_boost.fetch_add(1, Relaxed);
    }

    /// A request woke it.
    pub fn note_wakeup(&self) {
        self.kswapd_wakeups.fetch_add(1, Relaxed);
    }

    /// So many purged pages were wanted again soon, and a longer age would have kept so many of them.
    pub fn note_refaults(&self, nr_pages: u64, nr_activated: u64) {
        self.refaults.fetch_add(nr_pages, Relaxed);
        self.activated.fetch_add(nr_activated, Relaxed);
    }

    /// Free memory goes at this age, which is so many generations, and what is kept at that one.
    pub fn note_age(&self, age_ns: u64, generations: u32, min_ttl_ns: u64) {
        self.cold_age_ns.store(age_ns, Relaxed);
        self.cold_age.store(generations, Relaxed);
        self.min_ttl_ns.store(min_ttl_ns, Relaxed);
    }

    /// These ages in nanoseconds.
    pub fn ages_ns(&self) -> [u64; 2] {
        [&self.cold_age_ns, &self.min_ttl_ns].map(|age| age.load(Relaxed))
    }

    /// The first of them in generations; none where nobody has looked yet.
    pub(crate) fn cold_age(&self) -> Option<u32> {
        (self.cold_age_ns.load(Relaxed) > 0).then(|| self.cold_age.load(Relaxed))
    }

    /// A heap was left out, since somebody was inside.
    pub(crate) fn note_skipped(&self) {
        self.drain_skipped.fetch_add(1, Relaxed);
    }

    /// A thread slept for `ns` because of zonal.
    pub fn note_blocked(&self, ns: u64) {
        self.throttled.fetch_add(1, Relaxed);
        self.blocked_ns.fetch_add(ns, Relaxed);
        self.longest_block_ns.fetch_max(ns, Relaxed);
    }

    /// Another heap served an object while a visitor was in the thread's own.
    pub(crate) fn note_visited_alloc(&self) {
        self.visited_alloc.fetch_add(1, Relaxed);
    }

    /// An object was put aside for the same reason.
    pub(crate) fn note_visited_free(&self) {
        self.visited_free.fetch_add(1, Relaxed);
    }

    /// The bins of a thread that slept were emptied.
    pub(crate) fn note_bins_emptied(&self) {
        self.bins_emptied.fetch_add(1, Relaxed);
    }

    /// A forked child: the threads that were in reclaim are gone.
    pub(crate) fn after_fork(&self) {
        self.nr_stalled.store(0, Relaxed);
        self.some.since.store(0, Relaxed);
        self.full.since.store(0, Relaxed);
    }

    /// Counts a block freed with a size that it does not have; whether it is the first.
    pub fn note_size_mismatch(&self) -> bool {
        self.size_mismatch.fetch_add(1, Relaxed) == 0
    }

    /// The counters at this moment; the locks count for themselves.
    pub fn stats(&self) -> ProcessEvents {
        ProcessEvents {
            drain_skipped: self.drain_skipped.load(Relaxed),
            size_mismatch: self.size_mismatch.load(Relaxed),
            pageoutrun: self.pageoutrun.load(Relaxed),
            pageoutrun_boost: self.pageoutrun_boost.load(Relaxed),
            kswapd_wakeups: self.kswapd_wakeups.load(Relaxed),
            workingset_refault: self.refaults.load(Relaxed),
            workingset_activate: self.activated.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
            blocked_ns: self.blocked_ns.load(Relaxed),
            longest_block_ns: self.longest_block_ns.load(Relaxed),
            visited_alloc: self.visited_alloc.load(Relaxed),
            visited_free: self.visited_free.load(Relaxed),
            bins_emptied: self.bins_emptied.load(Relaxed),
            lock_waits: 0,
            lock_wait_ns: 0,
            longest_lock_wait_ns: 0,
            stall_some_ns: self.some.total_ns.load(Relaxed),
            stall_full_ns: self.full.total_ns.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_of_some_and_of_all_threads() {
        let vmstat = Vmstat::new();
        vmstat.begin_stall(2, 100);
        vmstat.begin_stall(2, 130);
        vmstat.end_stall(150);
        vmstat.end_stall(190);
        let stats = vmstat.stats();
        assert_eq!((stats.stall_some_ns, stats.stall_full_ns), (90, 20));
    }

    #[test]
    fn blocked_time_adds_up_and_the_longest_is_known() {
        let vmstat = Vmstat::new();
        [300, 900, 100].into_iter().for_each(|ns| vmstat.note_blocked(ns));
        let stats = vmstat.stats();
        assert_eq!((stats.throttled, stats.blocked_ns, stats.longest_block_ns), (3, 1300, 900));
    }
}
