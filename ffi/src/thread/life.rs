//! What a call finds that has no heap to take, and what happens when the thread ends.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use zonal_allocator::{Heap, Mark, MarkState, OwnHeap};

use super::{Seat, SlowCall};
use crate::signal::{self, Blocked};
use crate::tls::{self, BUSY, Block, DEAD, empty};
use crate::{detour, fork, init, jump, kswapd};

/// Rounds of key destructors that POSIX promises.
const ROUNDS: usize = 4;
/// No key: exit hooks do not run and the heaps of ended threads stay unused.
const NO_KEY: u32 = u32::MAX;
static KEY: AtomicU32 = AtomicU32::new(NO_KEY);

/// A call with nothing to take, while the thread is attached: the call that took the heap still
/// runs below, or has vanished.
pub(super) fn interrupted_with(block: Block, home: *mut Heap) -> Option<SlowCall> {
    if fork::is_under_way() {
        return interrupted();
    }
    signal::seen();
    // SAFETY: heaps are never unmapped, and this is the thread's own.
    let heap = unsafe { &*home };
    let taken = block.current();
    // SAFETY: the empty heap, or one of this thread's.
    let word = unsafe { &*taken };
    let mark = word.mark();
    if taken == empty() || !is_gone(heap, mark) {
        return interrupted();
    }
    if heap.is_entered() {
        // It may be half-changed: nobody uses it any more. Its blocks stay valid.
        return attach(block);
    }
    // Gone out of a hit, which has lost a block at most; unless a handler has seen to that just now.
    if !word.replace(mark, tls::stack()) {
        return interrupted();
    }
    jump::begin_short_path(taken);
    // SAFETY: not the empty one, so it is one of this thread.
    let heap = unsafe { Heap::from_taken(taken) };
    Some(SlowCall::with_heap(init::mm()?, heap, Blocked::if_needed()))
}

/// Whether the call that left this mark has ended without a return.
fn is_gone(heap: &Heap, mark: Mark) -> bool {
    match mark.state() {
        MarkState::Call { place } => signal::is_gone(place),
        // Some handler was left in the middle of a look at the mark. What is below it is gone if it was a hit,
        // which calls nothing, and this is no handler; a slow path may have come here by what it calls.
        MarkState::Sum => !mark.is_slow() && signal::is_in_none(heap.signals()),
        // A handler has seen to that, just now.
        MarkState::Free | MarkState::Closed | MarkState::Absent => false,
    }
}

pub(super) fn interrupted() -> Option<SlowCall> {
    Some(SlowCall {
        mm: init::mm()?,
        seat: Seat::Interrupted,
        borrowed: false,
        may_hold_lock: false,
        blocked: Blocked::no(),
    })
}

/// The thread's first miss. A jump out of it would leave the thread, and at the first time the
/// process, without a heap.
pub(super) fn attach(block: Block) -> Option<SlowCall> {
    let blocked = Blocked::always();
    block.vacate();
    block.set_home(BUSY);
    let Some((mm, own)) = init::start().and_then(|mm| Some((mm, mm.attach().ok()?))) else {
        block.set_home(ptr::null_mut());
        return None;
    };
    block.set_home(own.as_non_null().as_ptr());
    if let Some(mask) = blocked.mask_before() {
        own.set_signals(mask);
    }
    // What follows may call malloc (a key above 31 makes glibc allocate): let it hit or miss as
    // any other call.
    block.put(detour::resting(own.as_non_null()));
    arm(1);
    init::finish();
    // SAFETY: put there just now, or by a call since: this thread's heap.
    let heap = unsafe { Heap::from_taken(block.take()) };
    Some(SlowCall::with_heap(mm, heap, blocked))
}

/// A call after the exit hook.
pub(super) fn borrow(block: Block) -> Option<SlowCall> {
    let mm = init::mm()?;
    block.set_home(BUSY);
    let Ok(heap) = mm.attach() else {
        block.set_home(DEAD);
        return None;
    };
    let seat = Seat::Heap(heap);
    let blocked = Blocked::if_needed();
    Some(SlowCall { mm, seat, borrowed: true, may_hold_lock: false, blocked })
}

/// Makes the key. Without one (PTHREAD_KEYS_MAX reached) all works, but heaps are not inherited.
pub(crate) fn create_key() {
    let mut key = 0;
    // SAFETY: `key` is writable; the destructor is a function of this library, which stays loaded.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(hook)) } == 0 {
        KEY.store(key, Relaxed);
    }
}

fn arm(round: usize) -> bool {
    // Relaxed: written before this thread got its core from `init`.
    let key = KEY.load(Relaxed);
    // SAFETY: the key exists; the value is only a number.
    key != NO_KEY
        && unsafe { libc::pthread_setspecific(key, ptr::without_provenance::<c_void>(round)) } == 0
}

/// The exit hook. `round` counts from 1.
unsafe extern "C" fn hook(round: *mut c_void) {
    let round = round.addr();
    if round < ROUNDS && arm(round + 1) {
        return;
    }
    let block = Block::get();
    let (Some(heap), Some(mm)) = (NonNull::new(block.home()), init::mm()) else {
        return;
    };
    if heap.as_ptr() == DEAD || heap.as_ptr() == BUSY {
        return;
    }
    block.vacate();
    block.set_home(BUSY);
    // SAFETY: `home` was this thread's heap, and no call of this thread uses it from here on.
    unsafe { mm.detach(OwnHeap::new(heap)) };
    block.set_home(DEAD);
    kswapd::note_ended(mm);
}
