//! The zone lock: a three-state futex mutex behind `lock_api`'s types.
//!
//! parking_lot's own mutex is out of the question here: it allocates when it parks and keeps
//! process-wide tables that a forked child inherits half-changed. This one is a single word:
//! nothing to allocate, and a child re-initialises it with one store.
//!
//! # Synchronisation
//!
//! | word    | value | meaning                               |
//! |---------|-------|---------------------------------------|
//! | `state` | 0     | free                                  |
//! |         | 1     | held, nobody waits                    |
//! |         | 2     | held, somebody may sleep on the word  |
//!
//! * lock: 0 -> 1 by compare-exchange, Acquire. A waiter swaps in 2 and sleeps while it reads 2;
//!   because it cannot know of other sleepers it keeps 2 when it gets the lock.
//! * unlock: swap 0, Release; if 2 was there, wake one.
//!
//! For how long somebody slept who found it held is counted, at the expense of who sleeps and who wakes
//! him: [`Waits`].
//!
//! The algorithm is the one of U. Drepper, "Futexes Are Tricky" (2011), mutex 3, with a bounded
//! spin in front as in Rust's standard library.

use zonal_stats::ProcessEvents;

use crate::fault::weakened_by;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::program::AtomicU64;
use crate::sync::{futex_wait, futex_wake, now_ns, spin};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;
/// How often a waiter looks before it sleeps: about the time of one short critical section.
const SPINS: u32 = if cfg!(zonal_loom) { 1 } else { 100 };

/// The raw lock word.
#[derive(Debug)]
pub struct FutexLock {
    state: AtomicU32,
    waits: Waits,
}

/// How long a lock was held while somebody slept for it. From when it is let go on, it is the kernel that
/// lets the sleeper wait. All Relaxed: statistics only.
#[derive(Debug)]
pub struct Waits {
    nr: AtomicU64,
    ns: AtomicU64,
    longest_ns: AtomicU64,
    /// Since when somebody has slept for the present holder; 0: nobody.
    since: AtomicU64,
    /// Threads that sleep or are about to.
    sleepers: AtomicU64,
}

impl Waits {
    const fn new() -> Waits {
        Waits {
            nr: AtomicU64::new(0),
            ns: AtomicU64::new(0),
            longest_ns: AtomicU64::new(0),
            since: AtomicU64::new(0),
            sleepers: AtomicU64::new(0),
        }
    }

    /// Somebody is about to sleep.
    fn begin(&self) {
        let _ = self.since.compare_exchange(0, now_ns(), Relaxed, Relaxed);
    }

    /// Who came to sleep has the lock; others sleep on, if there are any.
    fn begin_anew(&self) {
        self.since.store(0, Relaxed);
        if self.sleepers.load(Relaxed) > 0 {
            self.begin();
        }
    }

    /// A forked child: nobody sleeps.
    fn reinit(&self) {
        self.since.store(0, Relaxed);
        self.sleepers.store(0, Relaxed);
    }

    /// The holder is about to let it go.
    fn end(&self) {
        let since = self.since.swap(0, Relaxed);
        if since != 0 {
            let ns = now_ns().saturating_sub(since);
            self.nr.fetch_add(1, Relaxed);
            self.ns.fetch_add(ns, Relaxed);
            self.longest_ns.fetch_max(ns, Relaxed);
        }
    }

    /// Adds them to those of other locks.
    pub(crate) fn add_to(&self, events: &mut ProcessEvents) {
        events.lock_waits += self.nr.load(Relaxed);
        events.lock_wait_ns += self.ns.load(Relaxed);
        events.longest_lock_wait_ns =
            events.longest_lock_wait_ns.max(self.longest_ns.load(Relaxed));
    }
}

impl FutexLock {
    /// A free lock.
    #[cfg(not(zonal_loom))]
    pub const fn new() -> FutexLock {
        FutexLock { state: AtomicU32::new(FREE), waits: Waits::new() }
    }

    /// A free lock.
    #[cfg(zonal_loom)]
    pub fn new() -> FutexLock {
        FutexLock { state: AtomicU32::new(FREE), waits: Waits::new() }
    }

    /// Takes the lock, sleeping if it must.
    #[inline]
    pub fn acquire(&self) {
        // ORDERING: Acquire, pairs with the Release in `release`: the holder's writes are ours.
        if self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.acquire_contended();
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        // ORDERING: Acquire, as in `acquire`.
        self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
    }

    /// Gives the lock back. The caller holds it.
    #[inline]
    pub fn release(&self) {
        // Relaxed: for the figure. Who begins to sleep just now does so for no time.
        if self.state.load(Relaxed) == CONTENDED {
            self.waits.end();
        }
        // ORDERING: Release, pairs with the Acquire of the next holder.
        let order = weakened_by("lock_release_relaxed", Release);
        if self.state.swap(FREE, order) == CONTENDED {
            futex_wake(&self.state, 1);
        }
    }

    /// Whether somebody holds it (a hint only: it may change at once).
    pub fn is_held(&self) -> bool {
        self.state.load(Relaxed) != FREE
    }

    /// How long others slept for it.
    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Whether somebody sleeps until it is let go.
    #[cfg(test)]
    pub(crate) fn is_awaited(&self) -> bool {
        self.waits.since.load(Relaxed) != 0
    }

    /// Wakes who sleeps, as no child can do.
    #[cfg(test)]
    pub(crate) fn wake_all(&self) {
        futex_wake(&self.state, i32::MAX);
    }

    /// Makes the lock free whoever held it: for a forked child, whose only thread is the caller.
    pub fn reinit(&self) {
        self.state.store(FREE, Relaxed);
        self.waits.reinit();
    }

    #[cold]
    fn acquire_contended(&self) {
        for _ in 0..SPINS {
            match self.state.load(Relaxed) {
                // ORDERING: Acquire, as in `acquire`.
                FREE if self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok() => return,
                CONTENDED => break,
                _ => spin(),
            }
        }
        self.waits.sleepers.fetch_add(1, Relaxed);
        // ORDERING: Acquire, as in `acquire`.
        while self.state.swap(CONTENDED, Acquire) != FREE {
            self.waits.begin();
            futex_wait(&self.state, CONTENDED, None);
        }
        self.waits.sleepers.fetch_sub(1, Relaxed);
        self.waits.begin_anew();
    }
}

impl Default for FutexLock {
    fn default() -> FutexLock {
        FutexLock::new()
    }
}

#[cfg(not(zonal_loom))]
// SAFETY: `acquire` returns only after the word went from FREE to held by this thread, and only
// `release` or `reinit` (single-threaded child) frees it: mutual exclusion.
unsafe impl lock_api::RawMutex for FutexLock {
    const INIT: FutexLock = FutexLock::new();
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        self.acquire();
    }
    fn try_lock(&self) -> bool {
        self.try_acquire()
    }
    unsafe fn unlock(&self) {
        self.release();
    }
    fn is_locked(&self) -> bool {
        self.is_held()
    }
}

/// Data behind a [`FutexLock`]; the zone lock and every other lock of the core.
#[cfg(not(zonal_loom))]
pub type Mutex<T> = lock_api::Mutex<FutexLock, T>;
/// The guard of a [`Mutex`].
#[cfg(not(zonal_loom))]
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, FutexLock, T>;
#[cfg(zonal_loom)]
pub use crate::loom::mutex::{Mutex, MutexGuard};
