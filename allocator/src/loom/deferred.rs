//! Deferred frees: nothing on the stack is lost or doubled; the arena gives bytes out again only
//! when their last user is done.
//!
//! Faults: `deferred_push_relaxed`, `deferred_take_relaxed` (the taker reads links and blocks too
//! early), `deferred_free_relaxed` (two users of the same bytes).

use std::ptr::NonNull;
use std::sync::OnceLock;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use zonal_numa::{Machine, PAGE_SIZE, Span};

use super::{check, reached};
use crate::deferred::Deferred;

/// A block whose first word becomes the link.
#[repr(C)]
struct Block {
    link: usize,
    number: UnsafeCell<u32>,
}

fn push(deferred: &Deferred, number: u32) {
    let block = Box::leak(Box::new(Block { link: 0, number: UnsafeCell::new(0) }));
    // SAFETY: not shared yet.
    block.number.with_mut(|n| unsafe { *n = number });
    deferred.push(NonNull::from(block).cast());
}

fn take(deferred: &Deferred, seen: &mut Vec<u32>) -> usize {
    let before = seen.len();
    deferred.take(|block| {
        // SAFETY: blocks on the stack were boxes and are the taker's now.
        let block = unsafe { Box::from_raw(block.cast::<Block>().as_ptr()) };
        // SAFETY: as above.
        seen.push(block.number.with_mut(|n| unsafe { *n }));
    });
    seen.len() - before
}

#[test]
fn stack() {
    check("deferred:stack", &["took-none", "took-one", "took-several", "interleaved"], || {
        let deferred = Arc::new(Deferred::new());
        let pushers = [&[1, 2][..], &[3]].map(|numbers| {
            let deferred = Arc::clone(&deferred);
            thread::spawn(move || numbers.iter().for_each(|&n| push(&deferred, n)))
        });
        let mut seen = Vec::new();
        reached(match take(&deferred, &mut seen) {
            0 => "took-none",
            1 => "took-one",
            _ => "took-several",
        });
        pushers.into_iter().for_each(|thread| thread.join().unwrap());
        take(&deferred, &mut seen);
        assert!(!deferred.is_waiting());
        if seen == [2, 3, 1] {
            reached("interleaved");
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3], "lost or doubled");
    });
}

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(Machine::linux)
}

/// Bytes of a block with its header.
const STEP: usize = 32;

/// The arena, and for every place in it a cell by which loom sees who uses the bytes.
struct Arena {
    deferred: Deferred,
    places: [UnsafeCell<u32>; 4],
}

impl Arena {
    /// Uses a block from its allocation to its end; returns its place.
    fn use_block(&self) -> usize {
        let block = self.deferred.alloc(machine(), STEP / 2, 1).unwrap();
        let addr = block.addr().get();
        assert_eq!(self.deferred.size_of(addr), Ok(STEP / 2));
        let place = addr % PAGE_SIZE / STEP;
        // SAFETY: the block is this thread's.
        self.places[place].with_mut(|n| unsafe { *n += 1 });
        self.deferred.free(addr).unwrap();
        place
    }
}

#[test]
fn arena() {
    check("deferred:arena", &["side-by-side", "rewound"], || {
        let arena = Arc::new(Arena {
            deferred: Deferred::new(),
            places: [(); 4].map(|()| UnsafeCell::new(0)),
        });
        let others = [(); 2].map(|()| {
            let arena = Arc::clone(&arena);
            thread::spawn(move || arena.use_block())
        });
        let mut places = vec![arena.use_block()];
        places.extend(others.map(|thread| thread.join().unwrap()));
        places.sort_unstable();
        reached(if places == [0, 0, 0] { "rewound" } else { "side-by-side" });

        let last = arena.deferred.alloc(machine(), STEP / 2, 1).unwrap().addr().get();
        assert_eq!(last % PAGE_SIZE, STEP / 2, "an arena without blocks starts anew");
        assert!(arena.deferred.alloc(machine(), PAGE_SIZE, 1).is_none());
        // SAFETY: the arena, which in a model is one page; nobody uses it any more.
        machine().unmap(unsafe { Span::new(last & !(PAGE_SIZE - 1), PAGE_SIZE) }).unwrap();
    });
}
