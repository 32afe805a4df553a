//! Hits against a visitor that closes the bins to them: the two are never at the bins together.
//!
//! An instruction that looks and stores is here a load and a store, between which any other thread may come
//! but the barrier, which finds all threads between two instructions: a mutex around both. A handler of a
//! signal is a call of the same thread in the middle of another one; each model of them has it at one point.
//!
//! Faults: `mark_torn` (the barrier may come between the load and the store), `mark_not_taken_back` (a hit that
//! could not mark the heap leaves what it added), `gate_no_heavy_barrier` (no barrier), `mark_set_relaxed` (the
//! end of a call comes before what that did), `mark_unread` (the visitor does not look whether the bins are closed
//! after it), `mark_late` (it closes them after it), `mark_closed_over` (it closes them over a mark, or of a heap
//! that no thread has), `mark_outside` (the owner opens them without the gate), `mark_end_opens` (it opens them at
//! the end of a call beside the visitor), `mark_end_blind` (it ends a call that has ended, which opens what was
//! closed since), `gate_end_relaxed` (it misses what the visitor did), `mark_taken_once` (it takes what a handler
//! has opened for taken, though it is not), `mark_back_blind` (a hit that failed takes back what is no longer
//! there), `registry_take_visited` (the next owner does not care who is inside), `mark_absent_relaxed` and
//! `mark_close_relaxed` (it does not learn of it).

use std::cell::Cell;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::{check, reached};
use crate::fault::fault;
use crate::gate::{self, Barrier, Gate};
use crate::mark::{self, Mark, Taking};

/// Where the owner's stack stands; a handler's is below.
const PLACE: u64 = 64;
/// Points of a call at which a handler may come.
const POINTS: usize = 9;

struct Heap {
    gate: Gate,
    mark: AtomicU64,
    bins: UnsafeCell<u32>,
    instruction: Mutex<()>,
}

impl Heap {
    fn new() -> Heap {
        Heap {
            gate: Gate::new(),
            mark: AtomicU64::new(Mark::FREE.bits()),
            bins: UnsafeCell::new(0),
            instruction: Mutex::new(()),
        }
    }

    fn work(&self) {
        // SAFETY: what the model is about.
        self.bins.with_mut(|n| unsafe { *n += 1 });
    }

    /// An instruction that looks and stores.
    fn whole<T>(&self, instruction: impl FnOnce() -> T) -> T {
        let _whole = (!fault("mark_torn")).then(|| self.instruction.lock().unwrap());
        instruction()
    }

    /// A visitor that takes the bins if it can.
    fn visit(&self) -> u32 {
        if !self.gate.begin_visit() {
            return 0;
        }
        let is_late = fault("mark_late");
        let mut has_closed = !is_late && mark::close(&self.mark);
        gate::heavy();
        if !fault("gate_no_heavy_barrier") {
            drop(self.instruction.lock().unwrap());
        }
        if is_late {
            has_closed = mark::close(&self.mark);
        }
        let mut nr = 0;
        if self.gate.settle(2) {
            if mark::is_closed(&self.mark) {
                reached(if has_closed { "emptied" } else { "emptied-later" });
                self.work();
                nr = 1;
            } else if has_closed {
                reached("overtaken");
            }
        }
        self.gate.end_visit();
        nr
    }
}

/// The owner's thread.
struct Owner {
    heap: Arc<Heap>,
    /// Points until its handler comes.
    handler: Cell<Option<usize>>,
    handled: Cell<u32>,
    /// The call that has the heap is gone, and who finds it takes it over, also a handler that cannot be told from
    /// the program.
    is_left: Cell<bool>,
    /// The call is about to end, and has ended its mark of the detour: where somebody watches, a handler takes
    /// the heap by that.
    is_ending: Cell<bool>,
}

impl Owner {
    fn new(heap: &Arc<Heap>, handler: Option<usize>) -> Owner {
        let (heap, handler) = (Arc::clone(heap), Cell::new(handler));
        let (is_left, is_ending) = (Cell::new(false), Cell::new(false));
        Owner { heap, handler, handled: Cell::new(0), is_left, is_ending }
    }

    fn point(&self) {
        let left = self.handler.take();
        if left == Some(0) {
            reached("handler");
            let done = if self.is_ending.take() { self.watched() } else { self.call(PLACE / 2) };
            self.handled.set(self.handled.get() + done.unwrap_or(0));
            if done.is_none() {
                reached("inside");
            }
        } else {
            self.handler.set(left.map(|left| left - 1));
        }
    }

    /// A call of the program, and of a handler that comes in it. How often they were at the bins.
    fn calls(&self) -> u32 {
        let done = self.call(PLACE);
        done.expect("nobody has its heap") + self.handled.take()
    }

    /// One call; none if another one has the heap.
    fn call(&self, place: u64) -> Option<u32> {
        let Heap { gate: _, mark, bins: _, instruction: _ } = &*self.heap;
        self.point();
        if self.heap.whole(|| mark::add(mark, place)) {
            reached("hit");
            self.point();
            self.heap.work();
            self.point();
            mark::set(mark, Mark::FREE);
            self.point();
            return Some(1);
        }
        self.undo_add(place);
        loop {
            self.point();
            let found = mark::load(mark);
            self.point();
            match self.heap.whole(|| mark::try_take_found(mark, found, place)) {
                Taking::Taken => break,
                Taking::Busy if !self.is_left.get() && mark::load(mark) == found => return None,
                Taking::Busy if self.is_left.get() => {
                    if self.heap.whole(|| mark::replace(mark, found, Mark::at(place))) {
                        reached("taken-over");
                        self.is_left.set(false);
                        break;
                    }
                }
                Taking::Busy | Taking::Changed => reached("again"),
            }
        }
        Some(self.miss())
    }

    /// The end of a hit that could not mark the heap.
    fn undo_add(&self, place: u64) {
        let mark = &self.heap.mark;
        loop {
            self.point();
            let found = mark::load(mark);
            self.point();
            if self.heap.whole(|| mark::undo_add_found(mark, found, place)) {
                break;
            }
        }
    }

    /// The slow path of a call that has taken the heap.
    fn miss(&self) -> u32 {
        let mark = &self.heap.mark;
        self.point();
        let has_bins = !mark::load(mark).is_closed() || self.open();
        self.point();
        if has_bins {
            self.heap.work();
        } else {
            reached("beside");
            self.heap.gate.hurry();
        }
        self.end();
        if self.handler.get().is_none() {
            // As where somebody watches, and a handler has ended the call's mark in the bins.
            self.end();
        }
        u32::from(has_bins)
    }

    fn end(&self) {
        let mark = &self.heap.mark;
        self.is_ending.set(true);
        loop {
            self.point();
            let found = mark::load(mark);
            self.point();
            if self.heap.whole(|| mark::end_found(mark, found)) {
                break;
            }
            reached("ended");
        }
        self.is_ending.set(false);
    }

    /// A call of a handler that took the detour, at the end of another one.
    fn watched(&self) -> Option<u32> {
        let mark = &self.heap.mark;
        self.heap.whole(|| mark::seize(mark, Mark::at(PLACE / 2)));
        Some(self.miss())
    }

    fn open(&self) -> bool {
        let Heap { gate, mark, .. } = &*self.heap;
        let is_inside = gate.try_enter(Barrier::Asymmetric);
        let may_open = is_inside || fault("mark_outside");
        if may_open {
            reached("opened");
            mark::open(mark);
        }
        if is_inside {
            gate.leave();
        }
        may_open
    }
}

/// Who comes when all others are gone finds the bins as usual.
fn settle(heap: &Arc<Heap>, works: u32) {
    // SAFETY: everybody else has ended.
    assert_eq!(heap.bins.with(|n| unsafe { *n }), works);
    assert_eq!(Owner::new(heap, None).calls(), 1);
}

fn hits_and_visits(nr_hits: usize, nr_visits: usize) {
    let heap = Arc::new(Heap::new());
    let owner = Owner::new(&heap, None);
    let owner = thread::spawn(move || (0..nr_hits).map(|_| owner.calls()).sum::<u32>());
    let works = (0..nr_visits).map(|_| heap.visit()).sum::<u32>() + owner.join().unwrap();
    settle(&heap, works);
}

/// One visit closes the bins and has them, unless a hit overtakes it.
#[test]
fn hits() {
    let situations = ["hit", "opened", "beside", "emptied", "overtaken"];
    check("mark:hits", &situations, || hits_and_visits(2, 1));
}

/// What is closed stays so until the owner comes.
#[test]
fn later() {
    let situations = ["hit", "opened", "beside", "emptied", "emptied-later"];
    check("mark:later", &situations, || hits_and_visits(1, 2));
}

/// A call and its handler, which comes at any point, each find the bins or who has them. In the middle of a
/// visit the bins are closed already, or are being closed.
#[test]
fn handlers() {
    let points =
        [false, true].into_iter().flat_map(|closed| (0..POINTS).map(move |at| (closed, at)));
    for (is_closed, at) in points {
        let situation = match (is_closed, at) {
            (false, 1..=2) | (true, 1..=2 | 5..=6) => "inside",
            (true, 4) => "again",
            (true, 8) => "ended",
            _ => "handler",
        };
        check("mark:handlers", &["handler", situation], move || {
            let heap = Arc::new(Heap::new());
            let before = if is_closed { heap.visit() } else { 0 };
            let owner = Owner::new(&heap, Some(at));
            let owner = thread::spawn(move || owner.calls());
            let works = before + heap.visit() + owner.join().unwrap();
            settle(&heap, works);
        });
    }
}

/// A call was left in its hit; the next one and its handler, at any point, take it over, and each finds what the
/// other one made of it.
#[test]
fn what_is_left() {
    for at in 0..POINTS {
        let situation = if (1..=4).contains(&at) { "handler" } else { "taken-over" };
        check("mark:what_is_left", &["taken-over", situation], move || {
            let heap = Arc::new(Heap::new());
            assert!(mark::add(&heap.mark, 2 * PLACE));
            let owner = Owner::new(&heap, Some(at));
            owner.is_left.set(true);
            let owner = thread::spawn(move || owner.calls());
            let works = heap.visit() + owner.join().unwrap();
            settle(&heap, works);
        });
    }
}

/// A thread ends; the next one has its heap for a request without marks, and then for hits.
#[test]
fn the_next_owner() {
    let situations = ["left", "visited", "hit", "emptied"];
    check("mark:the_next_owner", &situations, || {
        let heap = Arc::new(Heap::new());
        let pool = Arc::new(Mutex::new(false));
        let ended = {
            let (owner, pool) = (Owner::new(&heap, None), Arc::clone(&pool));
            thread::spawn(move || {
                let works = owner.calls();
                let mut pool = pool.lock().unwrap();
                mark::set_absent(&owner.heap.mark);
                *pool = true;
                works
            })
        };
        let next = {
            let owner = Owner::new(&heap, None);
            thread::spawn(move || {
                let pool = pool.lock().unwrap();
                if !*pool {
                    return 0;
                }
                if owner.heap.gate.is_visited() && !fault("registry_take_visited") {
                    reached("visited");
                    return 0;
                }
                drop(pool);
                reached("left");
                owner.heap.work();
                mark::end(&owner.heap.mark);
                1 + owner.calls()
            })
        };
        let works = heap.visit() + ended.join().unwrap() + next.join().unwrap();
        // SAFETY: everybody else has ended.
        assert_eq!(heap.bins.with(|n| unsafe { *n }), works);
    });
}
