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
//! A call with nothing to take while the thread is attached, or while it is BUSY, is a signal
//! handler that interrupted zonal on its own thread. It gets no heap and takes no lock
//! ([`crate::signal`]).

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use zonal_allocator::{Heap, HeapHot, Mm};

use crate::jump;
use crate::live::{self, Occasion};
use crate::signal::{self, Blocked};
use crate::tls::{self, BUSY, Block, DEAD, empty};
use crate::{abort, detour, fork, handler, init, kswapd};

/// Rounds of key destructors that POSIX promises.
const ROUNDS: usize = 4;
/// No key: exit hooks do not run and the heaps of ended threads stay unused.
const NO_KEY: u32 = u32::MAX;
static KEY: AtomicU32 = AtomicU32::new(NO_KEY);

/// What an operation may work with.
#[derive(Clone, Copy)]
pub(crate) enum Seat {
    /// This heap, as its owner.
    Heap(NonNull<Heap>),
    /// Only what is safe in the middle of another operation of the same thread.
    Interrupted,
}

/// One operation of the calling thread; ends when dropped.
pub(crate) struct Visit {
    mm: &'static Mm,
    seat: Seat,
    /// The heap is not the thread's for longer than this operation.
    borrowed: bool,
    /// Dropped last, when `current` is back.
    blocked: Blocked,
}

impl Visit {
    /// Begins an operation with the heap that the hit path took; none when there is no memory even
    /// for that.
    pub(crate) fn begin(taken: *mut HeapHot) -> Option<Visit> {
        if taken == empty() {
            return Visit::without_heap();
        }
        // SAFETY: not `EMPTY`, so it is a heap of this thread.
        let heap = unsafe { Heap::from_taken(taken) };
        // Whoever has a heap has a core.
        let mm = init::mm()?;
        Some(Visit::with_heap(mm, heap, Blocked::if_needed()))
    }

    /// With the thread's own heap, taken and marked.
    fn with_heap(mm: &'static Mm, heap: NonNull<Heap>, blocked: Blocked) -> Visit {
        jump::begin_slow_path(heap);
        Visit { mm, seat: Seat::Heap(heap), borrowed: false, blocked }
    }

    #[cold]
    fn without_heap() -> Option<Visit> {
        let block = Block::get();
        match block.home() {
            home if home.is_null() => attach(block),
            DEAD => borrow(block),
            BUSY => interrupted(),
            home => interrupted_with(block, home),
        }
    }

    /// For operations that take memory: changes to a heap of the node that the thread has moved to.
    pub(crate) fn follow_thread(&mut self) {
        let Seat::Heap(heap) = self.seat else { return };
        // SAFETY: the heap is this thread's.
        if !self.borrowed && unsafe { self.mm.is_astray(heap) } {
            self.change_heap_in_no_handler(heap);
        }
    }

    /// The same at once, after a change of the thread's policy, which is for no signal handler.
    pub(crate) fn follow_policy(&mut self) {
        let Seat::Heap(heap) = self.seat else { return };
        // SAFETY: the heap is this thread's and never unmapped.
        if !self.borrowed && unsafe { self.mm.is_away(heap.as_ref()) } {
            self.change_heap(heap);
        }
    }

    /// Not in a signal handler: the hit that it may have interrupted works with the old one.
    #[cold]
    fn change_heap_in_no_handler(&mut self, heap: NonNull<Heap>) {
        self.blocked.block();
        // SAFETY: the heap is this thread's and never unmapped.
        let word = unsafe { heap.as_ref() };
        let as_a_rule = word.signals();
        // What the thread has unblocked meanwhile is blocked in a handler only.
        word.set_signals(as_a_rule & self.blocked.mask_before().unwrap_or(u64::MAX));
        if !self.blocked.may_be_in_handler(as_a_rule) {
            self.change_heap(heap);
        }
    }

    #[cold]
    fn change_heap(&mut self, heap: NonNull<Heap>) {
        self.blocked.block();
        let block = Block::get();
        // Another thread may have the old one soon.
        block.vacate();
        block.set_home(BUSY);
        // SAFETY: the heap is this thread's, and only the answer is used from here on.
        let heap = unsafe { self.mm.exchange(heap) };
        block.set_home(heap.as_ptr());
        self.seat = Seat::Heap(heap);
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

impl Drop for Visit {
    fn drop(&mut self) {
        let block = Block::get();
        let mut wants_thread = false;
        let mut current = empty();
        if let Seat::Heap(heap) = self.seat {
            // SAFETY: heaps are never unmapped.
            if let Some(bad) = unsafe { heap.as_ref() }.take_fault() {
                abort::bad_pointer_late(bad);
            }
            if self.borrowed {
                // SAFETY: this thread attached the heap in `borrow` and uses it no more.
                unsafe { self.mm.detach(heap) };
                block.set_home(DEAD);
            } else {
                wants_thread = kswapd::attend(self.mm, heap);
                live::attend(self.mm, Some(heap), Occasion::Passing);
                current = detour::resting(heap);
            }
        }
        block.put(current);
        if wants_thread {
            kswapd::start(self.mm);
        }
        if handler::is_owed() && current != empty() {
            handler::pay();
        }
        jump::resume();
    }
}

/// A call with nothing to take, while the thread is attached: the call that took the heap still
/// runs below, or has vanished.
fn interrupted_with(block: Block, home: *mut Heap) -> Option<Visit> {
    if fork::is_under_way() {
        return interrupted();
    }
    signal::seen();
    // SAFETY: heaps are never unmapped, and this is the thread's own.
    let heap = unsafe { &*home };
    if block.current() == empty() || !signal::is_gone(block.frame()) {
        return interrupted();
    }
    if heap.is_entered() {
        // It may be half-changed: nobody uses it any more. Its blocks stay valid.
        return attach(block);
    }
    // Gone out of a hit, which has lost a block at most. The heap or its detour has the mark by which
    // calls know whether it is taken.
    let current = block.current();
    tls::mark(current);
    // SAFETY: a mark of a call that is gone is in no empty heap, so it is one of this thread.
    let heap = unsafe { Heap::from_taken(current) };
    Some(Visit::with_heap(init::mm()?, heap, Blocked::if_needed()))
}

fn interrupted() -> Option<Visit> {
    Some(Visit {
        mm: init::mm()?,
        seat: Seat::Interrupted,
        borrowed: false,
        blocked: Blocked::no(),
    })
}

/// The thread's first miss. A jump out of it would leave the thread, and at the first time the
/// process, without a heap.
fn attach(block: Block) -> Option<Visit> {
    let blocked = Blocked::always();
    block.vacate();
    block.set_home(BUSY);
    let Some((mm, heap)) = init::start().and_then(|mm| Some((mm, mm.attach().ok()?))) else {
        block.set_home(ptr::null_mut());
        return None;
    };
    block.set_home(heap.as_ptr());
    if let Some(mask) = blocked.mask_before() {
        // SAFETY: the heap is this thread's.
        unsafe { heap.as_ref() }.set_signals(mask);
    }
    // What follows may call malloc (a key above 31 makes glibc allocate): let it hit or miss as
    // any other call.
    block.put(detour::resting(heap));
    arm(1);
    init::finish();
    // SAFETY: put there just now, or by a call since: this thread's heap.
    let heap = unsafe { Heap::from_taken(block.take()) };
    Some(Visit::with_heap(mm, heap, blocked))
}

/// A call after the exit hook.
fn borrow(block: Block) -> Option<Visit> {
    let mm = init::mm()?;
    block.set_home(BUSY);
    let Ok(heap) = mm.attach() else {
        block.set_home(DEAD);
        return None;
    };
    let seat = Seat::Heap(heap);
    let blocked = Blocked::if_needed();
    Some(Visit { mm, seat, borrowed: true, blocked })
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
    unsafe { mm.detach(heap) };
    block.set_home(DEAD);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::foreign::Alone;
    use crate::hot;

    /// Whether a slow path that finds its thread on another node changes to another heap.
    fn moves() -> bool {
        let mut visit = Visit::begin(Block::get().take()).unwrap();
        let Seat::Heap(old) = visit.seat() else { panic!("no heap") };
        visit.change_heap_in_no_handler(old);
        let Seat::Heap(new) = visit.seat() else { panic!("no heap") };
        assert_eq!(Block::get().home(), new.as_ptr());
        new != old
    }

    /// A hit that was interrupted before its mark goes on with the heap that it saw.
    fn moves_in_no_handler() {
        thread::spawn(|| {
            // The thread blocks one signal as a rule.
            let rule = signal::set_mask(0) | 1 << (libc::SIGUSR1 - 1);
            signal::set_mask(rule);
            // SAFETY: a live block, given up.
            unsafe { hot::free::<Alone>(hot::malloc(100)) };
            assert!(moves());
            // While a handler runs, its own signal is blocked, too.
            let in_handler = rule | 1 << (libc::SIGUSR2 - 1);
            signal::set_mask(in_handler);
            assert!(!moves());
            assert_eq!(signal::set_mask(rule), in_handler);
            assert!(moves());
            // What it has unblocked since is blocked in its handler only.
            signal::set_mask(rule & !(1 << (libc::SIGUSR1 - 1)));
            assert!(moves());
            signal::set_mask(rule);
            assert!(!moves());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_handler_keeps_its_thread_s_heap() {
        moves_in_no_handler();
        // From now on slow paths block signals themselves.
        signal::seen();
        moves_in_no_handler();
    }
}
