//! Rounds over all heaps: draining what sleeping threads hold, and fork.
//!
//! # Lock order
//!
//! registry pool -> gates -> huge index -> window -> zones -> metadata. The fork handlers take all
//! of them in this order; nobody takes an earlier one while holding a later one.

use core::ptr::NonNull;

use crate::class::SizeClass;
use crate::gate::{self, Barrier};
use crate::heap::{Entered, Heap};
use crate::mm::Mm;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::yield_now;

/// Heaps that share one membarrier.
pub(crate) const ROUND: usize = 64;
/// Looks at an owner that is inside before a drain gives it up: about a millisecond.
const DRAIN_PATIENCE: u32 = 200;
/// The same for fork, which has to have everybody: about a tenth of a second.
const FORK_PATIENCE: u32 = 20_000;

impl Mm {
    /// Calls `visit` inside the gate of every heap that can be entered. `own` is the calling
    /// thread's heap and is entered as its owner; the caller is inside no gate.
    pub(crate) fn visit_heaps(
        &self,
        own: Option<NonNull<Heap>>,
        mut visit: impl FnMut(&mut Entered<'_>),
    ) {
        if let Some(own) = own {
            // SAFETY: the caller's heap.
            visit(&mut unsafe { own.as_ref() }.enter());
        }
        let mut round: [Option<&'static Heap>; ROUND] = [None; ROUND];
        let mut nr = 0;
        for heap in self.registry.all() {
            if Some(NonNull::from(heap)) == own || heap.is_torn() || heap.is_dead() {
                continue;
            }
            round[nr] = Some(heap);
            nr += 1;
            if nr == ROUND {
                self.visit_round(&round[..nr], &mut visit);
                nr = 0;
            }
        }
        self.visit_round(&round[..nr], &mut visit);
        self.registry.for_each_dead(|heap| visit(&mut heap.enter()));
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
        let mut claimed = [false; ROUND];
        for (heap, claimed) in heaps.iter().flatten().zip(&mut claimed) {
            *claimed = heap.begin_visit();
        }
        self.heavy_barrier();
        for (heap, claimed) in heaps.iter().flatten().zip(claimed) {
            match claimed.then(|| heap.finish_visit(DRAIN_PATIENCE)).flatten() {
                Some(mut entered) => visit(&mut entered),
                None => {
                    self.drain_skipped.fetch_add(1, Relaxed);
                }
            }
        }
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
        let mut pages = self.drain_dead(false);
        self.visit_heaps(own, |entered| pages += entered.drain());
        // What the round sent to heaps that it had already visited.
        self.visit_heaps(own, |entered| pages += entered.drain());
        pages
    }

    /// Gives the calling thread's caches back. Returns the pages that went back.
    ///
    /// # Safety
    /// The calling thread owns `own`.
    pub unsafe fn drain_own(&self, own: NonNull<Heap>) -> usize {
        // SAFETY: the caller's promise.
        unsafe { own.as_ref() }.drain_owned()
    }

    /// Purges holes in the slabs of all heaps, in several visits where owners are busy. Returns
    /// the pages that went back.
    pub fn purge_holes(&self, own: Option<NonNull<Heap>>, goal_pages: usize) -> usize {
        let mut pages = 0;
        self.visit_heaps(own, |entered| {
            if pages < goal_pages {
                pages += entered.purge_holes(None, goal_pages - pages).nr_pages;
            }
        });
        pages
    }

    /// Unmaps huge mappings that were kept unused for that long. Returns the bytes.
    pub fn age_huge(&self, age_ns: u64) -> usize {
        self.huge().age(self.pages(), self.machine().now_ns(), age_ns)
    }

    /// Unmaps the huge mappings that are kept for reuse. Returns the bytes.
    pub fn drain_huge(&self) -> usize {
        self.huge().drain(self.pages())
    }

    /// Empties the heaps of threads that have ended, bins too; with `only_idle` those that lay
    /// there since the keeper last looked. One at a time, so that threads that start meanwhile
    /// find the others. Returns the pages that went back.
    pub(crate) fn drain_dead(&self, only_idle: bool) -> usize {
        let mut drained = 0;
        let wanted = |heap: &Heap| {
            !heap.is_drained() && (!only_idle || heap.epoch() == heap.seen.load(Relaxed))
        };
        while let Some(heap) = self.registry.take_dead(wanted) {
            // SAFETY: taken out of the pool, the heap is ours like a thread's own.
            let h = unsafe { heap.as_ref() };
            drained += h.drain_owned();
            if only_idle {
                h.enter().purge_holes(None, usize::MAX);
            }
            h.drained.store(h.epoch(), Relaxed);
            self.registry.put_dead(heap);
        }
        if only_idle {
            self.registry.for_each_dead(|heap| heap.seen.store(heap.epoch(), Relaxed));
        }
        drained
    }

    /// Before fork: everybody out, every lock held, so that the child finds all data whole.
    /// `own` is the calling thread's heap; the caller is inside no gate.
    pub fn prefork(&self, own: Option<NonNull<Heap>>) {
        self.registry.raw_lock().acquire();
        // The own heap too: another visitor may be at work in it, and must have gone.
        for heap in self.registry.all() {
            while !heap.begin_visit() {
                yield_now();
            }
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
    }

    /// After fork in the parent: everything goes on.
    pub fn postfork_parent(&self, own: Option<NonNull<Heap>>) {
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
        self.meta().raw_lock().reinit();
        // SAFETY: the caller is the only thread of the child, and `prefork` took the locks.
        unsafe { self.pages().child_after_fork() };
        self.huge().raw_lock().reinit();
        self.doorbell().reinit();
        self.registry.raw_lock().reinit();
        self.registry.all().for_each(Heap::reopen_gate);
        self.registry.bury_all_but(own);
    }
}

impl Heap {
    /// Empties everything, bins too. Only for the owner, between two operations.
    pub(crate) fn drain_owned(&self) -> usize {
        let mut inner = self.enter();
        for class in SizeClass::all() {
            inner.flush_bin(self, class);
        }
        inner.drain()
    }
}
