//! What a thread does while a visitor is in its heap: it borrows, passes by, or waits.

use zonal_numa::{MemPolicy, PolicyMode};

use super::*;
use crate::visit::sweep::Sweep;

/// Others that leave heaps out do not wait, and do not keep a thread from them for long either.
#[test]
fn rounds_without_patience_pass_by() {
    let mm = new_mm();
    let [own, ended] = [(); 2].map(|()| Owner::attach(mm));
    for owner in [own, ended] {
        let blocks: Vec<_> = (0..5000).map(|_| owner.alloc(100, 8)).collect();
        blocks.into_iter().for_each(|block| owner.free(block));
    }
    // SAFETY: this thread owns both heaps.
    unsafe { mm.detach(ended.0) };
    let visitors = [visit(own), mm.registry.visit_dead(ended.heap()).entered().unwrap()];
    let passing = Patience::PassBy;
    let nr_skipped = || mm.vmstat().stats().drain_skipped;
    mm.drain_all_until(Some(own.0), passing, Deadline::NEVER);
    let nr_before = nr_skipped();
    assert_eq!(nr_before, 1 + 2 * 2, "one of the dead, and two rounds over two heaps");
    mm.purge_holes(Some(own.0), passing, PurgeHow::ALL, usize::MAX);
    assert_eq!(nr_skipped(), nr_before + 2);
    assert_eq!(mm.drain_own(own.0, passing, Deadline::NEVER), 0);
    let sweep =
        Sweep { how: PurgeHow::ALL, idle_for: 0, step_pages: usize::MAX, max_pages: usize::MAX };
    assert_eq!(mm.sweep(Some(own.0), sweep).nr_pages, 0);
    let mut figures = Box::default();
    mm.snapshot(Some(own.0), passing, &mut figures);
    assert_eq!(figures.process.nr_dead_heaps, 1);
    // Who wants all waits, also for a visitor of one that is in the pool.
    std::thread::scope(|scope| {
        let all = scope.spawn(|| mm.drain_all(None));
        while !visitors[1].heap().is_awaited() {
            std::thread::yield_now();
        }
        assert!(!all.is_finished());
        drop(visitors);
        assert!(all.join().unwrap() > 0);
    });
    assert_eq!(mm.vmstat().stats().throttled, 1);
    mm.validate(Some(own.0)).unwrap();
}

/// At a limit the last try is in the thread's own heap, whoever is there now.
#[test]
fn what_is_free_is_waited_for_before_there_is_no_memory() {
    let pages = crate::PageConfig { limit: (8 << 20) / PAGE_SIZE, ..crate::PageConfig::default() };
    let mm = Mm::new(Machine::linux(), Config { pages, ..Config::default() }).unwrap();
    let own = Owner::attach(mm);
    let heap = own.heap();
    let alloc = |level| {
        let request = Request { size: 1000, align: 8, zeroed: false, grows: false };
        // SAFETY: one thread at a time owns the heap.
        unsafe { heap.alloc(request, Attempt { node: heap.node(), level }) }
    };
    let blocks: Vec<_> = core::iter::from_fn(|| alloc(WatermarkLevel::Reserve).ok()).collect();
    assert!(blocks.len() > 1000);
    blocks.into_iter().step_by(2).for_each(|block| own.free(block.start));
    mm.drain_own(own.0, Patience::Wait, Deadline::NEVER);
    let visitor = visit(own);
    assert!(alloc(WatermarkLevel::Low).is_err(), "elsewhere there is none");
    assert_eq!(mm.vmstat().stats().visited_alloc, 0, "and that is none");
    std::thread::scope(|scope| {
        let last = scope.spawn(|| alloc(WatermarkLevel::Reserve).is_ok());
        while !visitor.heap().is_awaited() {
            std::thread::yield_now();
        }
        drop(visitor);
        assert!(last.join().unwrap());
    });
    mm.validate(Some(own.0)).unwrap();
}

/// Blocks of borrowed heaps count in the turns of who borrows them.
#[test]
fn borrowed_heaps_go_by_the_turns_of_the_borrower() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let policy = MemPolicy { mode: PolicyMode::Interleave, nodes: mm.pages().allowed() };
    let turns_of = |heap: &Heap| heap.turns().map(core::ptr::from_ref);
    mm.set_policy(own.0, Some(policy)).unwrap();
    let turns = turns_of(own.heap());
    assert!(turns.is_some());
    for _ in 0..2 {
        let lent = mm.with_another(own.heap(), turns_of).unwrap();
        assert_eq!(lent, turns);
    }
    let next = Owner::attach(mm);
    assert_eq!(nr_heaps(mm), (2, 0), "it has the heap that was borrowed");
    mm.set_policy(next.0, Some(policy)).unwrap();
    assert_ne!(turns_of(next.heap()), turns);
}

/// A heap that serves one object is no thread's, and whoever frees beside a visitor calls kswapd.
#[test]
fn borrowed_heaps_are_no_threads() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let nr_threads = mm.pages().nr_threads();
    let visitor = visit(own);
    let blocks: Vec<_> = (0..5000).map(|_| own.alloc(100, 8)).collect();
    assert_eq!(mm.pages().nr_threads(), nr_threads);
    // Nor while a thread begins and another ends.
    let ended = Owner::attach(mm);
    mm.with_another(own.heap(), |_| {
        Owner::attach(mm);
        // SAFETY: this thread owns the heap.
        unsafe { mm.detach(ended.0) };
    })
    .unwrap();
    assert_eq!(mm.pages().nr_threads(), nr_threads + 1);
    assert_eq!(mm.registry.nr_whole(), 1, "what is borrowed is not left by a thread");
    while mm.doorbell().answer() {}
    blocks.into_iter().for_each(|block| own.free(block));
    assert!(mm.doorbell().answer());
    drop(visitor);
}
