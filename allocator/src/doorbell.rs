//! The doorbell of kswapd: data below, a thread above.
//!
//! Slow paths that leave something to reclaim ring; whoever runs threads (ffi) sees that kswapd
//! is wanted and starts it. The bell is sticky: a ring is never lost, and a kswapd that goes home
//! looks at it once more.
//!
//! # Synchronisation
//!
//! | word      | writers                           | readers        | carries                      |
//! |-----------|-----------------------------------|----------------|------------------------------|
//! | `garbage` | ringers (1), kswapd (0)           | both           | there is something to do     |
//! | `kswapd`  | `claim` (0 -> 1), `retire` (-> 0) | ringers        | kswapd is on duty            |
//! | `alarm`   | `hurry`, `wake` (+1)              | kswapd (futex) | do not wait for the tick     |
//! | `steps`   | kswapd (+1)                       | waiters (futex)| kswapd gave memory back      |
//! | `waiting` | waiters (+1, -1)                  | kswapd         | somebody is to be woken      |
//! | `failures`| kswapd, direct reclaim (0)        | ringers        | rounds in a row without gain |
//! | `round`   | kswapd (+1)                       | waiters (futex)| odd: in the middle of one    |
//!
//! `steps`, `waiting` and `failures` are hints: a waiter that misses a step sleeps for its bounded time. A
//! hurry that comes before kswapd counted the last one is found at the next tick; one that comes later
//! wakes it. The end of a round wakes whoever sleeps for it, asked or not: the kernel compares `round` as it
//! puts a waiter to sleep, so none sleeps on a round that is over.
//!
//! kswapd clears `garbage` before it looks around, so a ring that it overlooks comes after the
//! clearing and stays: kswapd takes locks or runs a membarrier after the clearing. `retire`
//! stores `kswapd = 0` and then loads `garbage`, a ringer stores `garbage = 1` and then loads
//! `kswapd`: the store-load pattern, so both sides are SeqCst and at least one sees the other.

use zonal_numa::probe;

use crate::fault::{fault, weakened_by};
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{futex_wait, futex_wake};

/// One instance's doorbell.
#[derive(Debug)]
pub struct Doorbell {
    garbage: AtomicU32,
    kswapd: AtomicU32,
    alarm: AtomicU32,
    steps: AtomicU32,
    waiting: AtomicU32,
    failures: AtomicU32,
    round: AtomicU32,
}

/// Rounds for a watermark that gained nothing, after which nobody wakes kswapd for one: as the
/// kernel's `MAX_RECLAIM_RETRIES` for `kswapd_failures`.
const MAX_FAILURES: u32 = 16;

impl Doorbell {
    pub(crate) fn new() -> Doorbell {
        Doorbell {
            garbage: AtomicU32::new(0),
            kswapd: AtomicU32::new(0),
            alarm: AtomicU32::new(0),
            steps: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            round: AtomicU32::new(0),
        }
    }

    /// Something was left that can be reclaimed.
    #[inline]
    pub fn ring(&self) {
        // Relaxed: if it reads 1, kswapd has not yet cleared it and will look around later.
        if self.garbage.load(Relaxed) == 0 {
            // ORDERING: SeqCst, before the load of `kswapd` in `wants_kswapd`. An exchange, which on
            // x86-64 such a store is anyhow: in a model a store may seem to come before an exchange
            // that did not see it.
            self.garbage.swap(1, weakened_by("doorbell_ring_relaxed", SeqCst));
        }
    }

    /// Whether there is something to do and nobody on duty.
    #[inline]
    pub fn wants_kswapd(&self) -> bool {
        // Relaxed first: usually there is nothing to do.
        self.garbage.load(Relaxed) != 0
            // ORDERING: SeqCst, after the store of `garbage` in `ring`.
            && self.kswapd.load(weakened_by("doorbell_ring_relaxed", SeqCst)) == 0
    }

    /// Takes the duty; false when somebody has it.
    pub fn claim(&self) -> bool {
        self.kswapd.compare_exchange(0, 1, SeqCst, Relaxed).is_ok()
    }

    /// kswapd: starts a round. Whether anybody rang since the last.
    pub fn answer(&self) -> bool {
        // ORDERING: SeqCst, before kswapd looks around (which takes locks).
        self.garbage.swap(0, SeqCst) != 0
    }

    /// kswapd: gives the duty up; false when somebody rang meanwhile and it has to stay.
    pub fn retire(&self) -> bool {
        // ORDERING: SeqCst, the store of `kswapd` before the load of `garbage`.
        let order = weakened_by("doorbell_retire_relaxed", SeqCst);
        self.kswapd.store(0, order);
        self.garbage.load(order) == 0 || fault("doorbell_retire_blind") || !self.claim()
    }

    /// Gives the duty up although there is work: no kswapd could be started.
    pub fn retire_unserved(&self) {
        self.kswapd.store(0, SeqCst);
    }

    /// How often kswapd was hurried or woken.
    pub fn hurries(&self) -> u32 {
        // ORDERING: Acquire, pairs with Release in `wake`: who counted a wake finds what it was for.
        self.alarm.load(weakened_by("doorbell_wake_relaxed", Acquire))
    }

    /// kswapd: sleeps for `ns`, unless it was hurried or woken since it counted `hurries`, or until it
    /// is: the kernel compares as it puts the thread to sleep, so no wake is lost between the two.
    pub fn sleep_unless_hurried(&self, hurries: u32, ns: u64) {
        futex_wait(&self.alarm, hurries, Some(ns));
    }

    /// Ends kswapd's sleep, if there is one, though there may be nothing to do: something that it looks at
    /// has changed. If it is not asleep, it does not go to sleep on a count from before.
    pub fn wake(&self) {
        // Relaxed: a kswapd that comes now looks at all there is.
        if self.kswapd.load(Relaxed) != 0 {
            // ORDERING: Release, what has changed comes before.
            self.alarm.fetch_add(1, weakened_by("doorbell_wake_relaxed", Release));
            futex_wake(&self.alarm, 1);
        }
    }

    /// Wakes kswapd where it waits. One in the middle of a round looks again at its next tick.
    pub fn hurry(&self) {
        probe::mm_vmscan_wakeup_kswapd();
        self.ring();
        // Relaxed: a kswapd that comes or goes now finds the ring.
        if self.kswapd.load(Relaxed) == 0 {
            return;
        }
        // Relaxed: only has to change.
        if !fault("doorbell_hurry_silent") {
            self.alarm.fetch_add(1, Relaxed);
        }
        futex_wake(&self.alarm, 1);
    }

    /// A round for a watermark gave so many pages back.
    pub fn note_gain(&self, nr_pages: usize) {
        // Relaxed, as all below: hints.
        if nr_pages == 0 {
            let failures = self.failures.load(Relaxed);
            self.failures.store(failures.saturating_add(1), Relaxed);
        } else if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Rounds in a row that gained nothing.
    pub fn nr_failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// Whether so many rounds gained nothing that the next is not worth waking anybody.
    pub fn is_hopeless(&self) -> bool {
        self.nr_failures() >= MAX_FAILURES
    }

    /// kswapd: memory went back, others may try again.
    pub fn note_step(&self) {
        self.steps.fetch_add(1, Relaxed);
        if self.waiting.load(Relaxed) != 0 {
            futex_wake(&self.steps, i32::MAX);
        }
    }

    /// Waits for kswapd's next step, at most `ns`. False at once when nobody is on duty.
    pub fn wait_for_step(&self, ns: u64) -> bool {
        let steps = self.steps.load(Relaxed);
        if self.kswapd.load(Relaxed) == 0 {
            return false;
        }
        self.sleep(steps, ns);
        true
    }

    /// kswapd: a round begins.
    pub fn begin_round(&self) {
        self.round.store(self.round.load(Relaxed) | 1, Relaxed);
    }

    /// kswapd: its round is over.
    pub fn end_round(&self) {
        self.round.store((self.round.load(Relaxed) | 1).wrapping_add(1), Relaxed);
        if !fault("doorbell_round_silent") {
            futex_wake(&self.round, i32::MAX);
        }
    }

    /// Whether kswapd is in the middle of a round, which may bring something.
    pub fn is_in_round(&self) -> bool {
        let is_under_way = !self.round.load(Relaxed).is_multiple_of(2);
        is_under_way && self.kswapd.load(Relaxed) != 0 && !self.is_hopeless()
    }

    /// Waits until kswapd's round is over, at most `ns`; not where it is in none.
    pub fn wait_for_round(&self, ns: u64) {
        let round = self.round.load(Relaxed);
        if !round.is_multiple_of(2) {
            futex_wait(&self.round, round, Some(ns));
        }
    }

    fn sleep(&self, steps: u32, ns: u64) {
        self.waiting.fetch_add(1, Relaxed);
        futex_wait(&self.steps, steps, Some(ns));
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Waits for kswapd's next step, or for `ns` also where there is no kswapd.
    pub fn pause(&self, ns: u64) {
        self.sleep(self.steps.load(Relaxed), ns);
    }

    /// A forked child: kswapd stayed in the parent.
    pub(crate) fn reinit(&self) {
        self.kswapd.store(0, Relaxed);
        self.garbage.store(1, Relaxed);
        self.waiting.store(0, Relaxed);
        self.failures.store(0, Relaxed);
        self.round.store(0, Relaxed);
    }
}
