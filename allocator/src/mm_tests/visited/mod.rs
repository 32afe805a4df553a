//! Owners whose heap somebody else is in. The owner and its visitor are one thread in most of these
//! tests, so that a wait would never end.

mod borrowed;
mod pool;

use zonal_numa::Errno;
use zonal_numa::fake::{Call, FakeBuilder};

use super::*;
use crate::heap::Inner;
use crate::remote::Message;

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
        mm.drain_own(owner.0, Patience::Wait, Deadline::NEVER);
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
    visitor.drain(Deadline::NEVER);
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
        mm.drain_own(owner.0, Patience::Wait, Deadline::NEVER);
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
    mm.drain_own(own.0, Patience::Wait, Deadline::NEVER);
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
