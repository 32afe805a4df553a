//! The retry loop and the policies on a fake machine.

mod bound;
mod cycles;
mod limits;
mod nodes;
mod page_flags;

use core::ptr::NonNull;
use std::vec::Vec;

use zonal_allocator::{AllocError, Config, Heap, Mm, PAGE_SIZE, PageConfig, Patience, Request};
use zonal_numa::fake::{Call, FakeBuilder, FakeMachine};
use zonal_numa::{Errno, Machine, MemPolicy, NodeId, NodeMask, PolicyMode};

use crate::kswapd::{Kswapd, KswapdConfig, Next};
use crate::{alloc, free, trim};

fn node(number: usize) -> NodeId {
    NodeId::new(number as u8).unwrap()
}

fn mask(numbers: &[usize]) -> NodeMask {
    numbers.iter().map(|&n| node(n)).collect()
}

fn four_nodes() -> FakeBuilder {
    FakeBuilder::new().nodes(4).distances(&[
        &[10, 16, 24, 32],
        &[16, 10, 24, 32],
        &[24, 24, 10, 16],
        &[32, 32, 16, 10],
    ])
}

fn start(machine: &'static FakeMachine, config: Config) -> (&'static Mm, NonNull<Heap>) {
    let mm = Mm::new(Machine::fake(machine), config).unwrap();
    (mm, mm.attach().unwrap())
}

fn with_policy(mode: PolicyMode, nodes: &[usize]) -> Config {
    Config { policy: Some(MemPolicy { mode, nodes: mask(nodes) }), ..Config::default() }
}

fn with_limit(bytes: usize) -> Config {
    let pages = PageConfig { limit: bytes / PAGE_SIZE, ..PageConfig::default() };
    Config { pages, ..Config::default() }
}

fn take(heap: NonNull<Heap>, size: usize) -> Result<NonNull<u8>, AllocError> {
    // SAFETY: the test's thread owns the heap.
    let block = unsafe { alloc(heap, Request { size, align: 8, zeroed: false, grows: false }) }?;
    // SAFETY: at least `size` bytes.
    unsafe { block.start.write_bytes(0xa5, size) };
    Ok(block.start)
}

fn give(heap: NonNull<Heap>, block: NonNull<u8>) {
    // SAFETY: live, and not used afterwards.
    unsafe { free(heap, block) }.unwrap();
}

fn home(mm: &Mm, block: NonNull<u8>) -> usize {
    let pfn = mm.pages().map.pfn_of(block.addr().get()).unwrap();
    mm.pages().node_of(pfn).index()
}

/// Blocks a node: how many of `size` bytes came from each.
fn spread(mm: &Mm, heap: NonNull<Heap>, size: usize, count: usize) -> [usize; 4] {
    let mut nodes = [0; 4];
    for _ in 0..count {
        nodes[home(mm, take(heap, size).unwrap())] += 1;
    }
    nodes
}

#[test]
fn local_memory_follows_the_thread() {
    let machine = four_nodes().build();
    machine.run_on(node(2));
    let (mm, heap) = start(machine, Config::default());
    assert_eq!(spread(mm, heap, 3000, 1000), [0, 0, 1000, 0]);
    machine.run_on(node(1));
    // SAFETY: the test's thread owns the heap.
    let moved = || unsafe { mm.is_astray(heap) };
    assert_eq!([moved(), moved()], [false, true], "at the second look");
    // SAFETY: as above; the old heap is not used any more.
    let heap = unsafe { mm.exchange(heap) };
    assert_eq!(spread(mm, heap, 3000, 1000), [0, 1000, 0, 0]);
    assert_eq!(spread(mm, heap, 100_000, 10)[1], 10);
    // Back again, the thread finds what it left, and its objects are those of another heap.
    machine.run_on(node(2));
    let blocks: Vec<_> = (0..100).map(|_| take(heap, 3000).unwrap()).collect();
    // SAFETY: as above.
    let heap = unsafe { mm.exchange(heap) };
    blocks.into_iter().for_each(|block| give(heap, block));
    assert_eq!(spread(mm, heap, 3000, 1000)[2], 1000);
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn a_full_node_spills_to_the_nearest_one() {
    let machine = four_nodes().limit(3, 2048).build();
    machine.run_on(node(3));
    let (mm, heap) = start(machine, Config::default());
    // 16 MiB where node 3 has 8.
    let nodes = spread(mm, heap, 100_000, 160);
    assert!(nodes[3] > 40, "{nodes:?}");
    assert_eq!(nodes[3] + nodes[2], 160, "{nodes:?}");
}

#[test]
fn bind_answers_out_of_memory_though_others_have_room() {
    let machine = four_nodes().limit(1, 2048).build();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[1]));
    let mut blocks = Vec::new();
    let error = loop {
        match take(heap, 100_000) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
        assert!(blocks.len() < 1000, "the node's limit holds");
    };
    assert!(matches!(error, AllocError::Exhausted { .. }));
    assert!(blocks.iter().all(|&block| home(mm, block) == 1));
    for block in blocks {
        give(heap, block);
    }
    take(heap, 100_000).unwrap();
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn preferred_is_a_wish() {
    let machine = four_nodes().limit(2, 2048).build();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Preferred, &[2]));
    let nodes = spread(mm, heap, 100_000, 160);
    assert!(nodes[2] > 40 && nodes[3] > 40, "{nodes:?}");
    assert_eq!(nodes[0] + nodes[1], 0, "node 3 is nearer to node 2: {nodes:?}");
}

#[test]
fn interleave_takes_turns() {
    let machine = four_nodes().build();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Interleave, &[0, 2, 3]));
    assert_eq!(spread(mm, heap, 100_000, 300), [100, 0, 100, 100]);
    let small = spread(mm, heap, 3000, 3000);
    assert_eq!(small[1], 0);
    assert!([0, 2, 3].iter().all(|&n| small[n] > 500), "{small:?}");
}

#[test]
fn a_policy_of_missing_nodes_is_no_policy() {
    let machine = four_nodes().build();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[17, 40]));
    assert_eq!(spread(mm, heap, 3000, 10), [10, 0, 0, 0]);
}

#[test]
fn under_a_limit_freed_memory_serves_again() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, with_limit(32 << 20));
    for round in 0..20 {
        // Another size each round: what the last one left has to be given up.
        let size = 20_000 + round * 9_000;
        let mut blocks = Vec::new();
        while let Ok(block) = take(heap, size) {
            blocks.push(block);
        }
        assert!(blocks.len() * size > 24 << 20, "round {round}: {} blocks", blocks.len());
        assert!(mm.pages().charged() * PAGE_SIZE <= 32 << 20);
        for block in blocks {
            give(heap, block);
        }
        mm.validate(Some(heap)).unwrap();
    }
}

#[test]
fn what_another_thread_holds_is_reached_before_giving_up() {
    let machine = FakeBuilder::new().build();
    let (mm, sleeper) = start(machine, with_limit(32 << 20));
    let blocks: Vec<_> = core::iter::from_fn(|| take(sleeper, 2000).ok()).collect();
    for block in blocks {
        give(sleeper, block);
    }
    // The sleeper does nothing from here on.
    let heap = mm.attach().unwrap();
    let got = core::iter::from_fn(|| take(heap, 70_000).ok()).count();
    assert!(got * 70_000 > 24 << 20, "{got} blocks");
}

#[test]
fn kswapd_returns_cold_memory_and_goes_home() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let blocks: Vec<_> = (0..20_000).map(|_| take(heap, 1000).unwrap()).collect();
    let peak = mm.pages().charged();
    let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 20 != 0 {
            give(heap, block);
        }
    }
    keeper.round(mm, None);
    assert!(mm.pages().charged() * 10 > peak * 9, "too young");
    let mut slept = 0;
    while let Next::Sleep(ns) = keeper.round(mm, None) {
        machine.advance_ns(ns);
        slept += ns;
        assert!(slept < 60_000_000_000, "it goes home some day");
    }
    // One in twenty of 1,024 bytes: four on a page, four pages in five are free.
    assert!(mm.pages().charged() * 100 < peak * 25, "{} of {peak}", mm.pages().charged());
    assert!(mm.doorbell().retire());
    mm.validate(Some(heap)).unwrap();
}

/// Where callers do the rounds, a pause does not age what the program left: it comes back for it.
#[test]
fn memory_does_not_age_while_all_sleep() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
    let mut cycle = |asleep: &mut u64, pause: u64| {
        let blocks: Vec<_> = (0..1000).map(|_| take(heap, 100_000).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        let before = mm.pages().charged();
        machine.advance_ns(pause);
        *asleep += pause;
        keeper.note_sleep(*asleep);
        keeper.round(mm, Some(heap));
        before - mm.pages().charged()
    };
    let mut asleep = 0;
    for _ in 0..10 {
        assert_eq!(cycle(&mut asleep, 3_000_000_000), 0);
    }
    // The same time awake.
    machine.advance_ns(3_000_000_000);
    keeper.round(mm, Some(heap));
    assert!(mm.pages().charged() < 1000, "{}", mm.pages().charged());
}

/// A free that comes first after a pause knows nothing of it: what it leaves ages all the same.
#[test]
fn what_is_freed_right_after_a_pause_ages() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
    let block = take(heap, 8 << 20).unwrap();
    machine.advance_ns(40_000_000_000);
    give(heap, block);
    keeper.note_sleep(40_000_000_000);
    keeper.round(mm, Some(heap));
    assert!(mm.pages().charged() >= (8 << 20) / PAGE_SIZE);
    for _ in 0..150 {
        machine.advance_ns(20_000_000);
        keeper.round(mm, Some(heap));
    }
    assert!(mm.pages().charged() < 1000, "{}", mm.pages().charged());
}

/// What was used while nobody was on duty is as young as when it was left.
#[test]
fn a_keeper_that_comes_on_duty_finds_nothing_cold() {
    let machine = FakeBuilder::new().build();
    machine.advance_ns(1 << 50);
    let (mm, heap) = start(machine, Config::default());
    let purges = || machine.calls(Call::Purge) + machine.calls(Call::PurgeMany);
    for _ in 0..2 {
        let blocks: Vec<_> = (0..1000).map(|_| take(heap, 50_000).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
        assert!(mm.doorbell().claim());
        let before = purges();
        keeper.round(mm, None);
        machine.advance_ns(20_000_000);
        keeper.round(mm, None);
        assert_eq!(purges(), before, "after 20 ms");
        while let Next::Sleep(ns) = keeper.round(mm, None) {
            machine.advance_ns(ns);
        }
        assert!(purges() > before && mm.doorbell().retire());
        machine.advance_ns(1 << 40);
    }
}

/// The clock of chunks and slabs has 32 bits of 17 ms each.
#[test]
fn the_clock_of_ages_may_wrap() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    mm.pages().set_generation(u32::MAX);
    let blocks: Vec<_> = (0..20_000).map(|_| take(heap, 1000).unwrap()).collect();
    let peak = mm.pages().charged();
    blocks.into_iter().step_by(2).for_each(|block| give(heap, block));
    let more: Vec<_> = (0..200).map(|_| take(heap, 100_000).unwrap()).collect();
    more.into_iter().for_each(|block| give(heap, block));
    let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    machine.advance_ns(20_000_000);
    keeper.round(mm, None);
    assert!(mm.pages().generation() < 10, "it has wrapped");
    assert!(mm.pages().charged() > peak, "too young");
    for _ in 0..10 {
        machine.advance_ns(20_000_000);
        keeper.round(mm, None);
    }
    assert!(mm.pages().charged() <= peak, "{} of {peak}", mm.pages().charged());
    mm.validate(Some(heap)).unwrap();
}

/// Free pages that the system does not take, such as locked ones, keep nobody on duty.
#[test]
fn kswapd_goes_home_where_nothing_can_be_purged() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let blocks: Vec<_> = (0..1000).map(|_| take(heap, 50_000).unwrap()).collect();
    blocks.into_iter().for_each(|block| give(heap, block));
    machine.fail_from(Call::Purge, 1, Errno::EINVAL);
    machine.fail_from(Call::PurgeMany, 1, Errno::EINVAL);
    let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    let mut slept = 0;
    while let Next::Sleep(ns) = keeper.round(mm, None) {
        machine.advance_ns(ns);
        slept += ns;
        assert!(slept < 10_000_000_000, "it goes home");
    }
    assert!(mm.pages().nr_free_resident() > 1000);
    let calls = machine.calls(Call::Purge);
    assert!((1..100).contains(&calls), "{calls} calls");
}

/// The heap of a thread that has ended is drained, and so is what others send to it later.
#[test]
fn kswapd_drains_the_dead() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let other = mm.attach().unwrap();
    let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
    let mut settle = || {
        for _ in 0..400 {
            keeper.round(mm, None);
            machine.advance_ns(100_000_000);
        }
        mm.pages().charged() * PAGE_SIZE
    };
    let blocks: Vec<_> = (0..20_000).map(|_| take(heap, 1000).unwrap()).collect();
    let (early, late) = blocks.split_at(10_000);
    early.iter().for_each(|&block| give(heap, block));
    // SAFETY: the heap is not used any more.
    unsafe { mm.detach(heap) };
    let half = settle();
    assert!(half < 13 << 20, "{half} bytes");
    late.iter().for_each(|&block| give(other, block));
    let rest = settle();
    assert!(rest < 1 << 20, "{rest} bytes");
}

#[test]
fn trim_tells_what_it_gave_back() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let blocks: Vec<_> = (0..1000).map(|_| take(heap, 50_000).unwrap()).collect();
    for block in blocks {
        give(heap, block);
    }
    let before = mm.pages().charged();
    let back = trim(mm, Some(heap), usize::MAX);
    assert_eq!(back / PAGE_SIZE, before - mm.pages().charged());
    assert!(back > 45 << 20, "{back} bytes");
    assert_eq!(trim(mm, Some(heap), usize::MAX), 0);
}

/// Others in one's heap are no reason to tell a program that there is no memory.
#[test]
fn under_a_limit_what_is_free_serves_beside_visitors() {
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let mm: &'static Mm = Mm::new(Machine::linux(), with_limit(16 << 20)).unwrap();
    let heap = mm.attach().unwrap();
    let blocks: Vec<_> = core::iter::from_fn(|| take(heap, 1000).ok()).collect();
    assert!(blocks.len() > 10_000);
    for (_, &block) in blocks.iter().enumerate().filter(|(i, _)| i % 4 != 0) {
        // SAFETY: live blocks of this thread.
        unsafe { free(heap, block).unwrap() };
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let own = mm.attach().unwrap();
                while !is_over.load(Relaxed) {
                    mm.drain_all(Some(own));
                }
                // SAFETY: the thread ends.
                unsafe { mm.detach(own) };
            });
        }
        for _ in 0..1000 {
            // SAFETY: this thread owns the heap.
            unsafe { mm.drain_own(heap, Patience::PassBy, None) };
            let block = take(heap, 1000);
            is_over.store(block.is_err(), Relaxed);
            // SAFETY: just taken.
            unsafe { free(heap, block.unwrap()).unwrap() };
        }
        is_over.store(true, Relaxed);
    });
}
