//! Large runs that a thread freed and may want again, in front of the zone lock.
//!
//! As the stacks of [`crate::pcp`], it belongs to a heap and is touched inside the heap's gate
//! only. Runs of up to 128 KiB stay here, the newest in front, as many as the thread's share of the
//! page caches allows; the older half leaves under one lock.

use zonal_numa::NodeId;

use crate::mm::Attempt;
use crate::order::Order;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Migratetype, PageWord};

/// The longest run that is kept, in pages.
pub(crate) const MAX_PAGES: usize = 32;
/// The longest one that serves others than `malloc` and comes from others than `free`: blocks that grow
/// are better off with free neighbours, and `calloc` with pages known to be zero.
pub(crate) const MAX_SHARED: usize = 16;
const CAPACITY: usize = 32;
/// Runs of up to so many pages are taken from the zone by the batch.
const MAX_BATCHED: usize = 8;
const BATCH: usize = 8;
/// A run may be longer than what is asked for by one part in so many.
const FIT_PART: usize = 4;

/// The large runs that one thread keeps.
#[derive(Debug)]
pub(crate) struct LargeCache {
    /// The oldest first.
    runs: [Option<PageRun>; CAPACITY],
    nr: usize,
    nr_pages: usize,
}

impl LargeCache {
    pub(crate) const EMPTY: LargeCache =
        LargeCache { runs: [const { None }; CAPACITY], nr: 0, nr_pages: 0 };

    /// A run of `nr_pages` pages or slightly more.
    pub(crate) fn take(&mut self, pages: &Pages, nr_pages: usize) -> Option<PageRun> {
        let fits =
            |run: &PageRun| (nr_pages..=nr_pages + nr_pages / FIT_PART).contains(&run.nr_pages());
        let i = self.runs[..self.nr].iter().rposition(|run| run.as_ref().is_some_and(fits))?;
        let run = self.runs[i].take()?;
        self.runs[i..self.nr].rotate_left(1);
        self.nr -= 1;
        self.nr_pages -= run.nr_pages();
        pages.map.word(run.head()).store(PageWord::NOTHING.raw(), Relaxed);
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
        let nr = BATCH.min(CAPACITY - self.nr).min(room);
        if nr_pages > MAX_BATCHED || nr < 2 {
            return None;
        }
        let out = &mut self.runs[self.nr..self.nr + nr];
        let got = pages.alloc_bulk(from.node, order, Migratetype::Large, from.level, out);
        for run in out.iter().flatten() {
            let word = PageWord::pcp(run.nr_pages() as u32);
            pages.map.word(run.head()).store(word.raw(), Relaxed);
        }
        self.nr += got;
        self.nr_pages += got * nr_pages;
        self.take(pages, nr_pages)
    }

    /// Takes a run, whose words are all 0, or gives it back to its zone: when it is long, or may not
    /// rest here.
    pub(crate) fn put(&mut self, pages: &Pages, node: NodeId, run: PageRun) {
        let share = pages.pcp_share(Order::ZERO);
        if run.nr_pages() > MAX_SHARED.min(share) || !pages.may_rest(run.head(), node) {
            pages.free_run(run);
            return;
        }
        if self.nr == CAPACITY || self.nr_pages + run.nr_pages() > share {
            self.give_back(pages, self.nr / 2);
        }
        if self.nr_pages + run.nr_pages() > share {
            self.give_back(pages, 0);
        }
        self.keep(pages, run);
    }

    /// Whether a run of that length may be kept without another one leaving.
    pub(crate) fn has_room(&self, pages: &Pages, nr_pages: usize) -> bool {
        let share = pages.pcp_share(Order::ZERO);
        nr_pages <= MAX_PAGES && self.nr < CAPACITY && self.nr_pages + nr_pages <= share
    }

    /// Keeps a run for which there is room.
    pub(crate) fn keep(&mut self, pages: &Pages, run: PageRun) {
        pages.map.word(run.head()).store(PageWord::pcp(run.nr_pages() as u32).raw(), Relaxed);
        self.nr_pages += run.nr_pages();
        self.runs[self.nr] = Some(run);
        self.nr += 1;
    }

    /// Gives the runs back that start from `start` up to `end`: somebody wants to grow there.
    pub(crate) fn clear_way(&mut self, pages: &Pages, start: Pfn, end: Pfn) {
        let mut kept = 0;
        for i in 0..self.nr {
            let Some(run) = self.runs[i].take() else { continue };
            if (start..end).contains(&run.head()) {
                self.nr_pages -= run.nr_pages();
                pages.map.word(run.head()).store(PageWord::NOTHING.raw(), Relaxed);
                pages.free_run(run);
            } else {
                self.runs[kept] = Some(run);
                kept += 1;
            }
        }
        self.nr = kept;
    }

    /// Gives everything back to the zones; returns the number of pages.
    pub(crate) fn drain(&mut self, pages: &Pages) -> usize {
        let drained = self.nr_pages;
        self.give_back(pages, 0);
        drained
    }

    /// Pages that it holds.
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Gives the oldest runs back until `keep` are left.
    fn give_back(&mut self, pages: &Pages, keep: usize) {
        let surplus = self.nr - keep;
        for run in self.runs[..surplus].iter().flatten() {
            pages.map.word(run.head()).store(PageWord::NOTHING.raw(), Relaxed);
            self.nr_pages -= run.nr_pages();
        }
        pages.free_bulk(self.runs[..surplus].iter_mut().filter_map(Option::take));
        self.runs[..self.nr].rotate_left(surplus);
        self.nr = keep;
    }
}
