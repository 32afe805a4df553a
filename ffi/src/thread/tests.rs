use std::thread;

use super::*;
use crate::foreign::Alone;
use crate::hot;
use crate::signal;

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
