//! Jumps out of signal handlers that interrupted a slow path of ours: they wait until it has ended.
//!
//! `siglongjmp` in a handler throws away the call that the handler interrupted. If that is a slow
//! path, a lock may be held or a list half-changed, and nobody would ever put it right. So
//! `libzonal.so` exports the family of `longjmp` too, and such a jump is put off:
//!
//! ```text
//!     caller                                     caller
//!     zonal: slow path      1. note the jump     zonal: slow path    3. goes on, ends,
//!     signal frame          2. rt_sigreturn ---> (all below it              and jumps
//!     handler                  to this frame      is thrown away)
//!     siglongjmp: here now
//! ```
//!
//! To the program it looks as if the signal had come a little later. The handler's frames would
//! not have been returned to by the jump either, so nothing is lost. Signals stay blocked from
//! step 2 to the jump, which sets the handler's mask again before.
//!
//! All others jump at once: out of a hit (which holds nothing and loses a block at most), from one
//! place in a handler to another, and out of a handler to which the return led again, since the
//! slow path itself faults. So do jumps for which the signal frame cannot be
//! found, on processors other than x86-64, in programs that use [`crate::Zonal`] without
//! `libzonal.so`, and by other means than `longjmp`; for them [`crate::signal`] does what can be
//! done afterwards.
//!
//! That a slow path runs is a bit of the mark in the heap ([`Mark::is_slow`]), which is left by what handlers add to
//! the mark. Where it stands on the stack is noted beside it.

#[cfg(target_arch = "x86_64")]
mod x86_64;

use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, compiler_fence};

use zonal_allocator::{Heap, HeapHot, Mark, MarkState};

use crate::signal;
use crate::tls::{self, Block};

/// A function like `longjmp`.
pub type LongJump = unsafe extern "C" fn(*mut c_void, c_int) -> !;

/// The thread has taken `heap`, and marked it: a slow path begins. It ends as the heap is put back.
#[inline]
pub(crate) fn begin_slow_path(heap: NonNull<Heap>) {
    // SAFETY: heaps are never unmapped.
    let heap = unsafe { heap.as_ref() };
    // SAFETY: as above.
    let taken = unsafe { &*heap.hot() };
    // Where the hit stood; where that cannot be told, this is not far from it.
    begin(heap, taken, |mark| match mark.state() {
        MarkState::Call { place } => place,
        _ => tls::stack(),
    });
}

/// The same for what was taken just now, a heap or its detour.
#[inline(always)]
pub(crate) fn begin_short_path(taken: *mut HeapHot) {
    // SAFETY: a heap of this thread; they are never unmapped.
    let heap = unsafe { Heap::from_detour(taken).unwrap_or_else(|| Heap::from_hot(taken)) };
    // This is not far from where the hit stood, and costs less. What runs later may stand above it, but by no more
    // than `x86_64::SLACK`: by 80 bytes in a release, the frame of `SlowCall::begin`.
    // SAFETY: as above.
    unsafe { begin(heap.as_ref(), &*taken, |_| tls::stack()) };
}

#[inline(always)]
fn begin(heap: &Heap, taken: &HeapHot, place: impl FnOnce(Mark) -> usize) {
    let mark = taken.mark();
    if !mark.is_slow() {
        heap.set_slow_place(place(mark));
        set_mark(|| taken.set_mark(mark.slow()));
    }
}

/// The process ends: a handler of SIGABRT may jump as it likes.
pub(crate) fn give_up() {
    if let Some(heap) = Block::get().heap() {
        // SAFETY: heaps are never unmapped.
        let hot = unsafe { &*heap.as_ref().hot() };
        let mark = hot.mark();
        if mark.is_slow() {
            set_mark(|| hot.set_mark(mark.not_slow()));
        }
    }
}

/// A handler of this thread sees the mark before or after all that the slow path does.
#[inline(always)]
fn set_mark(set: impl FnOnce()) {
    compiler_fence(Acquire);
    set();
    compiler_fence(Release);
}

/// A jump that waits for its thread's slow path.
struct Waiting {
    /// The thread, named by the address of its errno; null: free.
    thread: AtomicPtr<i32>,
    env: AtomicPtr<c_void>,
    value: AtomicU32,
    jump: AtomicPtr<c_void>,
    /// The handler's signal mask.
    mask: AtomicU64,
}

/// Threads that may be in the middle of this at one time; more jump at once.
const NR_WAITING: usize = 16;
static WAITING: [Waiting; NR_WAITING] = [const {
    Waiting {
        thread: AtomicPtr::new(ptr::null_mut()),
        env: AtomicPtr::new(ptr::null_mut()),
        value: AtomicU32::new(0),
        jump: AtomicPtr::new(ptr::null_mut()),
        mask: AtomicU64::new(0),
    }
}; NR_WAITING];
/// How many of them are in use. Relaxed everywhere: what a thread looks for it wrote itself.
static NR: AtomicU32 = AtomicU32::new(0);

impl Waiting {
    #[cfg(target_arch = "x86_64")]
    fn take(thread: *mut i32) -> Option<&'static Waiting> {
        let free = |waiting: &&Waiting| {
            waiting.thread.compare_exchange(ptr::null_mut(), thread, Relaxed, Relaxed).is_ok()
        };
        let taken = WAITING.iter().find(free)?;
        NR.fetch_add(1, Relaxed);
        Some(taken)
    }

    fn of(thread: *mut i32) -> Option<&'static Waiting> {
        WAITING.iter().find(|waiting| waiting.thread.load(Relaxed) == thread)
    }

    fn release(&self) {
        self.thread.store(ptr::null_mut(), Relaxed);
        NR.fetch_sub(1, Relaxed);
    }
}

/// Does the jump that waited for the slow path that just ended, if there is one. The heap is back.
#[inline]
pub(crate) fn resume() {
    if NR.load(Relaxed) != 0 {
        resume_slowly();
    }
}

#[cold]
fn resume_slowly() {
    let Some(waiting) = Waiting::of(signal::this_thread()) else { return };
    let (env, value) = (waiting.env.load(Relaxed), waiting.value.load(Relaxed));
    let mask = waiting.mask.load(Relaxed);
    // SAFETY: `put_off` stored a function of this type.
    let jump: LongJump = unsafe { core::mem::transmute(waiting.jump.load(Relaxed)) };
    waiting.release();
    signal::set_mask(mask);
    // SAFETY: what the handler asked for, from further down the same stack.
    unsafe { jump(env, value.cast_signed()) }
}

/// A forked child: the other threads' jumps stayed in the parent.
pub(crate) fn after_fork() {
    for waiting in &WAITING {
        waiting.thread.store(ptr::null_mut(), Relaxed);
    }
    NR.store(0, Relaxed);
}

/// To be called before `jump(env, value)`. Returns if that may be done now; else the jump comes
/// later, and this does not return.
///
/// # Safety
/// The contract of `longjmp`, which `jump` is.
#[inline]
pub unsafe fn put_off(env: *mut c_void, value: c_int, jump: LongJump) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    unsafe {
        x86_64::put_off(env, value, jump);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (env, value, jump);
}
