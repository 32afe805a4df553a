//! What a thread keeps of large runs: its hits, which take no gate, against a visitor that closes no bins to them.
//! The two are never at the runs together, and each sees what the other one did.
//!
//! The instruction that marks the heap, and the barrier, are as in [`super::mark`].
//!
//! Faults: `runs_claim_unread` (a hit does not look whether the gate is claimed), `runs_mark_unread` (the visitor does
//! not look whether a hit is under way), `runs_slow_as_hit` (a call that is slow goes to the runs as a hit),
//! `runs_look_relaxed` and `mark_set_relaxed` (the visitor misses what a hit did that is over), `gate_visited_relaxed`
//! and `gate_end_relaxed` (the hit misses what the visitor did), `gate_no_heavy_barrier`.

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::{check, reached};
use crate::fault::fault;
use crate::gate::{self, Barrier, Gate};
use crate::mark::{self, Mark};

/// Where the owner's stack stands.
const PLACE: u64 = 64;

struct Heap {
    gate: Gate,
    mark: AtomicU64,
    runs: UnsafeCell<u32>,
    instruction: Mutex<()>,
}

impl Heap {
    fn work(&self) -> u32 {
        // SAFETY: what the model is about.
        self.runs.with_mut(|n| unsafe { *n += 1 });
        1
    }

    /// A call of the owner; how often it was at the runs.
    fn call(&self) -> u32 {
        let is_marked = {
            let _whole = self.instruction.lock().unwrap();
            mark::add(&self.mark, PLACE)
        };
        assert!(is_marked, "nobody closes them");
        if fault("runs_claim_unread") || !self.gate.is_visited() {
            reached("hit");
            let works = self.work();
            mark::set(&self.mark, Mark::FREE);
            return works;
        }
        mark::set(&self.mark, Mark::at(PLACE).slow());
        let works = if fault("runs_slow_as_hit") {
            self.work()
        } else if self.gate.try_enter(Barrier::Asymmetric) {
            reached("inside");
            let works = self.work();
            self.gate.leave();
            works
        } else {
            reached("beside");
            0
        };
        let _whole = self.instruction.lock().unwrap();
        mark::end(&self.mark);
        works
    }

    /// A visitor that takes the runs if it can.
    fn visit(&self) -> u32 {
        if !self.gate.begin_visit() {
            return 0;
        }
        gate::heavy();
        if !fault("gate_no_heavy_barrier") {
            drop(self.instruction.lock().unwrap());
        }
        let mut works = 0;
        if self.gate.settle(2) {
            let found = mark::load_settled(&self.mark);
            if found.is_in_hit() && !fault("runs_mark_unread") {
                reached("in-hit");
            } else {
                reached(if found.is_slow() { "slow" } else { "free" });
                works = self.work();
            }
        }
        self.gate.end_visit();
        works
    }
}

#[test]
fn hits_and_a_visitor() {
    let situations = ["hit", "inside", "beside", "in-hit", "slow", "free"];
    check("runs:visitor", &situations, || {
        let heap = Arc::new(Heap {
            gate: Gate::new(),
            mark: AtomicU64::new(Mark::FREE.bits()),
            runs: UnsafeCell::new(0),
            instruction: Mutex::new(()),
        });
        let owner = {
            let heap = Arc::clone(&heap);
            thread::spawn(move || (0..2).map(|_| heap.call()).sum::<u32>())
        };
        let works = heap.visit() + owner.join().unwrap();
        // SAFETY: everybody else has ended.
        assert_eq!(heap.runs.with(|n| unsafe { *n }), works);
    });
}
