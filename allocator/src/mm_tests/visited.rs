//! Owners whose heap somebody else is in. The owner and its visitor are one thread in most of these
//! tests, so that a wait would never end.

use zonal_numa::fake::{Call, FakeBuilder};
use zonal_numa::{Errno, MemPolicy, PolicyMode};

use super::*;
use crate::heap::{Entered, Inner};
use crate::registry::Remains;
use crate::remote::Message;
use crate::sweep::Sweep;

/// Somebody is in the heap of `owner`, who is not.
fn visit(owner: Owner) -> Entered<'static> {
    assert!(owner.heap().begin_visit());
    owner.heap().finish_visit(1).unwrap()
}

/// Heaps, and those of them that belong to nobody.
fn nr_heaps(mm: &'static Mm) -> (u64, u64) {
    let process = snapshot(mm, None).process;
    (process.nr_heaps, process.nr_dead_heaps)
}

fn resize(owner: Owner, block: NonNull<u8>, size: usize) -> NonNull<u8> {
    // SAFETY: the test's thread owns the heap, and only the answer is used.
    unsafe { owner.heap().try_realloc(block, size).or_else(|| owner.heap().resize(block, size)) }
        .unwrap_or_else(|| {
            let moved = owner.alloc(size, 8);
            owner.free(block);
            moved
        })
}

#[test]
fn the_owner_of_a_visited_heap_goes_on_as_ever() {
    let mm = new_mm();
    let [own, other] = [(); 2].map(|()| Owner::attach(mm));
    let mut rng = Rng(0x5eed);
    churn(own, &mut rng, 10_000);
    let of_own: Vec<_> = (0..3000).map(|i| Filled::new(own, i % 600, 8, i as u8)).collect();
    let of_other: Vec<_> = (0..3000).map(|i| Filled::new(other, i % 600, 8, i as u8)).collect();
    let large = own.alloc(200 << 10, 8);

    let visitor = visit(own);
    assert!(!visitor.is_wanted());
    churn(own, &mut rng, 20_000);
    of_own.into_iter().chain(of_other).for_each(|block| block.release(own));
    let grown = resize(own, resize(own, large, 300 << 10), 40 << 10);
    assert!(visitor.is_wanted(), "it may make haste");
    let stats = mm.vmstat().stats();
    assert!(stats.visited_alloc > 1000 && stats.visited_free > 1000, "{stats:?}");
    assert_eq!(stats.throttled, 0, "nobody waits");
    drop(visitor);
    assert_eq!(nr_heaps(mm), (3, 1), "one other heap serves them all, and is nobody's");

    churn(own, &mut rng, 20_000);
    assert_eq!(mm.vmstat().stats().visited_alloc, stats.visited_alloc, "the gate is open");
    own.free(grown);
    mm.validate(Some(own.0)).unwrap();
    let nr_freed_before = snapshot(mm, Some(own.0)).heap_events.remote_free;
    for owner in [own, other] {
        // SAFETY: this thread owns both heaps.
        unsafe { mm.drain_own(owner.0, Patience::Wait, None) };
    }
    mm.drain_all(Some(own.0));
    assert!(snapshot(mm, Some(own.0)).heap_events.remote_free > nr_freed_before);
    mm.validate(Some(own.0)).unwrap();
    let stats = snapshot(mm, Some(own.0));
    assert_eq!(stats.small_bytes(), 0, "nothing is lost");
    assert_eq!(stats.classes().iter().map(|c| c.nr_slabs).sum::<u64>(), 0);
}

/// The visitor itself gives back what the owner frees beside it.
#[test]
fn a_visitor_finds_what_its_owner_put_aside() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let blocks: Vec<_> = (0..20_000).map(|_| own.alloc(500, 8)).collect();
    let mut visitor = visit(own);
    blocks.into_iter().for_each(|block| own.free(block));
    assert!(mm.vmstat().stats().visited_free > 10_000, "the bin is full");
    drop(visitor);
    // As for a thread that sleeps from now on.
    visitor = visit(own);
    let nr_slabs = |inner: &Inner| inner.classes.iter().map(|class| class.nr_slabs).sum::<u32>();
    let nr_before = nr_slabs(&visitor);
    visitor.drain(None);
    assert!(nr_slabs(&visitor) < nr_before / 2);
    assert!(own.heap().inbox.is_empty());
    drop(visitor);
    mm.validate(Some(own.0)).unwrap();
}

/// A jump out of the middle: the next miss finds what lay there, or whoever empties the heap.
#[test]
fn what_was_put_aside_is_found_after_a_jump() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let put_aside = |blocks: Vec<_>| {
        let visitor = visit(own);
        blocks.into_iter().for_each(|block| own.free(block));
        assert!(!own.heap().inbox.mark_own().is_null());
        drop(visitor);
    };
    let take = || -> Vec<_> { (0..20_000).map(|_| own.alloc(500, 8)).collect() };
    put_aside(take());
    let nr_slabs = || snapshot(mm, None).classes().iter().map(|class| class.nr_slabs).sum::<u64>();
    let nr_before = nr_slabs();
    let blocks = take();
    assert!(own.heap().inbox.is_empty());
    assert_eq!(nr_slabs(), nr_before);
    put_aside(blocks);
    // SAFETY: this thread owns the heap.
    unsafe { mm.detach(own.0) };
    mm.drain_all(None);
    assert!(own.heap().inbox.is_empty());
    assert_eq!(nr_slabs(), 0);
}

/// What a thread puts aside for itself nobody sent, and what of it is another's comes home once.
#[test]
fn only_what_others_sent_counts_as_sent() {
    let mm = new_mm();
    let [own, other] = [(); 2].map(|()| Owner::attach(mm));
    let take = |owner: Owner, nr| -> Vec<_> { (0..nr).map(|_| owner.alloc(500, 8)).collect() };
    let (of_own, of_other) = (take(own, 20_000), take(other, 300));
    let visitor = visit(own);
    of_own.into_iter().chain(of_other).for_each(|block| own.free(block));
    drop(visitor);
    assert!(mm.vmstat().stats().visited_free > 10_000);
    for owner in [own, other] {
        // SAFETY: this thread owns both heaps.
        unsafe { mm.drain_own(owner.0, Patience::Wait, None) };
    }
    assert_eq!(snapshot(mm, Some(own.0)).heap_events.remote_free, 300);
    mm.validate(Some(own.0)).unwrap();
}

#[test]
fn what_is_freed_twice_beside_a_visitor_is_found() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let blocks: Vec<_> = (0..5000).map(|_| own.alloc(100, 8)).collect();
    let visitor = visit(own);
    let twice = blocks[4000];
    for block in blocks.into_iter().chain([twice]) {
        // SAFETY: each was allocated here; one is freed twice, as some programs do.
        unsafe {
            if !HeapHot::push(own.heap().hot(), block.as_ptr()) {
                own.heap().free(block).unwrap();
            }
        }
    }
    drop(visitor);
    // SAFETY: this thread owns the heap.
    unsafe { mm.drain_own(own.0, Patience::Wait, None) };
    let bad = own.heap().take_fault().unwrap();
    assert_eq!((bad.addr, bad.kind), (twice.addr().get(), BadKind::DoubleFree));
    mm.validate(Some(own.0)).unwrap();
}

#[test]
fn checked_blocks_are_checked_beside_a_visitor() {
    let config = Config { checked: true, ..Config::default() };
    let mm = Mm::new(Machine::linux(), config).unwrap();
    let own = Owner::attach(mm);
    let alloc = |size| own.alloc_missed(size, 8);
    // SAFETY: this thread owns the heap; the blocks are given up.
    let free = |block| unsafe { own.heap().free(block) };
    let before: Vec<_> = (1..2000).map(|i| alloc(i % 300 + 1)).collect();
    let visitor = visit(own);
    let beside: Vec<_> = (1..2000).map(|i| alloc(i % 300 + 1)).collect();
    before.iter().for_each(|&block| free(block).unwrap());
    assert_eq!(free(before[7]).unwrap_err().kind, BadKind::DoubleFree);
    // SAFETY: one past its end, as some programs do.
    unsafe { beside[4].add(6).write(1) };
    assert_eq!(free(beside[4]).unwrap_err().kind, BadKind::Overrun);
    drop(visitor);
    let rest = beside.into_iter().enumerate().filter(|&(i, _)| i != 4);
    rest.for_each(|(_, block)| free(block).unwrap());
    assert_eq!(own.heap().take_fault(), None);
    mm.validate(Some(own.0)).unwrap();
}

/// What was cleared and put aside is freed a second time where there is no memory to send it on.
#[test]
fn checked_blocks_of_others_stay_whole_without_memory() {
    let fake = FakeBuilder::new().build();
    let config = Config { checked: true, ..Config::default() };
    let mm = Mm::new(Machine::fake(fake), config).unwrap();
    let [own, other] = [(); 2].map(|()| Owner::attach(mm));
    let from = Attempt { node: own.heap().node(), level: WatermarkLevel::Low };
    let request = Request { size: 100, align: 8, zeroed: false, grows: false };
    // SAFETY: this thread owns both heaps.
    let alloc = |_| unsafe { other.heap().alloc(request, from) }.unwrap().start;
    let blocks: Vec<_> = (0..40).map(alloc).collect();
    let visitor = visit(own);
    // SAFETY: likewise; the blocks are given up.
    blocks.iter().for_each(|&block| unsafe { own.heap().free(block) }.unwrap());
    drop(visitor);
    fake.fail_from(Call::Map, 1, Errno::ENOMEM);
    while mm.meta().alloc(mm.machine(), size_of::<Message>()).is_some() {}
    assert!(own.heap().enter().collect(own.heap(), || false));
    assert!(mm.has_deferred());
    fake.fail_no_more();
    mm.run_deferred(own.heap());
    assert_eq!(own.heap().take_fault(), None);
    mm.validate(Some(own.0)).unwrap();
}

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
        mm.drain_own(own.0, Patience::Wait, None);
    }
    // As if the keeper had been there since: it left the heap as drained.
    own.heap().drained.store(own.heap().epoch(), core::sync::atomic::Ordering::Relaxed);
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
    assert!(nr_heaps <= 2 * NR as u64, "one for each request that runs, not {nr_heaps}");
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
    let [whole, too, commons, ended, last] = [(); 5].map(|()| Owner::attach(mm));
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
    let [whole, too, commons, last] = [(); 4].map(|()| Owner::attach(mm));
    let blocks: Vec<_> = (0..40_000).map(|_| commons.alloc(100, 8)).collect();
    let (some, others): (Vec<_>, Vec<_>) =
        blocks.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    some.into_iter().for_each(|(_, block)| commons.free(block));
    for owner in [whole, too, commons] {
        // SAFETY: this thread owns all heaps.
        unsafe { mm.detach(owner.0) };
    }
    others.into_iter().for_each(|(_, block)| last.free(block));
    last.heap().enter().post_all(last.heap());
    last.alloc(100, 8);
    assert!(!commons.heap().enter().received.is_null(), "the rest is for later misses");
    (0..20_000).for_each(|_| _ = last.alloc(100, 8));
    assert!(commons.heap().enter().received.is_null());
    mm.drain_all(Some(last.0));
    mm.validate(Some(last.0)).unwrap();
}

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
    mm.drain_all_until(Some(own.0), passing, None);
    let nr_before = nr_skipped();
    assert_eq!(nr_before, 1 + 2 * 2, "one of the dead, and two rounds over two heaps");
    mm.purge_holes(Some(own.0), passing, PurgeHow::ALL, usize::MAX);
    assert_eq!(nr_skipped(), nr_before + 2);
    // SAFETY: as above.
    assert_eq!(unsafe { mm.drain_own(own.0, passing, None) }, 0);
    let sweep = Sweep { how: PurgeHow::ALL, idle_for: 0, max_pages: usize::MAX };
    assert_eq!(mm.sweep(Some(own.0), sweep), 0);
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
    let [own, begins, other, ends] = [(); 4].map(|()| Owner::attach(mm));
    // SAFETY: this thread owns the heap.
    unsafe { mm.detach(begins.0) };
    let mut seen = Vec::new();
    mm.visit_heaps(Some(own.0), Patience::Wait, |entered| {
        let id = entered.heap().id();
        seen.push(id.index());
        if id == other.heap().id() {
            assert!(mm.registry.take_any(|heap| heap.id() == begins.heap().id()).is_some());
            mm.registry.put_dead(ends.0, Remains::Whole);
        }
    });
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4]);
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
    // SAFETY: this thread owns the heap.
    unsafe { mm.drain_own(own.0, Patience::Wait, None) };
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
    // SAFETY: this thread owns the heap.
    unsafe { mm.set_policy(own.heap(), Some(policy)) }.unwrap();
    let turns = turns_of(own.heap());
    assert!(turns.is_some());
    for _ in 0..2 {
        let lent = mm.with_another(own.heap(), turns_of).unwrap();
        assert_eq!(lent, turns);
    }
    let next = Owner::attach(mm);
    assert_eq!(nr_heaps(mm), (2, 0), "it has the heap that was borrowed");
    // SAFETY: this thread owns both heaps.
    unsafe { mm.set_policy(next.heap(), Some(policy)) }.unwrap();
    assert_ne!(turns_of(next.heap()), turns);
}

/// A heap that serves one object is no thread's, and whoever frees beside a visitor calls the keeper.
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
