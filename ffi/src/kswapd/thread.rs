//! kswapd's life.
//!
//! It blocks all signals but glibc's own ones: `setuid` has to reach every thread. It never allocates. Whoever
//! started it may be pinned, or of a realtime class; it is a plain thread of the process.
//!
//! Where the main thread left by `pthread_exit`, the process ends with its last thread, and waits for this one.
//! So it then goes home at once when no other thread has a heap any more. Destructors of keys run on the main
//! thread only when it leaves so. Where the first call came from another one, or threads could not give their heap
//! back, all goes on as usual.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicPtr};

use zonal_allocator::Mm;
use zonal_numa::probe;
use zonal_reclaim::kswapd::{Kswapd, Next};

use super::{State, TERMS, callers, config};
use crate::live::{self, Occasion};
use crate::signal;

/// Enough for the rounds; the C library adds its own needs.
const STACK_BYTES: usize = 128 << 10;
/// What the thread has learnt: the next one goes on with it.
static STATE: State<Kswapd> = State(UnsafeCell::new(None));
/// The main thread, as [`signal::this_thread`] names it; null where it is not known.
static MAIN: AtomicPtr<i32> = AtomicPtr::new(ptr::null_mut());
/// It left, and the process went on.
static MAIN_LEFT: AtomicBool = AtomicBool::new(false);

/// The calling thread is the main one.
pub(super) fn note_main() {
    MAIN.store(signal::this_thread(), Relaxed);
    MAIN_LEFT.store(false, Relaxed);
}

/// Starts the thread. The caller has claimed the duty.
pub(super) fn spawn(mm: &'static Mm) -> bool {
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
    mm.machine().run_as_main_thread();
    let name: *const c_char = c"zonal-kswapd0".as_ptr();
    // SAFETY: names the calling thread; the kernel copies the 16 bytes at most.
    unsafe { libc::prctl(libc::PR_SET_NAME as c_int, name) };
    let (config, asleep) = (config(mm, true), callers::asleep_ns());
    // SAFETY: whoever started this thread took the duty, which ends with `retire`.
    let state = unsafe { &mut *STATE.0.get() };
    if let Some(kswapd) = state {
        kswapd.resume(mm, config, asleep);
    }
    let kswapd = state.get_or_insert_with(|| Kswapd::new(mm, config, asleep));
    // A process that confines itself has one thread, mostly, and in a child the thread is gone.
    mm.machine().allow_batching(true);
    loop {
        probe::mm_vmscan_kswapd_wake();
        let next = kswapd.round(mm, None);
        // Before the look: the end of a thread that it does not see keeps it from sleeping.
        let hurries = mm.doorbell().hurries();
        let next = if is_deserted(mm) { Next::Retire } else { next };
        let occasion =
            if matches!(next, Next::Retire) { Occasion::Parting } else { Occasion::Passing };
        live::attend(mm, None, occasion);
        kswapd.begin_wait(mm);
        match next {
            Next::Sleep(ns) => {
                probe::mm_vmscan_kswapd_sleep(ns as usize);
                mm.doorbell().sleep_unless_hurried(hurries, ns);
            }
            Next::Retire => {
                callers::note_awake(mm.machine().now_ns());
                // Relaxed: a caller sees it at its next round at the latest.
                TERMS.fetch_add(1, Relaxed);
                mm.machine().allow_batching(false);
                if mm.doorbell().retire() {
                    end_thread(mm);
                    return ptr::null_mut();
                }
                mm.machine().allow_batching(true);
            }
        }
    }
}

/// Whether the process waits for this thread to end.
pub(super) fn is_deserted(mm: &Mm) -> bool {
    // Relaxed: two ends at one time may both overlook the other. The next round finds out.
    MAIN_LEFT.load(Relaxed) && mm.pages().nr_threads() == 0
}

/// The calling thread ends and gave its heap back.
pub(super) fn note_ended(mm: &Mm) {
    if MAIN.load(Relaxed) == signal::this_thread() {
        MAIN_LEFT.store(true, Relaxed);
    }
    note_detached(mm);
}

/// A heap was given back: after the last one kswapd may have to go.
pub(crate) fn note_detached(mm: &Mm) {
    if is_deserted(mm) {
        mm.doorbell().wake();
    }
}

/// The thread ends. The C library lets the thread that ends last run the exit handlers of the program, after
/// `pthread_exit` of the main one. They need more stack: where that may be this one, another one ends after it.
fn end_thread(mm: &Mm) {
    // SAFETY: the calling thread, which nobody joins or detaches but here.
    unsafe {
        let own = libc::pthread_self();
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        let argument = ptr::without_provenance_mut(own as usize);
        let may_be_last = MAIN_LEFT.load(Relaxed) || mm.pages().nr_threads() == 0;
        if !may_be_last
            || libc::pthread_create(thread.as_mut_ptr(), ptr::null(), outlive, argument) != 0
        {
            libc::pthread_detach(own);
        }
    }
}

extern "C" fn outlive(kswapd: *mut c_void) -> *mut c_void {
    // SAFETY: this thread is nobody else's, and `end_thread` left the other one to it.
    unsafe {
        libc::pthread_detach(libc::pthread_self());
        libc::pthread_join(kswapd.addr() as libc::pthread_t, ptr::null_mut());
    }
    ptr::null_mut()
}

/// In a forked child, where the thread is not.
pub(super) fn after_fork() {
    // SAFETY: nobody else is here to take the duty. It may have been in the middle of a round.
    if unsafe { (*STATE.0.get()).take() }.is_some() {
        TERMS.fetch_add(1, Relaxed);
    }
    note_main();
}
