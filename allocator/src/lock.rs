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
//! * A waiter whose errand somebody else did meanwhile goes away without the lock, and whoever did it
//!   wakes all of them: one after the other they would each wait for a processor first. It looks only
//!   after it swapped in 2 and found the lock held: so the holder knows of the others, also where this
//!   waiter took the one wake that a release gives.
//!
//! For how long a thread slept that found it held is counted, at its own expense: [`Waits`].
//!
//! The algorithm is the one of U. Drepper, "Futexes Are Tricky" (2011), mutex 3, with a bounded
//! spin in front as in Rust's standard library.

use zonal_stats::ProcessEvents;

use crate::fault::{fault, weakened_by};
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
pub(crate) struct FutexLock {
    state: AtomicU32,
    waits: Waits,
}

/// How long threads slept for a lock, each from its first sleep until it had it or went away: also while
/// the kernel let it wait for a processor, or others were faster. All Relaxed: statistics only.
#[derive(Debug)]
pub(crate) struct Waits {
    nr: AtomicU64,
    ns: AtomicU64,
    longest_ns: AtomicU64,
}

impl Waits {
    const fn new() -> Waits {
        Waits { nr: AtomicU64::new(0), ns: AtomicU64::new(0), longest_ns: AtomicU64::new(0) }
    }

    fn note(&self, ns: u64) {
        self.nr.fetch_add(1, Relaxed);
        self.ns.fetch_add(ns, Relaxed);
        self.longest_ns.fetch_max(ns, Relaxed);
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
    pub(crate) const fn new() -> FutexLock {
        FutexLock { state: AtomicU32::new(FREE), waits: Waits::new() }
    }

    /// A free lock.
    #[cfg(zonal_loom)]
    pub(crate) fn new() -> FutexLock {
        FutexLock { state: AtomicU32::new(FREE), waits: Waits::new() }
    }

    /// Takes the lock, sleeping if it must.
    #[inline]
    pub(crate) fn acquire(&self) {
        // ORDERING: Acquire, pairs with the Release in `release`: the holder's writes are ours.
        if self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.acquire_contended(|| false);
        }
    }

    /// Takes the lock, or goes away once `is_done`, which whoever does it tells by
    /// [`FutexLock::wake_all`]. Whether it took the lock.
    pub(crate) fn acquire_unless(&self, is_done: impl Fn() -> bool) -> bool {
        self.try_acquire() || self.acquire_contended(is_done)
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_acquire(&self) -> bool {
        // ORDERING: Acquire, as in `acquire`.
        self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
    }

    /// Gives the lock back. The caller holds it.
    #[inline]
    pub(crate) fn release(&self) {
        // ORDERING: Release, pairs with the Acquire of the next holder.
        let order = weakened_by("lock_release_relaxed", Release);
        if self.state.swap(FREE, order) == CONTENDED {
            futex_wake(&self.state, 1);
        }
    }

    /// Lets all who sleep look whether what they came for is done. Who sleeps just now may miss it where the
    /// caller does not hold the lock.
    pub(crate) fn wake_all(&self) {
        if self.state.load(Relaxed) == CONTENDED {
            futex_wake(&self.state, i32::MAX);
        }
    }

    /// Whether somebody holds it (a hint only: it may change at once).
    pub(crate) fn is_held(&self) -> bool {
        self.state.load(Relaxed) != FREE
    }

    /// How long others slept for it.
    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Whether somebody may sleep until it is let go.
    #[cfg(test)]
    pub(crate) fn is_awaited(&self) -> bool {
        self.state.load(Relaxed) == CONTENDED
    }

    /// Makes the lock free whoever held it: for a forked child, whose only thread is the caller.
    pub(crate) fn reinit(&self) {
        self.state.store(FREE, Relaxed);
    }

    #[cold]
    fn acquire_contended(&self, is_done: impl Fn() -> bool) -> bool {
        for _ in 0..SPINS {
            match self.state.load(Relaxed) {
                // ORDERING: Acquire, as in `acquire`.
                FREE if self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok() => {
                    return true;
                }
                CONTENDED => break,
                _ => spin(),
            }
        }
        let mut since = None;
        let is_ours = loop {
            if fault("lock_leaves_early") && is_done() {
                break false;
            }
            // ORDERING: Acquire, as in `acquire`.
            if self.state.swap(CONTENDED, Acquire) == FREE {
                break true;
            }
            if is_done() {
                break false;
            }
            since.get_or_insert_with(now_ns);
            futex_wait(&self.state, CONTENDED, None);
        };
        if let Some(since) = since {
            self.waits.note(now_ns().saturating_sub(since));
        }
        is_ours
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
pub(crate) type Mutex<T> = lock_api::Mutex<FutexLock, T>;
/// The guard of a [`Mutex`].
#[cfg(not(zonal_loom))]
pub(crate) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, FutexLock, T>;
#[cfg(zonal_loom)]
pub(crate) use crate::loom::mutex::{Mutex, MutexGuard};

/// Locks `mutex`, or returns `None` once `is_done`, as [`FutexLock::acquire_unless`].
pub(crate) fn lock_unless<T>(
    mutex: &Mutex<T>,
    is_done: impl Fn() -> bool,
) -> Option<MutexGuard<'_, T>> {
    // SAFETY: what is taken is the guard's, which releases it.
    unsafe { mutex.raw().acquire_unless(is_done).then(|| mutex.make_guard_unchecked()) }
}
