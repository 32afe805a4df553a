//! The keeper's look at all heaps: who slept since the last time gives back what it holds.

use core::ptr::NonNull;

use crate::heap::{Entered, Heap, Patience};
use crate::mm::Mm;
use crate::purge::PurgeHow;
use crate::sync::atomic::Ordering::Relaxed;
use crate::visit::ROUND;

/// How far a sweep goes.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Slabs count as cold when no object came or went after the generation in it.
    pub how: PurgeHow,
    /// Generations for which a heap must have done nothing to be drained.
    pub idle_for: u32,
    /// Pages purged in holes of one heap before the next has its turn, and of all dead ones together.
    pub step_pages: usize,
    /// The same in all heaps.
    pub max_pages: usize,
}

impl Sweep {
    /// What is left of it after so many pages.
    fn after(self, nr_purged: usize) -> Sweep {
        Sweep { max_pages: self.max_pages.saturating_sub(nr_purged), ..self }
    }

    /// Pages to purge in the next heap.
    pub(crate) fn next_pages(self) -> usize {
        self.step_pages.min(self.max_pages)
    }
}

impl Mm {
    /// One sweep, for the single keeper. Heaps in which nothing happened since they were drained
    /// are passed over without a visit; those whose owner was active since the last sweep only
    /// lose cold holes. `own` is the heap of the calling thread, if it has one. Returns the pages
    /// given back to the system.
    pub fn sweep(&self, own: Option<NonNull<Heap>>, sweep: Sweep) -> usize {
        let pages = self.pages();
        pages.online().iter().for_each(|node| pages.node_cache(node).age(pages, sweep.idle_for));
        let mut purged = 0;
        if let Some(own) = own {
            // SAFETY: the caller's heap.
            let entered = unsafe { own.as_ref() }.try_enter();
            purged += entered.map_or(0, |mut entered| entered.sweep(sweep));
        }
        purged += self.drain_dead(Some(sweep.after(purged)), Patience::PassBy, None).purged;
        let mut round: [Option<&'static Heap>; ROUND] = [None; ROUND];
        let mut nr = 0;
        for heap in self.registry.all() {
            let is_own = Some(NonNull::from(heap)) == own;
            let is_done = heap.is_drained();
            if is_own || is_done || heap.is_torn() || heap.is_dead() {
                continue;
            }
            round[nr] = Some(heap);
            nr += 1;
            if nr == ROUND {
                purged += self.sweep_round(&round, sweep.after(purged));
                nr = 0;
            }
        }
        purged + self.sweep_round(&round[..nr], sweep.after(purged))
    }

    fn sweep_round(&self, heaps: &[Option<&'static Heap>], sweep: Sweep) -> usize {
        let mut purged = 0;
        self.visit_round(heaps, &mut |entered| purged += entered.sweep(sweep.after(purged)));
        purged
    }
}

impl Heap {
    /// Whether its slow paths, `epoch` so far, have stood still for so many generations. For the
    /// keeper, which so remembers when it saw what.
    fn is_idle(&self, epoch: u32, generations: u32) -> bool {
        let now = self.mm().pages().generation();
        if self.seen.swap(epoch, Relaxed) != epoch {
            self.seen_at.store(now, Relaxed);
            return false;
        }
        now.wrapping_sub(self.seen_at.load(Relaxed)) >= generations
    }
}

impl Entered<'_> {
    fn sweep(&mut self, sweep: Sweep) -> usize {
        let heap = self.heap();
        let epoch = heap.epoch();
        let mut is_idle = heap.is_idle(epoch, sweep.idle_for);
        if is_idle {
            is_idle = self.drain(sweep.how.deadline_ns).is_whole;
        } else {
            // An owner that runs now and then may not look for long.
            let owner = self.owner();
            self.collect_surplus(heap, || owner.waits());
            self.settle_flight(heap);
            if !heap.mm().is_crowded() {
                self.send_reused(heap, || owner.waits());
            }
        }
        let holes = self.purge_holes(sweep.how, sweep.next_pages());
        // An idle heap is done when its slabs were old enough to be looked at.
        if is_idle && !holes.is_partial && !self.has_young_slabs(sweep.how.up_to) {
            heap.drained.store(epoch, Relaxed);
        }
        holes.nr_pages
    }

    /// Whether a partly used slab changed after `generation`, or the owner is back.
    fn has_young_slabs(&self, generation: Option<u32>) -> bool {
        let Some(generation) = generation else { return false };
        self.classes.iter().any(|class| {
            let mut slab = class.partial.head;
            while let Some(s) = NonNull::new(slab) {
                // SAFETY: list members are live, and we are inside the gate.
                let s = unsafe { s.as_ref() };
                if !s.is_cold(generation) || self.is_wanted() {
                    return true;
                }
                slab = s.next;
            }
            false
        })
    }
}
