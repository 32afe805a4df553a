//! Draining: what heaps hold free goes back to the zones.

use core::ptr::NonNull;

use crate::class::SizeClass;
use crate::heap::{Entered, Heap, Patience};
use crate::mm::Mm;
use crate::purge::PurgeHow;
use crate::refill::Drained;
use crate::registry::Remains;
use crate::sweep::Sweep;
use crate::sync::atomic::Ordering::Relaxed;

impl Mm {
    /// Gives what threads hold back to the zones: messages, empty slabs, page caches; of threads
    /// that have ended also the bins. Returns the pages that went back.
    pub fn drain_all(&self, own: Option<NonNull<Heap>>) -> usize {
        self.drain_all_until(own, Patience::Wait, None)
    }

    /// The same with so much patience, and as far as it goes until `deadline_ns`, if there is one.
    pub fn drain_all_until(
        &self,
        own: Option<NonNull<Heap>>,
        patience: Patience,
        deadline_ns: Option<u64>,
    ) -> usize {
        let mut pages = self.drain_dead(None, patience, deadline_ns).drained;
        let mut drain = |entered: &mut Entered<'_>| {
            if !self.is_over(deadline_ns) {
                pages += entered.drain(deadline_ns).nr_pages;
            }
        };
        self.visit_heaps(own, patience, &mut drain);
        // What the round sent to heaps that it had already visited.
        self.visit_heaps(own, patience, &mut drain);
        pages
    }

    /// Whether that time has come; never where there is none.
    pub fn is_over(&self, deadline_ns: Option<u64>) -> bool {
        deadline_ns.is_some_and(|deadline| self.machine().now_ns() >= deadline)
    }

    /// Gives the calling thread's caches back, bins too, until `deadline_ns` if there is one. Returns the
    /// pages that went back.
    ///
    /// # Safety
    /// The calling thread owns `own`.
    pub unsafe fn drain_own(
        &self,
        own: NonNull<Heap>,
        patience: Patience,
        deadline_ns: Option<u64>,
    ) -> usize {
        // SAFETY: the caller's promise.
        let entered = unsafe { own.as_ref() }.enter_with(patience);
        entered.map_or(0, |mut entered| entered.drain_owned(deadline_ns).nr_pages)
    }

    /// Purges holes in the slabs of all heaps, in several visits where owners are busy. Returns
    /// the pages that went back.
    pub fn purge_holes(
        &self,
        own: Option<NonNull<Heap>>,
        patience: Patience,
        how: PurgeHow,
        goal_pages: usize,
    ) -> usize {
        let mut pages = 0;
        self.visit_heaps(own, patience, |entered| {
            if pages < goal_pages && !self.is_over(how.deadline_ns) {
                pages += entered.purge_holes(how, goal_pages - pages).nr_pages;
            }
        });
        pages
    }

    /// Unmaps huge mappings that were kept unused for that long. Returns the bytes.
    pub fn age_huge(&self, age_ns: u64) -> usize {
        self.huge().age(self.pages(), self.pages().awake_ns(), age_ns)
    }

    /// Unmaps the huge mappings that are kept for reuse. Returns the bytes.
    pub fn drain_huge(&self) -> usize {
        self.drain_huge_until(None)
    }

    /// The same until `deadline_ns`, if there is one.
    pub fn drain_huge_until(&self, deadline_ns: Option<u64>) -> usize {
        self.huge().drain(self.pages(), || !self.is_over(deadline_ns))
    }

    /// Empties the heaps of threads that have ended, bins too; for a `sweep` those that lay there
    /// since the keeper last looked, and their holes as far as it goes. One at a time, so that
    /// threads that start meanwhile find the others. Until `deadline_ns` at most, and twice as
    /// many in all as there are: others may send to them all the time.
    pub(crate) fn drain_dead(
        &self,
        sweep: Option<Sweep>,
        patience: Patience,
        deadline_ns: Option<u64>,
    ) -> DeadDrained {
        let mut done = DeadDrained::default();
        let mut turns = 2 * self.registry.nr_dead();
        let is_due = |heap: &Heap| {
            !heap.is_drained() && (sweep.is_none() || heap.epoch() == heap.seen.load(Relaxed))
        };
        let passes_by = |heap: &Heap| patience == Patience::PassBy && heap.is_visited();
        let wanted = |heap: &Heap| is_due(heap) && !passes_by(heap);
        let max_pages = sweep.map_or(usize::MAX, Sweep::next_pages);
        while done.purged < max_pages
            && turns > 0
            && !self.is_over(deadline_ns)
            && let Some((heap, remains)) = self.registry.take_any(wanted)
        {
            turns -= 1;
            // SAFETY: taken out of the pool, the heap is ours like a thread's own.
            let h = unsafe { heap.as_ref() };
            let Some(mut inner) = h.enter_with(patience) else {
                self.registry.put_dead(heap, remains);
                continue;
            };
            let drained = inner.drain_owned(deadline_ns);
            done.drained += drained.nr_pages;
            if remains == Remains::Common {
                // Objects came back to it, of whatever class.
                self.registry.note_common(h.node(), inner.worthy_classes(h));
            }
            let mut is_done = drained.is_whole;
            if let Some(Sweep { how, .. }) = sweep {
                // Nobody uses it, so its holes are cold whatever their age; huge pages are spared all the same.
                let how = PurgeHow { up_to: None, ..how };
                let holes = inner.purge_holes(how, max_pages - done.purged);
                done.purged += holes.nr_pages;
                is_done &= !holes.is_partial;
            }
            if is_done {
                h.drained.store(h.epoch(), Relaxed);
            }
            drop(inner);
            if remains == Remains::Common || !drained.is_whole {
                self.registry.put_dead(heap, remains);
            } else {
                // What its objects left, since it was emptied, is for all. If somebody is there now, it
                // counts as not drained again.
                self.share(heap);
            }
        }
        self.registry.for_each_dead(|heap| {
            if is_due(heap) && passes_by(heap) {
                self.vmstat().note_skipped();
            }
            if sweep.is_some() {
                heap.seen.store(heap.epoch(), Relaxed);
            }
        });
        done
    }
}

/// What draining the dead did, in pages.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct DeadDrained {
    /// Given back to the zones.
    pub(crate) drained: usize,
    /// Purged inside slabs.
    pub(crate) purged: usize,
}

impl Entered<'_> {
    /// Empties everything, bins too, until `deadline_ns` if there is one. Only for the owner, between two
    /// operations.
    pub(crate) fn drain_owned(&mut self, deadline_ns: Option<u64>) -> Drained {
        let heap = self.heap();
        heap.inbox.unmark();
        SizeClass::all().for_each(|class| self.flush_bin(heap, class));
        self.drain(deadline_ns)
    }
}
