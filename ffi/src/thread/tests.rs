use std::sync::PoisonError;
use std::thread;

use zonal_allocator::Mark;

use super::*;
use crate::detour::tests::WATCHING;
use crate::foreign::Alone;
use crate::hot;
use crate::signal;

/// Whether a slow path that finds its thread on another node changes to another heap.
fn moves() -> bool {
    let mut call = SlowCall::begin(Block::get().take()).unwrap();
    let Seat::Heap(old) = call.seat() else { panic!("no heap") };
    call.change_heap_in_no_handler(old);
    let Seat::Heap(new) = call.seat() else { panic!("no heap") };
    assert_eq!(Block::get().home(), new.as_non_null().as_ptr());
    new != old
}

/// A hit that was interrupted before its mark goes on with the heap that it saw.
fn moves_in_no_handler() {
    let _unwatched = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Closes the bins of the calling thread's heap, as kswapd does to one that sleeps.
fn close(heap: NonNull<Heap>) {
    // SAFETY: the thread's own heap, between two calls.
    let hot = unsafe { &*heap.as_ref().hot() };
    assert!(!hot.is_taken());
    hot.set_mark(Mark::CLOSED);
}

fn is_closed(heap: NonNull<Heap>) -> bool {
    // SAFETY: heaps are never unmapped.
    unsafe { heap.as_ref() }.is_closed()
}

fn one_call() {
    // SAFETY: a live block, given up.
    unsafe { hot::free::<Alone>(hot::malloc(100)) };
}

/// Runs `work` on a thread of its own, with its heap.
fn with_heap(work: fn(Block, NonNull<Heap>)) {
    let _unwatched = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = thread::spawn(move || {
        one_call();
        work(Block::get(), Block::get().heap().unwrap());
        one_call();
        assert!(!Block::get().is_taken());
    });
    thread.join().unwrap();
}

#[test]
fn closed_bins_open_with_the_next_call() {
    with_heap(|block, heap| {
        close(heap);
        assert!(!block.is_taken(), "nobody is in a call");
        one_call();
        assert!(!is_closed(heap) && !block.is_taken());
        close(heap);
        // SAFETY: live blocks.
        let moved = unsafe { hot::realloc::<Alone>(hot::zalloc(100), 5000) };
        close(heap);
        // SAFETY: a live block, given up.
        unsafe { hot::free_sized::<Alone>(moved, 5000, 1) };
        assert!(!is_closed(heap));
    });
}

/// A call that found them closed is an ordinary one also when a handler has opened them since.
#[test]
fn a_handler_may_open_them_first() {
    with_heap(|block, heap| {
        close(heap);
        // SAFETY: the thread's heap.
        assert!(!crate::tls::try_mark(unsafe { heap.as_ref() }.hot()));
        one_call();
        let call = SlowCall::begin(empty()).unwrap();
        assert!(matches!(call.seat(), Seat::Heap(own) if own.as_non_null() == heap));
        assert!(block.is_taken() && block.take() == empty());
    });
}

/// A call that goes in by the gate is seen by handlers, as any other.
#[test]
fn handlers_see_a_call_that_opens_them() {
    with_heap(|block, heap| {
        close(heap);
        assert_eq!(block.try_take(), empty());
        let taken = block.take();
        assert_ne!(taken, empty());
        assert!(block.is_taken() && is_closed(heap));
        assert_eq!(block.take(), empty());
        let call = SlowCall::begin(taken).unwrap();
        assert!(!is_closed(heap) && block.is_taken() && block.take() == empty());
        drop(call);
        assert!(!block.is_taken());
    });
}

/// A hit that has failed, and is about to take back what it added.
#[cfg(target_arch = "x86_64")]
fn fail_to_mark(hot: &HeapHot) {
    // SAFETY: adds to the word of the mark, as the assembly of hits does.
    unsafe {
        let word = core::ptr::from_ref(hot).cast::<u64>().byte_add(HeapHot::MARK).cast_mut();
        word.write(word.read().wrapping_add(crate::tls::stack() as u64));
    }
}

/// A handler that comes in the middle of a hit's look at closed bins takes them for that hit's.
#[test]
#[cfg(target_arch = "x86_64")]
fn handlers_see_a_hit_that_finds_them_closed() {
    with_heap(|block, heap| {
        // SAFETY: the thread's heap.
        let hot = unsafe { &*heap.as_ref().hot() };
        close(heap);
        fail_to_mark(hot);
        assert!(is_closed(heap) && block.is_taken() && block.take() == empty());
        hot.undo_add(crate::tls::stack());
        assert_eq!(hot.mark(), Mark::CLOSED);
    });
}

/// Two handlers may come: the second in the first one's look at the mark, and it jumps. From what is left nobody
/// can tell which call is gone, so that no handler takes the heap, but the program does.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_mark_of_two_is_left_to_the_program() {
    with_heap(|block, heap| {
        // SAFETY: the thread's heap.
        let hot = unsafe { &*heap.as_ref().hot() };
        let taken = block.try_take();
        assert_ne!(taken, empty());
        let live = hot.mark();
        fail_to_mark(hot);
        assert_eq!(hot.mark().state(), zonal_allocator::MarkState::Sum);
        let rule = signal::set_mask(signal::mask() | 1 << (libc::SIGUSR2 - 1));
        let interrupted = SlowCall::begin(empty()).unwrap();
        assert!(matches!(interrupted.seat(), Seat::Interrupted), "the hit may be alive");
        drop(interrupted);
        // Nor does a handler end it, or spoil what is there.
        one_call();
        hot.undo_add(crate::tls::stack());
        assert_eq!(hot.mark(), live);
        fail_to_mark(hot);
        fail_to_mark(hot);
        signal::set_mask(rule);
        let call = SlowCall::begin(empty()).unwrap();
        assert!(
            matches!(call.seat(), Seat::Heap(own) if own.as_non_null() == heap),
            "all are gone"
        );
    });
}

/// What a fork takes with the bins closed is given back with the bins closed.
#[test]
fn closed_bins_stay_closed_over_a_visit_without_them() {
    with_heap(|block, heap| {
        close(heap);
        let taken = block.take();
        assert_ne!(taken, empty(), "a fork stops the core");
        block.put(detour::resting(heap));
        assert!(is_closed(heap) && !block.is_taken());
    });
}
