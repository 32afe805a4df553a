//! The owner gate: how others reach a thread's heap without making its owner pay.
//!
//! A biased lock. The owner passes on every slow path with two plain stores and one load; a
//! visitor (drain, reclaim, fork) pays for both sides with one `membarrier` for all heaps that it
//! visits in a round. Neither waits for the other, which may have lost its processor: a visitor that
//! finds the owner inside goes away, and an owner that finds a visitor does without its heap
//! (`heap/visited.rs`).
//!
//! # Synchronisation
//!
//! | word     | writers               | readers  | carries                                   |
//! |----------|-----------------------|----------|-------------------------------------------|
//! | `inside` | owner                 | visitor  | the owner works on the heap               |
//! | `claim`  | visitor (0 -> 1 -> 0) | owner    | a visitor has or wants the heap           |
//! |          | owner (1 -> 2)        | visitor  | the owner came, and works elsewhere       |
//! |          | owner or fork         | visitor  | it sleeps until the visitor leaves        |
//! |          | (1, 2 -> 3)           |          |                                           |
//! |          | visitor (2, 3 -> 0)   | both     | it has left; from 3, who sleeps is woken  |
//!
//! Owner: store `inside = 1`; light barrier; load `claim`. Visitor: set `claim`; heavy barrier;
//! load `inside`. This is the store-load pattern of Dekker: with a full barrier on both sides at
//! least one of the two sees the other's store. The heavy barrier (`MEMBARRIER_PRIVATE_EXPEDITED`)
//! runs a full barrier on every processor that runs a thread of this process, so the owner's side
//! needs only a compiler barrier: either its store of `inside` came before that barrier, then the
//! visitor reads 1; or its load of `claim` comes after it, then the owner reads the claim. Where
//! membarrier is missing the owner's side is a `fence(SeqCst)`. Where the system refuses it later, under a
//! filter that the program installed, nobody visits a heap that has an owner.
//!
//! Once the visitor has read `inside == 0` (Acquire, pairs with the owner's Release in `leave`) the
//! owner cannot enter until `claim` is 0 again (Release in `end_visit`, Acquire in `enter`), so all
//! private fields are the visitor's. A visitor looks for the owner to leave a few times and then goes
//! away, except for fork, which also sleeps until another visitor has left. The owner changes `claim` by
//! compare-exchange only: a visitor that leaves meanwhile has opened the gate for good. It sleeps only
//! where all heaps are asked for, its own among them, and until they are done (a trim, a report, the exit
//! report), and at a hard limit, before the program is told that there is no memory.
//!
//! A heap in the pool has no owner. Who claims it there, under the pool's lock, is alone in it without
//! any barrier: the last owner went out before it put the heap there, and the next one gets it under the
//! lock, and not while it is claimed (`is_visited`, Acquire, pairs with `end_visit`).
//!
//! The hit path is no part of this: how a visitor comes by the bins is told in [`crate::mark`].

use crate::fault::{fault, weakened_by};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicU32, fence};
use crate::sync::{futex_wait, futex_wake, spin, yield_now};

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const WANTED: u32 = 2;
const AWAITED: u32 = 3;
/// Looks at an owner that is inside before a visitor lets others run meanwhile.
pub(crate) const SPINS: u32 = 64;

/// How the two sides order their store before their load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Barrier {
    /// The visitor's membarrier serves both sides.
    Asymmetric,
    /// Each side has its own fence.
    Symmetric,
}

/// One heap's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: AtomicU32,
    claim: AtomicU32,
}

impl Gate {
    /// An open gate with nobody inside.
    pub(crate) fn new() -> Gate {
        Gate { inside: AtomicU32::new(0), claim: AtomicU32::new(0) }
    }

    /// The owner goes in, after any visitor has left, however long that takes. Not re-entrant.
    #[inline]
    pub(crate) fn enter(&self, barrier: Barrier) {
        loop {
            self.inside.store(1, Relaxed);
            light(barrier);
            // ORDERING: Acquire, pairs with Release in `end_visit`.
            if self.claim.load(Acquire) == FREE {
                return;
            }
            self.step_back();
        }
    }

    /// The owner goes in unless a visitor has or wants the heap. Makes no system call.
    #[inline]
    pub(crate) fn try_enter(&self, barrier: Barrier) -> bool {
        self.inside.store(1, Relaxed);
        light(barrier);
        // ORDERING: Acquire, as in `enter`.
        let is_free = self.claim.load(Acquire) == FREE || fault("gate_try_blind");
        if !is_free {
            // ORDERING: Release, as in `step_back`.
            self.inside.store(0, Release);
        }
        is_free
    }

    #[cold]
    fn step_back(&self) {
        // ORDERING: Release as in `leave`; nothing was changed, but the visitor need not know.
        self.inside.store(0, Release);
        self.wait();
    }

    /// Sleeps until the visitor has left.
    #[cold]
    fn wait(&self) {
        loop {
            // Relaxed: the claim only tells to wait; who comes then looks again with Acquire.
            match self.claim.load(Relaxed) {
                FREE => return,
                AWAITED => futex_wait(&self.claim, AWAITED, None),
                claim => {
                    let _ = self.claim.compare_exchange(claim, AWAITED, Relaxed, Relaxed);
                }
            }
        }
    }

    /// The owner, which was not let in, asks the visitor to make haste, and does not wait.
    pub(crate) fn hurry(&self) {
        if fault("gate_hurry_blind") {
            return self.claim.store(WANTED, Relaxed);
        }
        // Relaxed: a hint, which carries nothing.
        if self.claim.load(Relaxed) == CLAIMED {
            let _ = self.claim.compare_exchange(CLAIMED, WANTED, Relaxed, Relaxed);
        }
    }

    /// The owner goes out.
    #[inline]
    pub(crate) fn leave(&self) {
        // ORDERING: Release, pairs with Acquire in `settle`: the visitor sees all the owner did.
        self.inside.store(0, weakened_by("gate_leave_relaxed", Release));
    }

    /// Whether the owner is inside. From a signal handler on the owner's thread this tells that
    /// it interrupted a slow path.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside.load(Relaxed) != 0
    }

    /// A visitor announces itself; false when another visitor is there.
    ///
    /// The heavy barrier and [`Gate::settle`] must follow before the heap is touched.
    pub(crate) fn begin_visit(&self) -> bool {
        // ORDERING: Acquire, pairs with Release in the last visitor's `end_visit`.
        self.claim.compare_exchange(FREE, CLAIMED, Acquire, Relaxed).is_ok()
    }

    /// The same after any other visitor has left, however long that takes.
    pub(crate) fn begin_visit_by_all_means(&self) {
        while !self.begin_visit() {
            self.wait();
        }
    }

    /// Whether the owner came while a visitor has the heap, or a fork.
    pub(crate) fn is_wanted(&self) -> bool {
        // Relaxed: a hint to hurry.
        self.claim.load(Relaxed) >= WANTED
    }

    /// Whether somebody sleeps until the visitor leaves.
    pub(crate) fn is_awaited(&self) -> bool {
        // Relaxed: as above.
        self.claim.load(Relaxed) == AWAITED
    }

    /// Whether a visitor has or wants the heap. Where no new one can come, as in the pool to the holder
    /// of its lock, the answer no stands, and all that the last one did is seen.
    pub(crate) fn is_visited(&self) -> bool {
        // ORDERING: Acquire, pairs with Release in `end_visit`.
        self.claim.load(weakened_by("gate_visited_relaxed", Acquire)) != FREE
    }

    /// After the heavy barrier: waits until the owner is out, at most `patience` looks.
    ///
    /// On true the heap is the visitor's until [`Gate::end_visit`]. On false the owner stayed
    /// inside; the visitor still has to end its visit.
    pub(crate) fn settle(&self, patience: u32) -> bool {
        for look in 0..patience {
            // ORDERING: Acquire, pairs with Release in `leave`.
            if self.inside.load(Acquire) == 0 {
                return true;
            }
            if look < SPINS { spin() } else { yield_now() }
        }
        false
    }

    /// The visitor goes and lets the owner in.
    pub(crate) fn end_visit(&self) {
        // ORDERING: Release, pairs with Acquire in `enter` and `begin_visit`.
        let order = weakened_by("gate_end_relaxed", Release);
        if self.claim.swap(FREE, order) == AWAITED {
            futex_wake(&self.claim, i32::MAX);
        }
    }

    /// Opens the gate whoever was inside: for a forked child, whose only thread is the caller.
    pub(crate) fn reinit(&self) {
        self.inside.store(0, Relaxed);
        self.claim.store(FREE, Relaxed);
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

#[inline(always)]
fn light(barrier: Barrier) {
    match barrier {
        // Only the compiler must keep the order; the visitor's membarrier does the rest.
        #[cfg(not(zonal_loom))]
        Barrier::Asymmetric => core::sync::atomic::compiler_fence(SeqCst),
        // loom has no membarrier: the light side is modelled by a full fence.
        #[cfg(zonal_loom)]
        Barrier::Asymmetric if fault("gate_no_light_barrier") => (),
        #[cfg(zonal_loom)]
        Barrier::Asymmetric => fence(SeqCst),
        // ORDERING: SeqCst, the store of `inside` against the load of `claim`.
        Barrier::Symmetric => fence(SeqCst),
    }
}

/// The visitor's side of the barrier. With [`Barrier::Asymmetric`] the caller follows it with
/// `Machine::membarrier`; the fence orders its own claim stores in either case.
#[inline]
pub(crate) fn heavy() {
    // ORDERING: SeqCst, the store of `claim` against the load of `inside`.
    if !fault("gate_no_heavy_barrier") {
        fence(SeqCst);
    }
}
