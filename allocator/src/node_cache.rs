//! Large runs that the threads of a node left for each other, between what each keeps and the zone.
//!
//! A run for which its thread has no room comes here whole, and goes to whichever thread wants that length
//! next. So batches of many threads do without the buddy core, whose work on a large block, to be merged
//! and split again, is many times as long, and no thread holds what another one could use. What comes back
//! takes a lock of its own, for a few dozen instructions; **nobody waits for it on the way of a request or a
//! free**, who finds it taken goes to the zone.
//!
//! **What goes back is in the zone before the lock is let go**, and before the hint says that it is gone, so
//! zones' locks are taken under it: no fork finds runs in nobody's hands, and who drains, as the last thing
//! before there is no memory, waits for those who do the same.
//!
//! What is here is of no use to the zone. So before the zone serves a request that found nothing here, as many
//! of the oldest pages go back to it, once these are some ([`OWED`]), but for those that pages found here make
//! up for ([`MADE_UP`]). What nobody needed for a while the keeper gives back.

use core::iter;

use crate::kept_runs::KeptRuns;
use crate::large_cache::MADE_UP;
use crate::lock::{FutexLock, Mutex, MutexGuard};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

/// Pages that it has at most.
pub(crate) const MOST: usize = (8 << 20) / zonal_numa::PAGE_SIZE;
/// So many pages are owed before the oldest runs leave for them.
pub(crate) const OWED: usize = MOST / 16;
/// So many runs go to a thread at most beside the one that it asked for.
const MORE: usize = 8;
/// So many generations pass at least before the keeper takes back what nobody needed in them.
const LEAST_AGE: u32 = 2;

/// What the threads of one node left. **All zeros are one without runs.**
#[derive(Debug)]
pub(crate) struct NodeCache {
    /// Pages of the runs, for who looks before it takes the lock: a hint. Written under it.
    nr_pages: AtomicUsize,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    runs: KeptRuns,
    /// As in [`crate::large_cache::LargeCache`], until [`OWED`].
    owed: usize,
    /// There never were fewer pages than that after the generation `since`: so many nobody needed.
    fewest: usize,
    since: u32,
    /// The generation in which a run last came, or went to a thread.
    used: u32,
}

impl NodeCache {
    /// A run of `nr_pages` pages, or slightly more, and into `kept` some of those that came last, of `room`
    /// pages in all.
    pub(crate) fn take(
        &self,
        pages: &Pages,
        nr_pages: usize,
        kept: &mut KeptRuns,
        room: usize,
    ) -> Option<PageRun> {
        let mut shared = self.shared.try_lock()?;
        let run = shared.runs.take(nr_pages)?;
        shared.owed = shared.owed.saturating_sub(nr_pages);
        shared.used = pages.generation();
        let most = kept.nr_pages() + room;
        for _ in 0..MORE {
            let fits = |newest: usize| kept.has_place() && kept.nr_pages() + newest <= most;
            if !shared.runs.newest_pages().is_some_and(fits) {
                break;
            }
            let Some(newest) = shared.runs.take_newest(pages) else { break };
            kept.keep(pages, newest);
        }
        self.note(shared);
        Some(run)
    }

    /// Takes a run of the node whose words are all 0, or returns it where there is no room.
    pub(crate) fn put(&self, pages: &Pages, run: PageRun) -> Result<(), PageRun> {
        let Some(mut shared) = self.shared.try_lock() else { return Err(run) };
        if !shared.runs.has_place() || shared.runs.nr_pages() + run.nr_pages() > MOST {
            return Err(run);
        }
        shared.runs.keep(pages, run);
        shared.used = pages.generation();
        self.note(shared);
        Ok(())
    }

    /// The zone has to give `nr_pages` pages to who found none here.
    pub(crate) fn note_miss(&self, pages: &Pages, nr_pages: usize) {
        if self.is_empty() {
            return;
        }
        let Some(mut shared) = self.shared.try_lock() else { return };
        shared.owed += nr_pages * MADE_UP;
        if shared.owed >= OWED * MADE_UP {
            let nr_owed = shared.owed / MADE_UP;
            shared.owed = 0;
            self.give_back(pages, shared, nr_owed);
        }
    }

    /// Gives the runs back that start from `start` up to `end`, unless somebody is at it: who wants to grow
    /// there does not wait.
    pub(crate) fn clear_way(&self, pages: &Pages, start: Pfn, end: Pfn) {
        if !self.is_empty()
            && let Some(mut shared) = self.shared.try_lock()
        {
            let runs = &mut shared.runs;
            pages.free_bulk(iter::from_fn(|| runs.take_from(pages, start, end)));
            self.note(shared);
        }
    }

    /// Gives back what nobody needed for so many generations. For the keeper.
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
            self.give_back(pages, shared, unused);
        }
    }

    /// Gives everything back to the zone; returns the number of pages. Waits for who does the same.
    pub(crate) fn drain(&self, pages: &Pages) -> usize {
        if self.is_empty() {
            return 0;
        }
        let shared = self.shared.lock();
        let nr_pages = shared.runs.nr_pages();
        self.give_back(pages, shared, nr_pages);
        nr_pages
    }

    /// Gives the oldest runs back that have `nr_pages` pages, or all.
    fn give_back(&self, pages: &Pages, mut shared: MutexGuard<'_, Shared>, nr_pages: usize) {
        let runs = &mut shared.runs;
        let least = runs.nr_pages().saturating_sub(nr_pages);
        let next = || (runs.nr_pages() > least).then(|| runs.take_to_keep(pages, least)).flatten();
        pages.free_bulk(iter::from_fn(next));
        self.note(shared);
    }

    /// Before the lock is let go.
    fn note(&self, mut shared: MutexGuard<'_, Shared>) {
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
