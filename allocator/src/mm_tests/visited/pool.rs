//! Visitors of heaps whose threads end, or have ended.

use super::*;
use crate::registry::Remains;

/// A thread does not wait to end, the next one gets another heap, and nothing stays behind.
#[test]
fn a_thread_may_end_beside_a_visitor() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let mut blocks: Vec<_> = (0..5000).map(|_| own.alloc(100, 8)).collect();
    let other = Owner::attach(mm);
    blocks.drain(..4990).for_each(|block| other.free(block));
    // SAFETY: this thread owns both heaps.
    unsafe {
        mm.detach(other.0);
        mm.drain_own(own.0, Patience::Wait, Deadline::NEVER);
    }
    // As if kswapd had been there since: it left the heap as drained.
    own.heap().watch.drained.store(own.heap().epoch(), core::sync::atomic::Ordering::Relaxed);
    let visitor = visit(own);
    // Hits, all of them.
    blocks.into_iter().for_each(|block| own.free(block));
    while mm.doorbell().answer() {}
    // SAFETY: the thread ends.
    unsafe { mm.detach(own.0) };
    assert!(mm.doorbell().answer(), "somebody has to come for it");
    let next = Owner::attach(mm);
    assert_ne!(next.0, own.0);
    drop(visitor);
    // It may have the heap of the other one, whose bins are full.
    mm.drain_own(next.0, Patience::Wait, Deadline::NEVER);
    mm.drain_all(Some(next.0));
    mm.validate(Some(next.0)).unwrap();
    let stats = snapshot(mm, Some(next.0));
    assert_eq!(stats.classes().iter().map(|c| c.nr_slabs).sum::<u64>(), 0, "nor what was in bins");
}

/// As many threads as want to find a visitor in their heaps: they share the heaps of the pool.
#[test]
fn threads_beside_visitors_need_few_other_heaps() {
    const NR: usize = 16;
    let mm = new_mm();
    let ready = Barrier::new(NR);
    std::thread::scope(|scope| {
        for seed in 1..=NR as u64 {
            let ready = &ready;
            scope.spawn(move || {
                let mut meeting = Meeting::of(ready, 2);
                let own = Owner::attach(mm);
                let visitor = visit(own);
                meeting.wait();
                churn(own, &mut Rng(seed), 5_000);
                drop(visitor);
                meeting.wait();
                // SAFETY: the thread ends.
                unsafe { mm.detach(own.0) };
            });
        }
    });
    let (nr_heaps, nr_dead) = nr_heaps(mm);
    assert_eq!(nr_heaps, nr_dead);
    let most = 2 * NR as u64 + 1;
    assert!(nr_heaps <= most, "one for each request that runs, and the commons, not {nr_heaps}");
    assert_eq!(mm.vmstat().stats().throttled, 0);
    assert_nothing_left(mm);
}

/// What lies in the bins of a thread that ended beside a visitor is of slabs that nobody else gets.
#[test]
fn a_heap_with_full_bins_is_not_shared() {
    let mm = new_mm();
    let [whole, too, first, second, third] = [(); 5].map(|()| Owner::attach(mm));
    for owner in [whole, too] {
        // SAFETY: this thread owns all heaps.
        unsafe { mm.detach(owner.0) };
    }
    let take = |owner: Owner, nr| -> Vec<_> { (0..nr).map(|_| owner.alloc(100, 8)).collect() };
    let free_half = |owner: Owner, blocks: Vec<_>| {
        blocks.into_iter().step_by(2).for_each(|block| owner.free(block));
    };
    // In slabs, and some in the bin.
    free_half(first, take(first, 5000));
    let visitor = visit(first);
    // SAFETY: as above.
    unsafe { mm.detach(first.0) };
    drop(visitor);
    free_half(second, take(second, 500));
    // SAFETY: as above.
    unsafe { mm.detach(second.0) };
    take(third, 5000);
    mm.drain_all(Some(third.0));
    assert_eq!(mm.check_bins(Some(third.0)), None);
    mm.validate(Some(third.0)).unwrap();
}

/// Slabs that could not go to the commons, since somebody was there, go later.
#[test]
fn slabs_that_find_the_commons_visited_come_again() {
    let mm = new_mm();
    let [whole, too, commons, ended, last] = without_commons(mm);
    for owner in [whole, too, commons] {
        // SAFETY: this thread owns all heaps.
        unsafe { mm.detach(owner.0) };
    }
    let blocks: Vec<_> = (0..5000).map(|_| ended.alloc(100, 8)).collect();
    blocks.into_iter().step_by(2).for_each(|block| ended.free(block));
    let visitor = visit(commons);
    while mm.doorbell().answer() {}
    // SAFETY: as above.
    unsafe { mm.detach(ended.0) };
    assert!(!ended.heap().is_drained());
    assert!(mm.doorbell().answer(), "somebody has to come for them");
    drop(visitor);
    mm.drain_all(Some(last.0));
    let nr_slabs = |owner: Owner| -> u32 {
        owner.heap().enter().classes.iter().map(|class| class.nr_slabs).sum()
    };
    assert_eq!(nr_slabs(ended), 0);
    let nr_common = nr_slabs(commons);
    assert!(nr_common > 10);
    (0..2000).for_each(|_| _ = last.alloc(100, 8));
    assert!(nr_slabs(commons) < nr_common, "they serve others");
    mm.validate(Some(last.0)).unwrap();
}

/// A miss that asks the commons holds the lock of the pool: not for all that came back to them.
#[test]
fn a_miss_opens_few_messages_of_the_commons() {
    let mm = new_mm();
    let [whole, too, commons, last] = without_commons(mm);
    let blocks: Vec<_> = (0..40_000).map(|_| commons.alloc(100, 8)).collect();
    let (some, others): (Vec<_>, Vec<_>) =
        blocks.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    some.into_iter().for_each(|(_, block)| commons.free(block));
    for owner in [whole, too, commons] {
        // SAFETY: this thread owns all heaps.
        unsafe { mm.detach(owner.0) };
    }
    others.into_iter().for_each(|(_, block)| last.send_home(block));
    last.heap().enter().post_all(last.heap());
    last.alloc(100, 8);
    assert!(!commons.heap().enter().received.is_null(), "the rest is for later misses");
    (0..20_000).for_each(|_| _ = last.alloc(100, 8));
    assert!(commons.heap().enter().received.is_null());
    mm.drain_all(Some(last.0));
    mm.validate(Some(last.0)).unwrap();
}

/// Its bins are the visitor's.
#[test]
fn no_thread_gets_a_heap_of_the_pool_in_which_a_visitor_is() {
    let mm = new_mm();
    let ended = Owner::attach(mm);
    // SAFETY: this thread owns the heap.
    unsafe { mm.detach(ended.0) };
    let visitor = mm.registry.visit_dead(ended.heap()).entered().unwrap();
    assert!(mm.registry.visit_dead(ended.heap()).entered().is_none(), "one at a time");
    let other = Owner::attach(mm);
    assert_ne!(other.0, ended.0);
    drop(visitor);
    assert_eq!(Owner::attach(mm).0, ended.0);
    assert!(mm.registry.visit_dead(ended.heap()).entered().is_none(), "it is in no pool");
}

/// Each heap has one turn in a round, also if it changes hands during that.
#[test]
fn a_round_sees_each_heap_once() {
    let mm = new_mm();
    let [own, begins, other, ends] = without_commons(mm);
    // SAFETY: this thread owns the heap.
    unsafe { mm.detach(begins.0) };
    let mut seen = Vec::new();
    mm.visit_heaps(Some(own.0), Patience::Wait, |entered| {
        let id = entered.heap().id();
        seen.push(id.index());
        if id == other.heap().id() {
            assert!(mm.registry.take_any(|heap| heap.id() == begins.heap().id()).is_some());
            mm.registry.put_dead(ends.0.as_non_null(), Remains::Whole);
        }
    });
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4]);
}
