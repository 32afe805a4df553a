//! Draining the dead: heaps of threads that have ended go back to the zones as far as nothing in them is in use.

use core::ptr::NonNull;

use crate::deadline::Deadline;
use crate::heap::{Heap, Patience};
use crate::mm::Mm;
use crate::purge::PurgeHow;
use crate::registry::Remains;
use crate::sync::atomic::Ordering::Relaxed;
use crate::visit::sweep::Sweep;

/// What draining the dead did, in pages.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct DeadDrained {
    /// Given back to the zones.
    pub(crate) drained: usize,
    /// Purged inside slabs.
    pub(crate) purged: usize,
}

impl Mm {
    /// Empties the heaps of threads that have ended, bins too; for a `sweep` those that lay there
    /// since kswapd last looked, and their holes as far as it goes. One at a time, so that
    /// threads that start meanwhile find the others. Until `deadline` at most, and twice as
    /// many in all as there are: others may send to them all the time.
    pub(crate) fn drain_dead(
        &self,
        sweep: Option<Sweep>,
        patience: Patience,
        deadline: Deadline,
    ) -> DeadDrained {
        let mut done = DeadDrained::default();
        let mut turns = 2 * self.registry.nr_dead();
        let is_due = |heap: &Heap| {
            !heap.is_drained() && (sweep.is_none() || heap.epoch() == heap.watch.seen.load(Relaxed))
        };
        let passes_by = |heap: &Heap| patience == Patience::PassBy && heap.is_visited();
        let wanted = |heap: &Heap| is_due(heap) && !passes_by(heap);
        let max_pages = sweep.map_or(usize::MAX, Sweep::next_pages);
        while done.purged < max_pages
            && turns > 0
            && !deadline.has_passed(self)
            && let Some(taken) = self.registry.take_any(wanted)
        {
            turns -= 1;
            let holes = sweep.map(|sweep| (sweep.how, max_pages - done.purged));
            let one = self.drain_one_dead(taken, holes, patience, deadline);
            done.drained += one.drained;
            done.purged += one.purged;
        }
        self.registry.for_each_dead(|heap| {
            if is_due(heap) && passes_by(heap) {
                self.vmstat().note_skipped();
            }
            if sweep.is_some() {
                heap.watch.seen.store(heap.epoch(), Relaxed);
            }
        });
        done
    }

    /// Empties a heap that was taken out of the pool, and so many pages of its `holes`, and puts it back.
    fn drain_one_dead(
        &self,
        (heap, remains): (NonNull<Heap>, Remains),
        holes: Option<(PurgeHow, usize)>,
        patience: Patience,
        deadline: Deadline,
    ) -> DeadDrained {
        // SAFETY: taken out of the pool, the heap is ours like a thread's own.
        let h = unsafe { heap.as_ref() };
        let Some(mut inner) = h.enter_with(patience) else {
            self.registry.put_dead(heap, remains);
            return DeadDrained::default();
        };
        let drained = inner.drain_owned(deadline);
        let mut done = DeadDrained { drained: drained.nr_pages, purged: 0 };
        if remains == Remains::Common {
            // Objects came back to it, of whatever class.
            self.registry.note_common(h.node(), inner.worthy_classes(h));
        }
        let mut is_done = drained.is_whole;
        if let Some((how, max_pages)) = holes {
            // No thread has it, so its holes count as cold whatever their age; huge pages are spared all the same.
            let holes = inner.purge_holes(PurgeHow { up_to: None, ..how }, max_pages);
            done.purged = holes.nr_pages;
            is_done &= !holes.is_partial;
        }
        if is_done {
            h.watch.drained.store(h.epoch(), Relaxed);
        }
        drop(inner);
        if remains == Remains::Common || !drained.is_whole {
            self.registry.put_dead(heap, remains);
        } else {
            // What its objects left, since it was emptied, is for all. If somebody is there now, it
            // counts as not drained again.
            self.share(heap);
        }
        done
    }
}
