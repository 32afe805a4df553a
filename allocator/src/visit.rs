//! Rounds over all heaps: draining what sleeping threads hold, and fork.
//!
//! # Lock order
//!
//! registry pool -> gates -> huge index -> window -> zones -> metadata -> fence. The fork handlers take all
//! of them in this order; nobody takes an earlier one while holding a later one.

use core::ptr::{self, NonNull};

use crate::class::SizeClass;
use crate::gate::{self, Barrier};
use crate::heap::{Entered, Heap, Patience};
use crate::lock::FutexLock;
use crate::mm::Mm;
use crate::purge::PurgeHow;
use crate::refill::Drained;
use crate::registry::{DeadVisit, Remains};
use crate::sweep::Sweep;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::yield_now;

/// Heaps that share one membarrier.
pub(crate) const ROUND: usize = 16;
/// How long a heap may stay claimed while others of its round are visited.
const LONGEST_CLAIM_NS: u64 = 200_000;
/// Attempts to visit a heap before it is left out.
const VISIT_TRIES: u32 = 8;
/// Looks at an owner that is inside before fork goes on without it: about a tenth of a second. It has to
/// have everybody.
const FORK_PATIENCE: u32 = 20_000;

impl Mm {
    /// Calls `visit` inside the gate of every heap that can be entered. `own` is the calling
    /// thread's heap and is entered as its owner; the caller is inside no gate. With patience this
    /// waits for others in that heap and in those of ended threads.
    pub(crate) fn visit_heaps(
        &self,
        own: Option<NonNull<Heap>>,
        patience: Patience,
        mut visit: impl FnMut(&mut Entered<'_>),
    ) {
        if let Some(own) = own {
            // SAFETY: the caller's heap.
            match unsafe { own.as_ref() }.enter_with(patience) {
                Some(mut entered) => visit(&mut entered),
                None => self.vmstat().note_skipped(),
            }
        }
        let nr_heaps = self.registry.nr_heaps();
        for first in (0..=nr_heaps).step_by(Turned::HEAPS) {
            self.visit_others(own, first, patience, &mut visit);
        }
    }

    /// The same for all heaps but the own one, of the numbers that one [`Turned`] has from `first` on: each
    /// once, whoever begins, ends or borrows meanwhile.
    fn visit_others(
        &self,
        own: Option<NonNull<Heap>>,
        first: usize,
        patience: Patience,
        visit: &mut impl FnMut(&mut Entered<'_>),
    ) {
        let mut turned = Turned { first, had: [0; Turned::HEAPS / u64::BITS as usize] };
        let is_other = |heap: &Heap| Some(NonNull::from(heap)) != own && !heap.is_torn();
        let mut round: [Option<&'static Heap>; ROUND] = [None; ROUND];
        let mut nr = 0;
        for heap in self.registry.all().filter(|heap| is_other(heap) && !heap.is_dead()) {
            if !turned.takes(heap) {
                continue;
            }
            round[nr] = Some(heap);
            nr += 1;
            if nr == ROUND {
                self.visit_round(&round[..nr], visit);
                nr = 0;
            }
        }
        self.visit_round(&round[..nr], visit);
        for heap in self.registry.all().filter(|heap| is_other(heap)) {
            // Where a thread has it by now, or borrows it: as those of threads.
            if turned.takes(heap) && !self.visit_dead(heap, patience, visit) {
                self.visit_round(&[Some(heap)], visit);
            }
        }
    }

    /// Visits a heap of the pool, in which it stays unless somebody else is there, for whom this waits
    /// with patience; false, and nothing done, where it is not in the pool.
    fn visit_dead(
        &self,
        heap: &'static Heap,
        patience: Patience,
        visit: &mut impl FnMut(&mut Entered<'_>),
    ) -> bool {
        match self.registry.visit_dead(heap) {
            DeadVisit::Entered(mut entered) => visit(&mut entered),
            DeadVisit::Gone => return false,
            DeadVisit::Busy if patience == Patience::PassBy => self.vmstat().note_skipped(),
            DeadVisit::Busy => {
                let taken = self.registry.take_any(|dead| ptr::eq(dead, heap));
                let Some((taken, remains)) = taken else { return false };
                visit(&mut heap.enter());
                self.registry.put_dead(taken, remains);
            }
        }
        true
    }

    pub(crate) fn visit_round(
        &self,
        heaps: &[Option<&'static Heap>],
        visit: &mut impl FnMut(&mut Entered<'_>),
    ) {
        // A process with one thread never gets further: no call that it did not ask for.
        if heaps.is_empty() {
            return;
        }
        let mut left = heaps;
        while !left.is_empty() {
            let Seen { nr_heaps, missed } = self.visit_some(left, visit);
            for i in (0..nr_heaps).filter(|i| missed & 1 << i != 0) {
                self.visit_late(&left[i..=i], visit);
            }
            left = &left[nr_heaps..];
            // Here nobody waits for this thread: better than to lose the processor in a visit.
            if !left.is_empty() {
                yield_now();
            }
        }
    }

    /// Visits a heap whose owner was inside, with others in turn: not with a claim, for which the owner
    /// would wait until this thread runs again.
    fn visit_late(&self, heap: &[Option<&'static Heap>], visit: &mut impl FnMut(&mut Entered<'_>)) {
        for _ in 1..VISIT_TRIES {
            yield_now();
            if self.visit_some(heap, visit).missed == 0 {
                return;
            }
        }
        self.vmstat().note_skipped();
    }

    /// Claims all these heaps, and visits them one by one until the first ones have kept the
    /// others claimed for long enough: at least one.
    fn visit_some(
        &self,
        heaps: &[Option<&'static Heap>],
        visit: &mut impl FnMut(&mut Entered<'_>),
    ) -> Seen {
        let mut claimed = [false; ROUND];
        for (heap, claimed) in heaps.iter().flatten().zip(&mut claimed) {
            *claimed = heap.begin_visit();
        }
        if claimed.contains(&true) {
            self.heavy_barrier();
        }
        let since = self.machine().now_ns();
        let mut seen = Seen::default();
        for (i, (heap, claimed)) in heaps.iter().flatten().zip(claimed).enumerate() {
            if i > 0 && self.machine().now_ns().saturating_sub(since) > LONGEST_CLAIM_NS {
                if claimed {
                    heap.leave_open();
                }
                continue;
            }
            seen.nr_heaps += 1;
            match claimed.then(|| heap.finish_visit(gate::SPINS)).flatten() {
                Some(mut entered) => visit(&mut entered),
                None => seen.missed |= 1 << i,
            }
        }
        seen
    }

    fn heavy_barrier(&self) {
        gate::heavy();
        if self.barrier() == Barrier::Asymmetric {
            self.machine().membarrier();
        }
    }

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
        let max_pages = sweep.map_or(usize::MAX, |sweep| sweep.max_pages);
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
                // Nobody uses it, so its holes are cold whatever their age.
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

    /// All locks, for their figures.
    pub(crate) fn locks(&self) -> impl Iterator<Item = &FutexLock> {
        let first = [self.registry.raw_lock(), self.huge().raw_lock()];
        let last = [self.meta().raw_lock(), self.fence().raw_lock()];
        first.into_iter().chain(self.pages().locks()).chain(last)
    }

    /// Before fork: everybody out, every lock held, so that the child finds all data whole.
    /// `own` is the calling thread's heap; the caller is inside no gate.
    pub fn prefork(&self, own: Option<NonNull<Heap>>) {
        self.registry.raw_lock().acquire();
        // The own heap too: another visitor may be at work in it, and must have gone.
        for heap in self.registry.all() {
            heap.begin_visit_by_all_means();
        }
        // The dead have no owner that could be inside, and nobody takes them over now.
        if self.registry.all().any(|h| Some(NonNull::from(h)) != own && !h.is_dead()) {
            self.heavy_barrier();
        }
        for heap in self.registry.all().filter(|h| Some(NonNull::from(*h)) != own) {
            // An owner that stays inside sits in a signal handler or left it by longjmp: its heap
            // cannot be used in the child.
            if !heap.is_torn() && !heap.is_settled(FORK_PATIENCE) {
                heap.set_torn(true);
            }
        }
        self.huge().raw_lock().acquire();
        self.pages().lock_all();
        self.meta().raw_lock().acquire();
        self.fence().raw_lock().acquire();
    }

    /// After fork in the parent: everything goes on.
    pub fn postfork_parent(&self, own: Option<NonNull<Heap>>) {
        self.fence().raw_lock().release();
        self.meta().raw_lock().release();
        // SAFETY: `prefork` took them on this thread.
        unsafe { self.pages().unlock_all() };
        self.huge().raw_lock().release();
        for heap in self.registry.all() {
            // What is dead and torn was torn by a fork before, of which this process is the child.
            if Some(NonNull::from(heap)) != own && !heap.is_dead() {
                heap.set_torn(false);
            }
            heap.leave_open();
        }
        self.registry.raw_lock().release();
    }

    /// After fork in the child: only the calling thread is left; the heaps of the others are dead.
    pub fn postfork_child(&self, own: Option<NonNull<Heap>>) {
        self.fence().raw_lock().reinit();
        self.meta().raw_lock().reinit();
        // SAFETY: the caller is the only thread of the child, and `prefork` took the locks.
        unsafe { self.pages().child_after_fork() };
        self.huge().raw_lock().reinit();
        self.doorbell().reinit();
        self.vmstat().after_fork();
        self.registry.raw_lock().reinit();
        self.registry.all().for_each(Heap::reopen);
        self.registry.bury_all_but(own);
        self.pages().set_threads(self.registry.nr_heaps() - self.registry.nr_dead());
    }
}

/// Which heaps had their turn, of some numbers from `first` on; one bit each.
struct Turned {
    first: usize,
    had: [u64; Turned::HEAPS / u64::BITS as usize],
}

impl Turned {
    /// As many as programs have; more take several of these.
    const HEAPS: usize = 4096;

    /// Whether it is the turn of `heap`, which it had then.
    fn takes(&mut self, heap: &Heap) -> bool {
        let Some(at) = heap.id().index().checked_sub(self.first) else { return false };
        let Some(had) = self.had.get_mut(at / u64::BITS as usize) else { return false };
        let bit = 1 << (at % u64::BITS as usize);
        let is_first = *had & bit == 0;
        *had |= bit;
        is_first
    }
}

/// What came of claiming some heaps.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    /// How many had their turn: the first ones.
    nr_heaps: usize,
    /// Those of them whose owner was inside, or another visitor; one bit each.
    missed: u64,
}

const _: () = assert!(ROUND <= u64::BITS as usize);

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
