//! The owner gate: owner and visitors are never inside together, and see each other's work.
//!
//! Faults: `gate_no_heavy_barrier` and `gate_no_light_barrier` (both sides pass),
//! `gate_leave_relaxed` and `gate_end_relaxed` (the next one misses writes), `gate_try_blind` (an
//! owner that does not wait goes in all the same), `gate_hurry_blind` (an owner that hurries a visitor
//! which has just left shuts the gate for ever), `futex_no_wake` (the owner sleeps for ever).

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{check, reached};
use crate::gate::{self, Barrier, Gate};

struct Heap {
    gate: Gate,
    inner: UnsafeCell<u32>,
}

impl Heap {
    fn new() -> Heap {
        Heap { gate: Gate::new(), inner: UnsafeCell::new(0) }
    }

    fn work(&self) {
        // SAFETY: the caller is inside the gate.
        self.inner.with_mut(|n| unsafe { *n += 1 });
    }

    fn own(&self, barrier: Barrier) {
        self.gate.enter(barrier);
        self.work();
        self.gate.leave();
    }

    /// The owner's way in where it must not wait, as in a remote free.
    fn try_own(&self, barrier: Barrier) -> bool {
        let entered = self.gate.try_enter(barrier);
        reached(if entered { "entered" } else { "refused" });
        if entered {
            self.work();
            self.gate.leave();
        }
        entered
    }

    fn visit(&self) -> bool {
        if !self.gate.begin_visit() {
            reached("turned-away");
            return false;
        }
        gate::heavy();
        let settled = self.gate.settle(2);
        reached(if settled { "visit" } else { "give-up" });
        if settled {
            self.work();
            if self.gate.is_wanted() {
                reached("hurried");
            }
        }
        self.gate.end_visit();
        settled
    }
}

fn one_visitor(barrier: Barrier) {
    let heap = Arc::new(Heap::new());
    let owner = {
        let heap = Arc::clone(&heap);
        thread::spawn(move || {
            heap.own(barrier);
            heap.own(barrier);
        })
    };
    let visits = u32::from(heap.visit());
    owner.join().unwrap();
    // SAFETY: everybody else has ended.
    assert_eq!(heap.inner.with(|n| unsafe { *n }), 2 + visits);
}

#[test]
fn visitor() {
    check("gate:visitor", &["visit", "give-up", "sleep", "late-sleep"], || {
        one_visitor(Barrier::Asymmetric);
    });
}

/// The owner goes in only if it need not wait, and later by all means.
#[test]
fn try_enter() {
    check("gate:try", &["entered", "refused", "visit", "give-up"], || {
        let heap = Arc::new(Heap::new());
        let owner = {
            let heap = Arc::clone(&heap);
            thread::spawn(move || {
                let works = u32::from(heap.try_own(Barrier::Asymmetric));
                heap.own(Barrier::Asymmetric);
                works + 1
            })
        };
        let visits = u32::from(heap.visit());
        let works = owner.join().unwrap();
        // SAFETY: everybody else has ended.
        assert_eq!(heap.inner.with(|n| unsafe { *n }), works + visits);
    });
}

/// The owner does not wait but works elsewhere, and comes again later: at the end it may sleep.
#[test]
fn elsewhere() {
    check("gate:elsewhere", &["entered", "refused", "visit", "hurried", "sleep"], || {
        let heap = Arc::new(Heap::new());
        let owner = {
            let heap = Arc::clone(&heap);
            thread::spawn(move || {
                let mut works = 0;
                for _ in 0..2 {
                    if heap.try_own(Barrier::Asymmetric) {
                        works += 1;
                    } else {
                        heap.gate.hurry();
                    }
                }
                heap.own(Barrier::Asymmetric);
                works + 1
            })
        };
        let visits = u32::from(heap.visit());
        let works = owner.join().unwrap();
        // SAFETY: everybody else has ended.
        assert_eq!(heap.inner.with(|n| unsafe { *n }), works + visits);
        assert!(!heap.gate.is_visited() && heap.gate.begin_visit(), "the gate is open");
    });
}

/// Fork goes in after any visitor and its owner, and sleeps for a visitor.
#[test]
fn fork() {
    check("gate:fork", &["visit", "turned-away", "sleep", "hurried"], || {
        let heap = Arc::new(Heap::new());
        let other = {
            let heap = Arc::clone(&heap);
            thread::spawn(move || u32::from(heap.visit()))
        };
        heap.gate.begin_visit_by_all_means();
        gate::heavy();
        assert!(heap.gate.settle(1), "there is no owner");
        heap.work();
        heap.gate.end_visit();
        let visits = other.join().unwrap();
        // SAFETY: everybody else has ended.
        assert_eq!(heap.inner.with(|n| unsafe { *n }), 1 + visits);
        assert!(!heap.gate.is_visited(), "the gate is open");
    });
}

#[test]
fn symmetric() {
    check("gate:symmetric", &["visit", "give-up", "sleep"], || {
        one_visitor(Barrier::Symmetric);
    });
}

#[test]
fn two_visitors() {
    check("gate:two", &["visit", "give-up", "turned-away", "sleep"], || {
        let heap = Arc::new(Heap::new());
        let other = {
            let heap = Arc::clone(&heap);
            thread::spawn(move || u32::from(heap.visit()))
        };
        let owner = {
            let heap = Arc::clone(&heap);
            thread::spawn(move || heap.own(Barrier::Asymmetric))
        };
        let visits = u32::from(heap.visit()) + other.join().unwrap();
        owner.join().unwrap();
        // SAFETY: everybody else has ended.
        assert_eq!(heap.inner.with(|n| unsafe { *n }), 1 + visits);
    });
}
