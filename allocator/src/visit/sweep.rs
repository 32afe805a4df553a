//! kswapd's look at all heaps: who slept since the last time gives back what it holds.

use core::ptr::NonNull;

use crate::class::SizeClass;
use crate::deadline::Deadline;
use crate::heap::{Entered, Heap, OwnHeap, Patience};
use crate::mm::Mm;
use crate::purge::PurgeHow;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// How long the bins of one heap are emptied, before the rest of them waits for the next sweep: others of its round
/// are claimed meanwhile.
const LONGEST_FLUSH_NS: u64 = 500_000;
/// The same of all heaps in one sweep, which may be a call of the program's; but one batch of each.
const LONGEST_FLUSHES_NS: u64 = 1_000_000;
/// Objects between two looks at the time, and for the owner.
const FLUSH_BATCH: usize = 128;
/// So many times as long as it takes to count as asleep, a thread may be in the call that keeps its bins.
const LONGEST_CALL: u32 = 8;

/// What emptying the bins of a heap came to.
pub(crate) struct Flushed {
    had_any: bool,
    is_whole: bool,
}

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

/// What a sweep did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Swept {
    /// Pages given back to the system.
    pub nr_pages: usize,
    /// Of these, what ended threads had left, which counts as cold whatever its age.
    pub nr_dead: usize,
    /// The look for holes ended in some heap since its owner wanted it: [`Mm::sweep_on`].
    pub is_cut: bool,
}

impl Sweep {
    /// What is left of it after that.
    fn after(self, swept: &Swept) -> Sweep {
        Sweep { max_pages: self.max_pages.saturating_sub(swept.nr_pages), ..self }
    }

    /// Pages to purge in the next heap.
    pub(crate) fn next_pages(self) -> usize {
        self.step_pages.min(self.max_pages)
    }
}

impl Mm {
    /// One sweep, for kswapd. Heaps in which nothing happened since they were drained
    /// are passed over without a visit; those whose owner was active since the last sweep only
    /// lose cold holes. Bins are closed in one sweep, and emptied in a later one if they still are. `own`
    /// is the heap of the calling thread, if it has one.
    pub fn sweep(&self, own: Option<OwnHeap>, sweep: Sweep) -> Swept {
        let pages = self.pages();
        pages.online().iter().for_each(|node| pages.node_cache(node).age(pages, sweep.idle_for));
        self.barn().age(self, sweep.idle_for);
        let mut swept = Swept::default();
        let mut flush_ns = LONGEST_FLUSHES_NS;
        if let Some(mut entered) = own.as_ref().and_then(|own| own.try_enter()) {
            entered.sweep(sweep, &mut flush_ns, &mut swept);
        }
        let dead = self.drain_dead(Some(sweep.after(&swept)), Patience::PassBy, Deadline::NEVER);
        swept.nr_pages += dead.purged;
        swept.nr_dead += dead.purged;
        let is_due = |heap: &&Heap| {
            !(OwnHeap::is(own, heap) || heap.is_drained() || heap.is_torn() || heap.is_dead())
        };
        let begin = |heap: &Heap| heap.begin_visit() && heap.close_if_idle(sweep.idle_for);
        self.visit_each(self.registry.all().filter(is_due), &begin, &mut |entered| {
            entered.sweep(sweep.after(&swept), &mut flush_ns, &mut swept);
        });
        swept
    }

    /// Goes on with the last sweep in the heaps where the look for holes ended since the owner wanted in: it has had
    /// its heap meanwhile.
    pub fn sweep_on(&self, sweep: Sweep) -> Swept {
        let mut swept = Swept::default();
        // Relaxed: kswapd's own.
        let is_due =
            |heap: &&Heap| heap.watch.is_cut.load(Relaxed) && !heap.is_torn() && !heap.is_dead();
        self.visit_each(self.registry.all().filter(is_due), &Heap::begin_visit, &mut |entered| {
            entered.sweep_holes(sweep.after(&swept), &mut swept);
        });
        swept
    }
}

impl Heap {
    /// Whether its slow paths, `epoch` so far, have stood still for so many generations. For
    /// kswapd, which so remembers when it saw what.
    fn is_idle(&self, epoch: u32, generations: u32) -> bool {
        if self.watch.seen.swap(epoch, Relaxed) != epoch {
            self.watch.seen_at.store(self.mm().pages().generation(), Relaxed);
            return false;
        }
        self.has_passed(&self.watch.seen_at, generations)
    }

    fn has_passed(&self, since: &AtomicU32, generations: u32) -> bool {
        let now = self.mm().pages().generation();
        now.wrapping_sub(since.load(Relaxed)) >= generations
    }

    /// Closes the bins of a heap whose gate kswapd has claimed, if nothing else has happened there for so
    /// long: when they still are at a later sweep, its owner had no hit either. Once for each slow path: an
    /// owner that opens them for hits keeps what they hold. Always true.
    fn close_if_idle(&self, generations: u32) -> bool {
        let epoch = self.epoch();
        let was_seen = self.watch.seen.load(Relaxed) == epoch
            && self.has_passed(&self.watch.seen_at, generations);
        if was_seen
            && self.watch.closed.load(Relaxed) != epoch
            && !self.is_closed()
            && self.close_bins()
        {
            self.watch.closed.store(epoch, Relaxed);
            self.watch.closed_at.store(self.mm().pages().generation(), Relaxed);
        }
        true
    }

    /// Whether its bins are for kswapd to close and empty, if a call should have them just now. One that
    /// does not end keeps them: it may have been left by a jump.
    fn may_close_bins(&self, generations: u32) -> bool {
        self.can_close()
            && self.watch.closed.load(Relaxed) != self.epoch()
            && !self
                .has_passed(&self.watch.seen_at, generations.max(1).saturating_mul(LONGEST_CALL))
    }
}

impl Entered<'_> {
    fn sweep(&mut self, sweep: Sweep, flush_ns: &mut u64, swept: &mut Swept) {
        let heap = self.heap();
        let epoch = heap.epoch();
        let mut is_idle = heap.is_idle(epoch, sweep.idle_for);
        if is_idle {
            let bins = self.empty_closed_bins(sweep, flush_ns);
            is_idle = self.drain(sweep.how.deadline).is_whole && bins;
        } else {
            // An owner that runs now and then may not look for long.
            let owner = self.owner();
            self.collect_surplus(heap, || owner.waits());
            self.settle_flight(heap);
            if !heap.mm().is_crowded() {
                self.send_reused(heap, || owner.waits());
            }
        }
        let is_due = is_idle || self.walk.is_due(heap.mm().pages().generation());
        if !is_due {
            return;
        }
        let is_partial = self.walk.may_find(sweep.how.up_to) && self.sweep_holes(sweep, swept);
        // An idle heap is done when its slabs were old enough to be looked at.
        if is_idle && !is_partial && !self.has_young_slabs(sweep.how.up_to) {
            heap.watch.drained.store(epoch, Relaxed);
        }
    }

    /// Purges cold holes as far as the sweep goes, and as the owner lets it; whether there may be more.
    fn sweep_holes(&mut self, sweep: Sweep, swept: &mut Swept) -> bool {
        let holes = self.purge_holes(sweep.how, sweep.next_pages());
        self.heap().watch.is_cut.store(holes.is_cut, Relaxed);
        swept.nr_pages += holes.nr_pages;
        swept.is_cut |= holes.is_cut;
        holes.is_partial
    }

    /// Empties the bins of an owner that slept since they were closed, as far as that goes in what is left of
    /// `flush_ns`; whether there is nothing more to do about them: they are empty, or its own.
    fn empty_closed_bins(&mut self, sweep: Sweep, flush_ns: &mut u64) -> bool {
        let heap = self.heap();
        if !self.visitor_has_bins() {
            return !(self.is_visitor() && heap.may_close_bins(sweep.idle_for));
        }
        if !heap.has_passed(&heap.watch.closed_at, sweep.idle_for.max(1)) {
            return false;
        }
        let mm = heap.mm();
        let start = mm.machine().now_ns();
        let end = Deadline::at(start + LONGEST_FLUSH_NS.min(*flush_ns)).min(sweep.how.deadline);
        let Flushed { had_any, is_whole } = self.flush_closed_bins(|| end.has_passed(mm));
        if had_any {
            *flush_ns = flush_ns.saturating_sub(mm.machine().now_ns().saturating_sub(start));
        }
        if is_whole {
            // What comes into them from now on is for another time.
            heap.watch.closed.store(heap.epoch().wrapping_sub(1), Relaxed);
        }
        is_whole
    }

    /// Empties the bins, which are closed, until the owner waits or it is over.
    pub(crate) fn flush_closed_bins(&mut self, is_over: impl Fn() -> bool) -> Flushed {
        let heap = self.heap();
        let mut had_any = false;
        let is_whole = SizeClass::all().all(|class| {
            while self.has_in_bin(heap, class) {
                // One batch in any case, so that each heap gets on.
                if had_any && (self.is_wanted() || is_over()) {
                    return false;
                }
                self.flush_newest(heap, class, FLUSH_BATCH);
                had_any = true;
            }
            true
        });
        if had_any && is_whole {
            heap.mm().vmstat().note_bins_emptied();
        }
        Flushed { had_any, is_whole }
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
