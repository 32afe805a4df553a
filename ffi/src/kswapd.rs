//! The thread of the background reclaimer: when there is one, and how it starts.
//!
//! It is started by the slow path that finds work left and nobody on duty, only in a process that
//! already has threads (a second thread takes abilities away from a single-threaded process, such
//! as `unshare(CLONE_NEWUSER)`), never in a vfork child, and after the operation is over, so that
//! no lock or gate of ours is held. It ends by itself when nothing is left to do. Where no thread
//! can be started, and in a process with one thread, callers do a round now and then themselves.
//!
//! It blocks all signals but glibc's own ones: `setuid` has to reach every thread. It never allocates.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void};
use core::mem::{self, MaybeUninit};
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};

use zonal_allocator::{Heap, Lookout, Mm};
use zonal_numa::{probe, weak_symbol};
use zonal_reclaim::kswapd::{Kswapd, KswapdConfig, Next};
use zonal_reclaim::pressure;

use crate::fork;
use crate::init;
use crate::live::{self, Occasion};
use crate::signal;

/// When the thread may exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub(crate) enum Mode {
    /// In processes that have other threads.
    #[default]
    Auto = 0,
    /// Never: callers do its work.
    Off = 1,
    /// In any process.
    Always = 2,
}

/// Who looks at what the control group and the nodes have left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum PressureMode {
    /// The first call and the background thread; where there is none, callers in a group with a limit,
    /// once they have a part of it.
    #[default]
    Auto,
    /// Nobody.
    Off,
    /// Callers too, where they do its work.
    Always,
}

/// From how many charged pages on the background thread looks at that.
static LOOKS_FROM: AtomicUsize = AtomicUsize::new(0);
/// Whether cold memory goes back without need.
static PURGES_COLD: AtomicBool = AtomicBool::new(true);
static MODE: AtomicU32 = AtomicU32::new(Mode::Auto as u32);
/// The process that may start the thread: a vfork child has another number.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// No thread is tried before this time.
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);
/// After a failure the next try waits this long.
const RETRY_NS: u64 = 10_000_000_000;
/// Rounds by callers are at least this far apart.
const INLINE_NS: u64 = 50_000_000;
/// Enough for the rounds; the C library adds its own needs.
const STACK_BYTES: usize = 128 << 10;

/// The state of rounds, for one user at a time.
struct State<T>(UnsafeCell<Option<T>>);
// SAFETY: of `INLINE`, `INLINE_BUSY` lets one thread in at a time; of `ON_DUTY`, the doorbell does.
unsafe impl<T: Send> Sync for State<T> {}
/// Of rounds done by callers, and how many terms had ended when it was last used.
static INLINE: State<(Kswapd, u32)> = State(UnsafeCell::new(None));
/// Of the thread: the next one goes on with what it has learnt.
static ON_DUTY: State<Kswapd> = State(UnsafeCell::new(None));
/// The terms of duty that have ended, by the thread or because a fork left it behind. Callers who do the
/// rounds again count the time since their last one for nobody's age.
static TERMS: AtomicU32 = AtomicU32::new(0);
static INLINE_BUSY: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU32 = AtomicU32::new(0);
/// Slow paths between two looks at the clock.
const CALLS_PER_LOOK: u32 = 16;
static INLINE_NEXT: AtomicU64 = AtomicU64::new(0);
/// The last look at the clock, the calls until then, and the time in all for which nobody looked though
/// there was work.
static LOOKED: AtomicU64 = AtomicU64::new(0);
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);
static ASLEEP: AtomicU64 = AtomicU64::new(0);
/// So many calls that are further apart than this are a pause of the program.
const AWAKE_NS: u64 = 10_000_000;
/// Short calls between two looks, which count as so many times [`CALLS_PER_LOOK`].
const LOOKS_SAVED: u32 = 8;

/// Before the first operation.
pub(crate) fn prepare(mm: &Mm, mode: Mode, pressure: PressureMode, purges_cold: bool) {
    MODE.store(mode as u32, Relaxed);
    if pressure == PressureMode::Off {
        LOOKS_FROM.store(Lookout::NEVER, Relaxed);
    } else {
        pressure::begin(mm);
    }
    if pressure == PressureMode::Always {
        mm.pages().lookout().open_from(0);
    }
    PURGES_COLD.store(purges_cold, Relaxed);
    note_process();
}

/// In a forked child: the thread stayed in the parent.
pub(crate) fn after_fork() {
    note_process();
    if let Some(mm) = init::mm() {
        mm.machine().allow_batching(false);
    }
    // SAFETY: nobody else is here to take the duty. It may have been in the middle of a round.
    if unsafe { (*ON_DUTY.0.get()).take() }.is_some() {
        TERMS.fetch_add(1, Relaxed);
    }
    // So may a caller have been; or a round of this thread goes on when its signal handler returns.
    if INLINE_BUSY.swap(false, Relaxed) && fork::is_under_way() {
        // SAFETY: nobody else is here, and this thread is in no round.
        unsafe { *INLINE.0.get() = None };
    }
}

/// What a round may do: on the background thread, or else on a program's.
fn config(mm: &Mm, on_keeper: bool) -> KswapdConfig {
    let looks_from =
        if on_keeper { LOOKS_FROM.load(Relaxed) } else { mm.pages().lookout().callers_from() };
    KswapdConfig { looks_from, purges_cold: PURGES_COLD.load(Relaxed) }
}

fn note_process() {
    PROCESS.store(process(), Relaxed);
}

/// The kernel's number of this process. Asked without the C library's function: a preload may have one in front,
/// which allocates (libfaketime's does), and the first allocation is not over when this is called.
pub(crate) fn process() -> u32 {
    // SAFETY: the call has no preconditions and always succeeds.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

/// At the end of a slow path, while the thread's heap `own` is still taken: does a round if that is
/// the caller's part. True when a thread is wanted instead: [`start`] it once the heap is back.
#[inline]
pub(crate) fn attend(mm: &'static Mm, own: NonNull<Heap>) -> bool {
    mm.doorbell().wants_keeper() && attend_now(mm, own)
}

/// Whether it is time to look at the clock, which takes a call of [`attend`]: then who could do without a
/// visit makes one. The others count.
#[inline]
pub(crate) fn is_look_due(mm: &Mm) -> bool {
    if !mm.doorbell().wants_keeper() {
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

/// The part of the time since the last look that was a pause of the program, which made so many calls in it.
fn pause(elapsed_ns: u64, calls: u32) -> u64 {
    let looks = (calls / CALLS_PER_LOOK).clamp(1, LOOKS_SAVED);
    elapsed_ns.saturating_sub(u64::from(looks) * AWAKE_NS)
}

#[cold]
fn attend_now(mm: &'static Mm, own: NonNull<Heap>) -> bool {
    // A look at the clock costs more than most slow paths: only now and then. Relaxed and no exchange:
    // a lost count does not matter.
    let calls = CALLS.load(Relaxed).wrapping_add(1);
    CALLS.store(calls, Relaxed);
    if !calls.is_multiple_of(CALLS_PER_LOOK) {
        return false;
    }
    let mode = MODE.load(Relaxed);
    let may_start =
        mode == Mode::Always as u32 || (mode == Mode::Auto as u32 && !is_single_threaded());
    let now = mm.machine().now_ns();
    let looked = LOOKED.swap(now, Relaxed);
    let calls_since = calls.wrapping_sub(LOOKED_AT.swap(calls, Relaxed));
    if looked != 0 {
        ASLEEP.fetch_add(pause(now.saturating_sub(looked), calls_since), Relaxed);
    }
    if may_start && now >= NOT_BEFORE.load(Relaxed) {
        return process() == PROCESS.load(Relaxed);
    }
    inline_round(mm, own, now);
    false
}

/// Starts the thread, unless somebody else did.
#[cold]
pub(crate) fn start(mm: &'static Mm) {
    if mm.doorbell().claim() && !spawn(mm) {
        NOT_BEFORE.store(mm.machine().now_ns() + RETRY_NS, Relaxed);
        // Sticky: the work is still there for callers.
        mm.doorbell().retire_unserved();
    }
}

/// A round by the caller, if the last one is long enough ago.
fn inline_round(mm: &'static Mm, own: NonNull<Heap>, now: u64) {
    // ORDERING: Acquire, pairs with Release below: the state is whole.
    if now < INLINE_NEXT.load(Relaxed)
        || INLINE_BUSY.compare_exchange(false, true, Acquire, Relaxed).is_err()
    {
        return;
    }
    INLINE_NEXT.store(now + INLINE_NS, Relaxed);
    if process() == PROCESS.load(Relaxed) {
        // SAFETY: `INLINE_BUSY` is ours.
        let state = unsafe { &mut *INLINE.0.get() };
        let (asleep, terms) = (ASLEEP.load(Relaxed), TERMS.load(Relaxed));
        let new = || (Kswapd::new(mm, config(mm, false), asleep), terms);
        let (keeper, seen) = state.get_or_insert_with(new);
        if mem::replace(seen, terms) != terms {
            keeper.resume(mm, config(mm, false), asleep);
        }
        keeper.note_sleep(asleep);
        keeper.round(mm, Some(own));
        // There may be more when it is cold.
        if mm.pages().nr_free_resident() > 0 {
            mm.doorbell().ring();
        }
    }
    INLINE_BUSY.store(false, Release);
}

fn spawn(mm: &'static Mm) -> bool {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let argument = ptr::from_ref(mm).cast_mut().cast::<c_void>();
    // SAFETY: each out-parameter is writable, each in-parameter was initialised by the call before.
    unsafe {
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
            return false;
        }
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK_BYTES);
        // The new thread inherits the mask: no signal of the program ever runs on it.
        let before = signal::block(signal::PROGRAMS);
        let rc = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, argument);
        signal::set_mask(before);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        rc == 0
    }
}

extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    // Whoever started this thread may have blocked more.
    signal::set_mask(signal::PROGRAMS);
    // SAFETY: `spawn` passed the instance, which lives as long as the process.
    let mm: &'static Mm = unsafe { &*argument.cast::<Mm>() };
    let name: *const c_char = c"zonal-kswapd0".as_ptr();
    // SAFETY: names the calling thread; the kernel copies the 16 bytes at most.
    unsafe { libc::prctl(libc::PR_SET_NAME as c_int, name) };
    let (config, asleep) = (config(mm, true), ASLEEP.load(Relaxed));
    // SAFETY: whoever started this thread took the duty, which ends with `retire`.
    let state = unsafe { &mut *ON_DUTY.0.get() };
    if let Some(keeper) = state {
        keeper.resume(mm, config, asleep);
    }
    let keeper = state.get_or_insert_with(|| Kswapd::new(mm, config, asleep));
    // A process that confines itself has one thread, mostly, and in a child the thread is gone.
    mm.machine().allow_batching(true);
    loop {
        probe::mm_vmscan_kswapd_wake();
        let next = keeper.round(mm, None);
        let occasion =
            if matches!(next, Next::Retire) { Occasion::Parting } else { Occasion::Passing };
        live::attend(mm, None, occasion);
        keeper.begin_wait(mm);
        match next {
            Next::Sleep(ns) => {
                probe::mm_vmscan_kswapd_sleep(ns as usize);
                mm.doorbell().wait(ns);
            }
            Next::Retire => {
                // Memory aged meanwhile, whoever looks next.
                LOOKED.store(mm.machine().now_ns(), Relaxed);
                // Relaxed: a caller sees it at its next round at the latest.
                TERMS.fetch_add(1, Relaxed);
                mm.machine().allow_batching(false);
                if mm.doorbell().retire() {
                    leave(mm);
                    return ptr::null_mut();
                }
                mm.machine().allow_batching(true);
            }
        }
    }
}

/// The thread ends. The C library lets the thread that ends last run the exit handlers of the program, after
/// `pthread_exit` of the main one. They need more stack: where no thread has a heap any more, another one
/// ends after this one.
fn leave(mm: &Mm) {
    // SAFETY: the calling thread, which nobody joins or detaches but here.
    unsafe {
        let own = libc::pthread_self();
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        let argument = ptr::without_provenance_mut(own as usize);
        if mm.pages().nr_threads() > 0
            || libc::pthread_create(thread.as_mut_ptr(), ptr::null(), outlive, argument) != 0
        {
            libc::pthread_detach(own);
        }
    }
}

extern "C" fn outlive(keeper: *mut c_void) -> *mut c_void {
    // SAFETY: this thread is nobody else's, and `leave` left the other one to it.
    unsafe {
        libc::pthread_detach(libc::pthread_self());
        libc::pthread_join(keeper.addr() as libc::pthread_t, ptr::null_mut());
    }
    ptr::null_mut()
}

/// What the C library knows about the number of threads; false where it does not say.
fn is_single_threaded() -> bool {
    let word: *const c_char = weak_symbol!("__libc_single_threaded");
    // SAFETY: a byte of the C library, if it is there.
    !word.is_null() && unsafe { word.read_volatile() } != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn calls_that_look_rarely_age_as_those_that_look_often() {
        let long = 8 * pause(16 * MS, CALLS_PER_LOOK);
        assert_eq!(pause(128 * MS, LOOKS_SAVED * CALLS_PER_LOOK), long);
        // Not what came long before, nor nothing.
        assert_eq!(pause(1000 * MS, u32::MAX), 920 * MS);
        assert_eq!(pause(1000 * MS, 0), 990 * MS);
    }
}
