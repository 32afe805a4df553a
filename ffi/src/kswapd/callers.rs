//! Rounds of reclaim by callers, where there is no kswapd: now and then at the end of a slow path.
//!
//! Nobody does them while the program sleeps. Its memory does not age then: a program that wakes up wants it.
//! So pauses are told apart from work by the number of calls between two looks at the clock.

use core::cell::UnsafeCell;
use core::mem;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use zonal_allocator::{Mm, OwnHeap};
use zonal_reclaim::kswapd::Kswapd;

use super::{
    NOT_BEFORE, State, TERMS, WORTH_PAGES, config, is_own_process, is_thread_wanted, may_start,
};
use crate::fork;

/// Rounds by callers are at least this far apart.
const INLINE_NS: u64 = 50_000_000;
/// What rounds know, and how many terms had ended when it was last used.
static STATE: State<(Kswapd, u32)> = State(UnsafeCell::new(None));
static BUSY: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU32 = AtomicU32::new(0);
/// Slow paths between two looks at the clock.
const CALLS_PER_LOOK: u32 = 16;
/// No round before this time.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// The last look at the clock, the calls until then, and the time in all for which nobody looked though
/// there was work.
static LOOKED: AtomicU64 = AtomicU64::new(0);
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);
static ASLEEP: AtomicU64 = AtomicU64::new(0);
/// So many calls that are further apart than this are a pause of the program.
const AWAKE_NS: u64 = 10_000_000;
/// Short calls between two looks, which count as so many times [`CALLS_PER_LOOK`].
const LOOKS_SAVED: u32 = 8;

/// At the end of a slow path, while the thread's heap `own` is still taken: does a round if that is
/// the caller's part. True when a thread is wanted instead: [`super::start`] it once the heap is back.
#[inline]
pub(crate) fn attend(mm: &'static Mm, own: OwnHeap) -> bool {
    mm.doorbell().wants_kswapd() && attend_now(mm, own)
}

/// Whether it is time to look at the clock, which takes a call of [`attend`]: then who could do without a
/// slow call makes one. The others count.
#[inline]
pub(crate) fn is_look_due(mm: &Mm) -> bool {
    if !mm.doorbell().wants_kswapd() {
        return false;
    }
    let calls = CALLS.load(Relaxed).wrapping_add(1);
    // As that call finds it, but not as often, for these take little time.
    let is_due = calls.is_multiple_of(LOOKS_SAVED * CALLS_PER_LOOK);
    if !is_due {
        CALLS.store(calls, Relaxed);
    }
    is_due
}

/// The same for who counted as many calls by himself.
pub(crate) fn is_look_due_after_many(mm: &Mm) -> bool {
    let is_due = mm.doorbell().wants_kswapd();
    if is_due {
        CALLS.store(before_look(CALLS.load(Relaxed)), Relaxed);
    }
    is_due
}

/// The count after as many calls more as come between two looks, or nearly: the next one looks at the clock.
fn before_look(calls: u32) -> u32 {
    let nearly_many = (LOOKS_SAVED - 1) * CALLS_PER_LOOK;
    calls.wrapping_add(nearly_many) | (CALLS_PER_LOOK - 1)
}

/// For how long the process was asleep so far.
pub(super) fn asleep_ns() -> u64 {
    ASLEEP.load(Relaxed)
}

/// Memory aged until now, whoever looks next.
pub(super) fn note_awake(now: u64) {
    LOOKED.store(now, Relaxed);
}

/// The part of the time since the last look that was a pause of the program, which made so many calls in it.
fn pause(elapsed_ns: u64, calls: u32) -> u64 {
    let looks = (calls / CALLS_PER_LOOK).clamp(1, LOOKS_SAVED);
    elapsed_ns.saturating_sub(u64::from(looks) * AWAKE_NS)
}

#[cold]
fn attend_now(mm: &'static Mm, own: OwnHeap) -> bool {
    // A look at the clock costs more than most slow paths: only now and then. Relaxed and no exchange:
    // a lost count does not matter.
    let calls = CALLS.load(Relaxed).wrapping_add(1);
    CALLS.store(calls, Relaxed);
    // Where much was left, these may be the last calls for long.
    let is_urgent =
        is_thread_wanted() && NOT_BEFORE.load(Relaxed) == 0 && mm.has_idle_pages(WORTH_PAGES);
    if !is_urgent && !calls.is_multiple_of(CALLS_PER_LOOK) {
        return false;
    }
    let now = mm.machine().now_ns();
    let looked = LOOKED.swap(now, Relaxed);
    let calls_since = calls.wrapping_sub(LOOKED_AT.swap(calls, Relaxed));
    if looked != 0 {
        ASLEEP.fetch_add(pause(now.saturating_sub(looked), calls_since), Relaxed);
    }
    if may_start(now) {
        return is_own_process();
    }
    round(mm, own, now);
    false
}

/// A round by the caller, if the last one is long enough ago.
fn round(mm: &'static Mm, own: OwnHeap, now: u64) {
    // ORDERING: Acquire, pairs with Release below: the state is whole.
    if now < NEXT.load(Relaxed) || BUSY.compare_exchange(false, true, Acquire, Relaxed).is_err() {
        return;
    }
    NEXT.store(now + INLINE_NS, Relaxed);
    if is_own_process() {
        // SAFETY: `BUSY` is ours.
        let state = unsafe { &mut *STATE.0.get() };
        let (asleep, terms) = (asleep_ns(), TERMS.load(Relaxed));
        let new = || (Kswapd::new(mm, config(mm, false), asleep), terms);
        let (kswapd, seen) = state.get_or_insert_with(new);
        if mem::replace(seen, terms) != terms {
            kswapd.resume(mm, config(mm, false), asleep);
        }
        kswapd.note_sleep(asleep);
        kswapd.round(mm, Some(own));
        // There may be more when it is cold.
        if mm.pages().nr_free_resident() > 0 {
            mm.doorbell().ring();
        }
    }
    BUSY.store(false, Release);
}

/// In a forked child: another thread may have been in the middle of a round; or a round of this thread goes
/// on when its signal handler returns.
pub(super) fn after_fork() {
    if BUSY.swap(false, Relaxed) && fork::is_under_way() {
        // SAFETY: nobody else is here, and this thread is in no round.
        unsafe { *STATE.0.get() = None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn who_counted_many_calls_makes_the_one_that_looks() {
        let many = LOOKS_SAVED * CALLS_PER_LOOK;
        for calls in [0, 1, 15, 16, 127, 128, 1000, u32::MAX] {
            let before = before_look(calls);
            let counted = before.wrapping_sub(calls);
            assert!((many - CALLS_PER_LOOK..many).contains(&counted), "{calls} {counted}");
            assert!(before.wrapping_add(1).is_multiple_of(CALLS_PER_LOOK));
        }
    }

    #[test]
    fn calls_that_look_rarely_age_as_those_that_look_often() {
        let long = 8 * pause(16 * MS, CALLS_PER_LOOK);
        assert_eq!(pause(128 * MS, LOOKS_SAVED * CALLS_PER_LOOK), long);
        // Not what came long before, nor nothing.
        assert_eq!(pause(1000 * MS, u32::MAX), 920 * MS);
        assert_eq!(pause(1000 * MS, 0), 990 * MS);
    }
}
