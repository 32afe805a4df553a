//! Large runs that the threads of a node left for each other, between what each keeps and the zone.
//!
//! A run for which its thread has no room comes here whole, and goes to whichever thread wants that length
//! next. So batches of many threads do without the buddy core, whose work on a large block, to be merged
//! and split again, is many times as long, and no thread holds what another one could use.
//!
//! **Nobody waits here on the way of a request or a free.** The runs lie in some [stripes](crate::large::stripe),
//! each under a lock of its own. A thread looks first where it did so before, and then in the others, for
//! what is not there, or has no room. Where it finds a stripe held, it begins with the next one from then
//! on: so threads that run at the same time part, and who lost its processor in the middle stops nobody.
//!
//! What is here is of no use to the zone. So before the zone serves a request that found nothing here, as many
//! of the oldest pages go back to it, once these are some ([`OWED`]), but for those that pages found here make
//! up for ([`MADE_UP`]). What nobody needed for a while kswapd gives back.

use core::iter;

use crossbeam_utils::CachePadded;
use zonal_numa::PAGE_SIZE;

use crate::large::cache::MADE_UP;
use crate::large::kept_runs::KeptRuns;
use crate::large::stripe::Stripe;
use crate::lock::FutexLock;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

/// Pages that it has at most.
pub(crate) const MOST: usize = (8 << 20) / PAGE_SIZE;
/// As many as fit into a page.
pub(crate) const NR_STRIPES: usize = 4;
/// Pages that each has at most.
pub(crate) const STRIPE_MOST: usize = MOST / NR_STRIPES;
/// So many pages are owed before the oldest runs leave for them: fewer misses are chance.
pub(crate) const OWED: usize = MOST / 4;

/// What the threads of one node left. **All zeros are one without runs.**
#[derive(Debug)]
pub(crate) struct NodeCache {
    stripes: [CachePadded<Stripe>; NR_STRIPES],
    /// As in [`crate::large::cache::LargeCache`], until [`OWED`]. Relaxed: a heuristic reads it.
    owed: CachePadded<AtomicUsize>,
}

// Programs that lock all their memory lock this, too.
const _: () = assert!(cfg!(zonal_loom) || size_of::<NodeCache>() <= PAGE_SIZE);

/// Where a thread looks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StripeIdx(u8);

impl StripeIdx {
    /// Of a thread that never found a stripe held.
    pub(crate) const FIRST: StripeIdx = StripeIdx(0);

    fn next(self) -> StripeIdx {
        StripeIdx((self.0 + 1) % NR_STRIPES as u8)
    }

    /// All of them, from this one.
    fn round(self) -> impl Iterator<Item = StripeIdx> {
        iter::successors(Some(self), |at| Some(at.next())).take(NR_STRIPES)
    }
}

impl NodeCache {
    /// A run of `nr_pages` pages, or slightly more, and into `kept` some of other lengths, of `room` pages in all.
    pub(crate) fn take<const PLACES: usize>(
        &self,
        pages: &Pages,
        nr_pages: usize,
        home: &mut StripeIdx,
        (kept, room): (&mut KeptRuns<PLACES>, usize),
    ) -> Option<PageRun> {
        for at in home.round() {
            let stripe = self.stripe(at);
            if !stripe.may_serve(nr_pages) {
                continue;
            }
            let Some(shared) = stripe.try_lock() else {
                leave_held(home, at);
                continue;
            };
            if let Some(run) = stripe.take(shared, pages, nr_pages, (&mut *kept, room)) {
                self.pay_off(nr_pages);
                return Some(run);
            }
        }
        None
    }

    /// Takes a run of the node whose words are all 0, or returns it where there is no room.
    #[inline(never)]
    pub(crate) fn put(
        &self,
        pages: &Pages,
        mut run: PageRun,
        home: &mut StripeIdx,
    ) -> Result<(), PageRun> {
        for at in home.round() {
            let stripe = self.stripe(at);
            if stripe.nr_pages() + run.nr_pages() > STRIPE_MOST {
                continue;
            }
            let Some(shared) = stripe.try_lock() else {
                leave_held(home, at);
                continue;
            };
            match stripe.put(shared, pages, run) {
                Ok(()) => return Ok(()),
                Err(refused) => run = refused,
            }
        }
        Err(run)
    }

    /// The zone has to give `nr_pages` pages to who found none here.
    pub(crate) fn note_miss(&self, pages: &Pages, nr_pages: usize) {
        if self.is_empty() {
            return;
        }
        let missed = nr_pages * MADE_UP;
        if self.owed.fetch_add(missed, Relaxed) + missed < OWED * MADE_UP {
            return;
        }
        // Of two at a time one finds nothing more to do.
        let mut nr_owed = self.owed.swap(0, Relaxed) / MADE_UP;
        for _ in 0..NR_STRIPES {
            let fullest = self.stripes.iter().max_by_key(|stripe| stripe.nr_pages());
            let Some(stripe) = fullest.filter(|_| nr_owed > 0) else { break };
            let Some(shared) = stripe.try_lock() else { break };
            nr_owed = nr_owed.saturating_sub(stripe.give_back(shared, pages, nr_owed));
        }
    }

    /// So many pages were found here.
    fn pay_off(&self, nr_pages: usize) {
        // Mostly nothing is owed, and nobody writes to what all look at.
        if self.owed.load(Relaxed) != 0 {
            let less = |owed: usize| Some(owed.saturating_sub(nr_pages));
            let _ = self.owed.fetch_update(Relaxed, Relaxed, less);
        }
    }

    /// Gives the runs back that start from `start` up to `end`, unless somebody is at them: who wants to grow
    /// there does not wait.
    pub(crate) fn clear_way(&self, pages: &Pages, start: Pfn, end: Pfn) {
        for stripe in self.stripes.iter().filter(|stripe| !stripe.is_empty()) {
            if let Some(shared) = stripe.try_lock() {
                stripe.clear_way(shared, pages, start, end);
            }
        }
    }

    /// Gives back what nobody needed for so many generations. For kswapd.
    pub(crate) fn age(&self, pages: &Pages, generations: u32) {
        self.stripes.iter().for_each(|stripe| stripe.age(pages, generations));
    }

    /// Gives everything back to the zone; returns the number of pages. Waits for who does the same.
    pub(crate) fn drain(&self, pages: &Pages) -> usize {
        self.stripes.iter().map(|stripe| stripe.drain(pages)).sum()
    }

    /// Whether there seems to be nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.stripes.iter().all(|stripe| stripe.is_empty())
    }

    /// Pages that it has.
    pub(crate) fn nr_pages(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.nr_pages()).sum()
    }

    /// The locks themselves, for fork.
    pub(crate) fn raw_locks(&self) -> impl Iterator<Item = &FutexLock> {
        self.stripes.iter().map(|stripe| stripe.raw_lock())
    }

    fn stripe(&self, at: StripeIdx) -> &Stripe {
        &self.stripes[usize::from(at.0) % NR_STRIPES]
    }
}

/// Who finds the stripe held in which it looks first, looks first in the next one from now on.
fn leave_held(home: &mut StripeIdx, held: StripeIdx) {
    if *home == held {
        *home = held.next();
    }
}
