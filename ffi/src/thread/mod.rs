//! A thread's life: attach at its first miss, detach after everything else of it has ended.
//!
//! ```text
//!   first miss              exit hook, last round            later calls
//!   home: null --> BUSY --> heap ---------> BUSY --> DEAD --> BUSY: borrow a heap, one
//!                                                    ^            operation, give it back
//!                                                    +------------------+
//! ```
//!
//! The hook is the destructor of a pthread key, not a `Drop` in TLS, which would call `calloc` to
//! register itself. Destructors of other keys may still allocate, so the hook puts itself back and
//! waits for the last of the rounds that POSIX promises. What comes later still (glibc frees
//! buffers of its own after the last round) borrows.
//!
//! A call of a thread that slept may find nothing to take since its bins are closed: then it takes the heap
//! without them.
//!
//! Any other call with nothing to take while the thread is attached, or while it is BUSY, is a signal
//! handler that interrupted zonal on its own thread. It gets no heap and takes no lock
//! ([`crate::signal`]).

mod life;
#[cfg(test)]
mod tests;

use core::ptr::NonNull;

use zonal_allocator::{Heap, HeapHot, Mm, OwnHeap};

pub(crate) use self::life::create_key;
use self::life::{attach, borrow, interrupted, interrupted_with};
use crate::foreign::Foreign;
use crate::live::{self, Occasion};
use crate::signal::Blocked;
use crate::tls::{BUSY, Block, DEAD, empty};
use crate::{abort, caller, detour, handler, init, jump, kswapd};

/// What an operation may work with.
#[derive(Clone, Copy)]
pub(crate) enum Seat {
    /// This heap, as its owner.
    Heap(OwnHeap),
    /// Only what is safe in the middle of another operation of the same thread.
    Interrupted,
}

/// One call of this thread on the slow path, with what it may work with; ends when dropped.
pub(crate) struct SlowCall {
    mm: &'static Mm,
    seat: Seat,
    /// The heap is not the thread's for longer than this operation.
    borrowed: bool,
    /// The C library may have called, holding a lock without which no thread can be started.
    may_hold_lock: bool,
    /// Dropped last, when `current` is back.
    blocked: Blocked,
}

impl SlowCall {
    /// Begins an operation with the heap that the hit path took; none when there is no memory even
    /// for that.
    pub(crate) fn begin(taken: *mut HeapHot) -> Option<SlowCall> {
        if taken == empty() {
            return SlowCall::without_heap();
        }
        // Before the bins are taken, which may lead through the gate.
        jump::begin_short_path(taken);
        let blocked = Blocked::if_needed();
        // SAFETY: not `EMPTY`, so it is a heap of this thread.
        let heap = unsafe { Heap::from_taken(taken) };
        // Whoever has a heap has a core.
        let mm = init::mm()?;
        Some(SlowCall::with_heap(mm, heap, blocked))
    }

    /// The same for a call that frees: of those that the C library makes, only they may come with a lock held.
    pub(crate) fn of_free<F: Foreign>(taken: *mut HeapHot) -> Option<SlowCall> {
        let mut call = SlowCall::begin(taken)?;
        call.may_hold_lock = F::SERVES_C_LIBRARY;
        Some(call)
    }

    /// With the thread's own heap, taken and marked.
    fn with_heap(mm: &'static Mm, heap: NonNull<Heap>, blocked: Blocked) -> SlowCall {
        jump::begin_slow_path(heap);
        // SAFETY: this thread's, taken and marked: no call of it is under way but this.
        let own = unsafe { OwnHeap::new(heap) };
        if let Some(before) = blocked.mask_before() {
            // What the thread has unblocked since its first call is blocked in a handler only.
            own.set_signals(own.signals() & before);
        }
        SlowCall { mm, seat: Seat::Heap(own), borrowed: false, may_hold_lock: false, blocked }
    }

    #[cold]
    fn without_heap() -> Option<SlowCall> {
        let block = Block::get();
        match block.home() {
            home if home.is_null() => attach(block),
            DEAD => borrow(block),
            BUSY => interrupted(),
            // Its bins were closed, or a handler has ended since that has opened them.
            home => match block.take() {
                taken if taken == empty() => interrupted_with(block, home),
                taken => SlowCall::begin(taken),
            },
        }
    }

    /// For operations that take memory: changes to a heap of the node that the thread has moved to.
    pub(crate) fn follow_thread(&mut self) {
        let Seat::Heap(own) = self.seat else { return };
        if !self.borrowed && self.mm.is_astray(own) {
            self.change_heap_in_no_handler(own);
        }
    }

    /// The same at once, after a change of the thread's policy, which is for no signal handler.
    pub(crate) fn follow_policy(&mut self) {
        let Seat::Heap(own) = self.seat else { return };
        if !self.borrowed && self.mm.is_away(own) {
            self.change_heap(own);
        }
    }

    /// Not in a signal handler: the hit that it may have interrupted works with the old one.
    #[cold]
    fn change_heap_in_no_handler(&mut self, own: OwnHeap) {
        self.blocked.block();
        let as_a_rule = own.signals();
        // What the thread has unblocked meanwhile is blocked in a handler only.
        own.set_signals(as_a_rule & self.blocked.mask_before().unwrap_or(u64::MAX));
        if !self.blocked.may_be_in_handler(as_a_rule) {
            self.change_heap(own);
        }
    }

    #[cold]
    fn change_heap(&mut self, own: OwnHeap) {
        self.blocked.block();
        let block = Block::get();
        // Another thread may have the old one soon.
        block.vacate();
        block.set_home(BUSY);
        // SAFETY: only the answer is used from here on.
        let own = unsafe { self.mm.exchange(own) };
        block.set_home(own.as_non_null().as_ptr());
        self.seat = Seat::Heap(own);
    }

    /// Whether the heap is this operation's only.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    pub(crate) fn mm(&self) -> &'static Mm {
        self.mm
    }

    pub(crate) fn seat(&self) -> Seat {
        self.seat
    }
}

impl Drop for SlowCall {
    fn drop(&mut self) {
        let block = Block::get();
        let mut wants_thread = false;
        let mut current = empty();
        if let Seat::Heap(own) = self.seat {
            if let Some(bad) = own.take_fault() {
                abort::bad_pointer_late(bad);
            }
            if self.borrowed {
                // SAFETY: this thread attached the heap in `borrow` and uses it no more.
                unsafe { self.mm.detach(own) };
                block.set_home(DEAD);
                kswapd::note_detached(self.mm);
            } else {
                wants_thread = kswapd::attend(self.mm, own);
                live::attend(self.mm, Some(own), Occasion::Passing);
                current = detour::resting(own.as_non_null());
            }
        }
        block.put(current);
        // If not now, then at the end of a later slow path.
        if wants_thread && !(self.may_hold_lock && caller::may_be_c_library()) {
            kswapd::start(self.mm);
        }
        if handler::is_owed() && current != empty() {
            handler::pay();
        }
        jump::resume();
    }
}
