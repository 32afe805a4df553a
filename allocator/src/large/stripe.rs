//! A part of what the threads of a node left for each other, under one lock: see [`crate::large::node_cache`].
//!
//! What comes or goes here takes the lock for a few dozen instructions.
//!
//! **What goes back is in the zone before the lock is let go**, and before the hint says that it is gone, so
//! zones' locks are taken under it: no fork finds runs in nobody's hands, and who drains, as the last thing
//! before there is no memory, waits for those who do the same.

use core::iter;

use crate::large::kept_runs::{FIT_PART, KeptRuns, MAX_PAGES};
use crate::large::node_cache::STRIPE_MOST;
use crate::lock::{FutexLock, Mutex, MutexGuard};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU64, AtomicUsize};

/// It has fewer runs than that: of those that serve large blocks, [`STRIPE_MOST`] pages are fewer. Shorter ones, which
/// only requests for pages leave, may fill it with less.
const PLACES: usize = 60;
/// So many runs go to a thread at most beside the one that it asked for, of one length after the other.
const MORE: usize = 8;
/// So many generations pass at least before kswapd takes back what nobody needed in them.
const LEAST_AGE: u32 = 2;

/// Some of the runs that the threads of one node left. **All zeros are one without runs.**
#[derive(Debug)]
pub(crate) struct Stripe {
    /// Pages of the runs, for who looks before it takes the lock: a hint. Written under it.
    nr_pages: AtomicUsize,
    /// Which lengths there are, a bit each, from one page on: as above.
    lengths: AtomicU64,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    runs: KeptRuns<PLACES>,
    /// There never were fewer pages than that after the generation `since`: so many nobody needed.
    fewest: usize,
    since: u32,
    /// The generation in which a run last came, or went to a thread.
    used: u32,
}

/// Who holds the lock of a stripe.
type Locked<'a> = MutexGuard<'a, Shared>;

impl Stripe {
    /// Whether there seems to be a run that will do for `nr_pages` pages.
    pub(crate) fn may_serve(&self, nr_pages: usize) -> bool {
        // Relaxed: a hint.
        let longer = self.lengths.load(Relaxed) >> (nr_pages - 1);
        longer & !(!1 << (nr_pages / FIT_PART)) != 0
    }

    /// The lock, unless somebody has it.
    pub(crate) fn try_lock(&self) -> Option<Locked<'_>> {
        self.shared.try_lock()
    }

    /// As [`crate::large::node_cache::NodeCache::take`].
    pub(crate) fn take<const OTHERS: usize>(
        &self,
        mut shared: Locked<'_>,
        pages: &Pages,
        nr_pages: usize,
        (kept, room): (&mut KeptRuns<OTHERS>, usize),
    ) -> Option<PageRun> {
        let run = shared.runs.take(nr_pages)?;
        self.note_length(&shared, run.nr_pages());
        shared.used = pages.generation();
        let most = kept.nr_pages() + room;
        let mut length = run.nr_pages();
        for _ in 0..MORE {
            let left = most.saturating_sub(kept.nr_pages());
            let Some(next) = self.length_after(length, left).filter(|_| kept.has_place()) else {
                break;
            };
            let Some(head) = shared.runs.take_exact(next) else { break };
            self.note_length(&shared, next);
            kept.keep_kept(head, next);
            length = next;
        }
        self.note(shared);
        Some(run)
    }

    /// As [`crate::large::node_cache::NodeCache::put`].
    pub(crate) fn put(
        &self,
        mut shared: Locked<'_>,
        pages: &Pages,
        run: PageRun,
    ) -> Result<(), PageRun> {
        if !shared.runs.has_place() || shared.runs.nr_pages() + run.nr_pages() > STRIPE_MOST {
            return Err(run);
        }
        let nr_pages = run.nr_pages();
        shared.runs.keep(pages, run);
        self.note_length(&shared, nr_pages);
        shared.used = pages.generation();
        self.note(shared);
        Ok(())
    }

    /// Gives the runs back that start from `start` up to `end`.
    #[cold]
    pub(crate) fn clear_way(&self, mut shared: Locked<'_>, pages: &Pages, start: Pfn, end: Pfn) {
        let runs = &mut shared.runs;
        pages.free_bulk(iter::from_fn(|| runs.take_from(pages, start, end)));
        self.note_lengths(&shared);
        self.note(shared);
    }

    /// As [`crate::large::node_cache::NodeCache::age`].
    #[cold]
    pub(crate) fn age(&self, pages: &Pages, generations: u32) {
        if self.is_empty() {
            return;
        }
        let (now, generations) = (pages.generation(), generations.max(LEAST_AGE));
        let is_past = |since: u32| now.wrapping_sub(since) >= generations;
        let mut shared = self.shared.lock();
        let nr_pages = shared.runs.nr_pages();
        let unused = if is_past(shared.used) { nr_pages } else { shared.fewest };
        if is_past(shared.since) {
            shared.fewest = nr_pages - unused;
            shared.since = now;
            self.give_back(shared, pages, unused);
        }
    }

    /// As [`crate::large::node_cache::NodeCache::drain`].
    #[cold]
    pub(crate) fn drain(&self, pages: &Pages) -> usize {
        if self.is_empty() {
            return 0;
        }
        let shared = self.shared.lock();
        let nr_pages = shared.runs.nr_pages();
        self.give_back(shared, pages, nr_pages)
    }

    /// Gives the oldest runs back that have `nr_pages` pages, or all; returns the number of pages.
    #[cold]
    pub(crate) fn give_back(
        &self,
        mut shared: Locked<'_>,
        pages: &Pages,
        nr_pages: usize,
    ) -> usize {
        let runs = &mut shared.runs;
        let before = runs.nr_pages();
        let least = before.saturating_sub(nr_pages);
        let next = || (runs.nr_pages() > least).then(|| runs.take_to_keep(pages, least)).flatten();
        pages.free_bulk(iter::from_fn(next));
        let nr_gone = before - shared.runs.nr_pages();
        self.note_lengths(&shared);
        self.note(shared);
        nr_gone
    }

    /// The next length of which there is a run, no longer than `most`; after the longest comes the shortest.
    fn length_after(&self, nr_pages: usize, most: usize) -> Option<usize> {
        let most = most.min(MAX_PAGES);
        // Relaxed: only the holder of the lock asks.
        let fitting = self.lengths.load(Relaxed) & !(!0_u64).checked_shl(most as u32).unwrap_or(0);
        let longer = fitting & (!0_u64).checked_shl(nr_pages as u32).unwrap_or(0);
        let next = if longer != 0 { longer } else { fitting };
        (next != 0).then(|| next.trailing_zeros() as usize + 1)
    }

    /// A run of that length came or went.
    fn note_length(&self, shared: &Locked<'_>, nr_pages: usize) {
        let bit = 1 << (nr_pages - 1);
        // Relaxed: a hint, written under the lock.
        let lengths = self.lengths.load(Relaxed);
        let has_one = shared.runs.has(nr_pages);
        self.lengths.store(if has_one { lengths | bit } else { lengths & !bit }, Relaxed);
    }

    /// The same of any.
    fn note_lengths(&self, shared: &Locked<'_>) {
        (1..=MAX_PAGES).for_each(|nr_pages| self.note_length(shared, nr_pages));
    }

    /// Before the lock is let go.
    fn note(&self, mut shared: Locked<'_>) {
        let nr_pages = shared.runs.nr_pages();
        shared.fewest = shared.fewest.min(nr_pages);
        // Relaxed: a hint.
        self.nr_pages.store(nr_pages, Relaxed);
    }

    /// Whether there seems to be nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.nr_pages() == 0
    }

    /// Pages that it has.
    pub(crate) fn nr_pages(&self) -> usize {
        // Relaxed: as above.
        self.nr_pages.load(Relaxed)
    }

    /// The lock itself, for fork.
    pub(crate) fn raw_lock(&self) -> &FutexLock {
        // SAFETY: only `pages/fork.rs` takes it by this, and pairs every acquire with a release or a reinit;
        // others look at its figures.
        unsafe { self.shared.raw() }
    }
}
