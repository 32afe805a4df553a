//! The keeper's look at all heaps: who slept since the last time gives back what it holds.

use core::ptr::NonNull;

use crate::heap::Heap;
use crate::mm::Mm;
use crate::visit::ROUND;

/// How far a sweep goes.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Slabs count as cold when no object came or went after this generation.
    pub up_to: u32,
    /// Holes purged in one heap before the next has its turn.
    pub max_pages: usize,
}

impl Mm {
    /// One sweep, for the single keeper. Heaps in which nothing happened since they were drained
    /// are passed over without a visit; those whose owner was active since the last sweep only
    /// lose cold holes. Returns the pages given back to the system.
    pub fn sweep(&self, sweep: Sweep) -> usize {
        let mut purged = 0;
        self.drain_dead(true);
        let mut round: [Option<&'static Heap>; ROUND] = [None; ROUND];
        let mut nr = 0;
        for heap in self.registry.all() {
            if heap.torn.get() || heap.epoch() == heap.drained.get() {
                continue;
            }
            round[nr] = Some(heap);
            nr += 1;
            if nr == ROUND {
                purged += self.sweep_round(&round, sweep);
                nr = 0;
            }
        }
        purged + self.sweep_round(&round[..nr], sweep)
    }

    fn sweep_round(&self, heaps: &[Option<&'static Heap>], sweep: Sweep) -> usize {
        let mut purged = 0;
        self.visit_round(heaps, &mut |entered| {
            let heap = entered.heap();
            let epoch = heap.epoch();
            let is_idle = epoch == heap.seen.get();
            heap.seen.set(epoch);
            if is_idle {
                entered.drain();
            }
            let holes = entered.purge_holes(Some(sweep.up_to), sweep.max_pages);
            purged += holes.nr_pages;
            // An idle heap is done when its slabs were old enough to be looked at.
            if is_idle && !holes.is_partial && !entered.has_young_slabs(sweep.up_to) {
                heap.drained.set(epoch);
            }
        });
        purged
    }
}

impl crate::heap::Entered<'_> {
    /// Whether a partly used slab changed after `generation`.
    fn has_young_slabs(&self, generation: u32) -> bool {
        self.classes.iter().any(|class| {
            let mut slab = class.partial.head;
            while let Some(s) = NonNull::new(slab) {
                // SAFETY: list members are live, and we are inside the gate.
                let s = unsafe { s.as_ref() };
                if !s.is_cold(generation) {
                    return true;
                }
                slab = s.next;
            }
            false
        })
    }
}
