//! Rounds over all heaps, those of sleeping threads too: who visits which, and in what order.

use core::ptr;

use crate::gate::{self, Barrier};
use crate::heap::{Entered, Heap, OwnHeap, Patience};
use crate::mm::Mm;
use crate::registry::DeadVisit;
use crate::sync::yield_now;

/// Heaps that share one membarrier.
const ROUND: usize = 16;
/// How long a heap may stay claimed while others of its round are visited.
const LONGEST_CLAIM_NS: u64 = 200_000;
/// Attempts to visit a heap before it is left out.
const VISIT_TRIES: u32 = 8;

impl Mm {
    /// Calls `visit` inside the gate of every heap that can be entered. `own` is the calling
    /// thread's heap and is entered as its owner; the caller is inside no gate. With patience this
    /// waits for others in that heap and in those of ended threads.
    pub(crate) fn visit_heaps(
        &self,
        own: Option<OwnHeap>,
        patience: Patience,
        visit: impl FnMut(&mut Entered<'_>),
    ) {
        self.visit_heaps_by(&Heap::begin_visit, own, patience, visit);
    }

    /// The same where `begin` claims the heaps of other threads.
    pub(crate) fn visit_heaps_by(
        &self,
        begin: &impl Fn(&Heap) -> bool,
        own: Option<OwnHeap>,
        patience: Patience,
        mut visit: impl FnMut(&mut Entered<'_>),
    ) {
        if let Some(own) = own {
            match own.enter_with(patience) {
                Some(mut entered) => visit(&mut entered),
                None => self.vmstat().note_skipped(),
            }
        }
        let nr_heaps = self.registry.nr_heaps();
        for first in (0..=nr_heaps).step_by(Turned::HEAPS) {
            self.visit_others(begin, own, first, patience, &mut visit);
        }
    }

    /// The same for all heaps but the own one, of the numbers that one [`Turned`] has from `first` on: each
    /// once, whoever begins, ends or borrows meanwhile.
    fn visit_others(
        &self,
        begin: &impl Fn(&Heap) -> bool,
        own: Option<OwnHeap>,
        first: usize,
        patience: Patience,
        visit: &mut impl FnMut(&mut Entered<'_>),
    ) {
        let mut turned = Turned { first, had: [0; Turned::HEAPS / u64::BITS as usize] };
        let is_other = |heap: &Heap| !OwnHeap::is(own, heap) && !heap.is_torn();
        let owned = self.registry.all().filter(|heap| is_other(heap) && !heap.is_dead());
        self.visit_each(owned.filter(|heap| turned.takes(heap)), begin, visit);
        for heap in self.registry.all().filter(|heap| is_other(heap)) {
            // Where a thread has it by now, or borrows it: as those of threads.
            if turned.takes(heap) && !self.visit_dead(heap, patience, visit) {
                self.visit_round(&[Some(heap)], begin, visit);
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

    /// Visits these heaps, each of which `begin` claims, so many with one barrier.
    pub(crate) fn visit_each(
        &self,
        heaps: impl Iterator<Item = &'static Heap>,
        begin: &dyn Fn(&Heap) -> bool,
        visit: &mut dyn FnMut(&mut Entered<'_>),
    ) {
        let mut round: [Option<&'static Heap>; ROUND] = [None; ROUND];
        let mut nr = 0;
        for heap in heaps {
            round[nr] = Some(heap);
            nr += 1;
            if nr == ROUND {
                self.visit_round(&round, begin, visit);
                nr = 0;
            }
        }
        self.visit_round(&round[..nr], begin, visit);
    }

    /// The same for some heaps.
    fn visit_round(
        &self,
        heaps: &[Option<&'static Heap>],
        begin: &dyn Fn(&Heap) -> bool,
        visit: &mut dyn FnMut(&mut Entered<'_>),
    ) {
        // A process with one thread never gets further: no call that it did not ask for.
        if heaps.is_empty() {
            return;
        }
        let mut left = heaps;
        while !left.is_empty() {
            let Seen { nr_heaps, missed, is_refused } = self.visit_some(left, begin, visit);
            if is_refused {
                // So would each of them be. Not kept for later: a filter belongs to a thread.
                left.iter().for_each(|_| self.vmstat().note_skipped());
                return;
            }
            for i in (0..nr_heaps).filter(|i| missed & 1 << i != 0) {
                self.visit_late(&left[i..=i], begin, visit);
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
    fn visit_late(
        &self,
        heap: &[Option<&'static Heap>],
        begin: &dyn Fn(&Heap) -> bool,
        visit: &mut dyn FnMut(&mut Entered<'_>),
    ) {
        for _ in 1..VISIT_TRIES {
            yield_now();
            let seen = self.visit_some(heap, begin, visit);
            if seen.is_refused {
                break;
            }
            if seen.missed == 0 {
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
        begin: &dyn Fn(&Heap) -> bool,
        visit: &mut dyn FnMut(&mut Entered<'_>),
    ) -> Seen {
        let mut claimed = [false; ROUND];
        for (heap, claimed) in heaps.iter().flatten().zip(&mut claimed) {
            *claimed = begin(heap);
        }
        if claimed.contains(&true) && !self.heavy_barrier() {
            // An owner may be inside unseen.
            let ours = heaps.iter().flatten().zip(claimed).filter(|(_, claimed)| *claimed);
            ours.for_each(|(heap, _)| heap.leave_open());
            return Seen { is_refused: true, ..Seen::default() };
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
            let entered = if claimed { heap.finish_visit(gate::SPINS) } else { None };
            match entered {
                Some(mut entered) => visit(&mut entered),
                None => seen.missed |= 1 << i,
            }
        }
        seen
    }

    /// The visitor's side of the gates; false where the system refuses it, as under a filter that came
    /// later: then what owners do is not to be seen.
    #[must_use]
    pub(crate) fn heavy_barrier(&self) -> bool {
        gate::heavy();
        self.barrier() == Barrier::Symmetric || self.machine().membarrier()
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
    /// The system refused the barrier: none had its turn.
    is_refused: bool,
}

const _: () = assert!(ROUND <= u64::BITS as usize);
