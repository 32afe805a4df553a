//! The retry loop and the policies on a fake machine.

mod bound;
mod cycles;
mod limits;
mod nodes;
mod page_flags;
mod rounds;

use core::ptr::NonNull;
use std::vec::Vec;

use zonal_allocator::{
    AllocError, Config, Deadline, Level, Mm, OwnHeap, PAGE_SIZE, PageConfig, Patience, Request, Thp,
};
use zonal_numa::fake::{Call, FakeBuilder, FakeMachine};
use zonal_numa::{Errno, Machine, MemPolicy, NodeId, NodeMask, PolicyMode};

use crate::kswapd::{Kswapd, KswapdConfig, Next};
use crate::{alloc, trim};

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

fn start(machine: &'static FakeMachine, config: Config) -> (&'static Mm, OwnHeap) {
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

fn take(heap: OwnHeap, size: usize) -> Result<NonNull<u8>, AllocError> {
    let block = alloc(heap, Request { size, align: 8, zeroed: false, grows: false })?;
    // SAFETY: at least `size` bytes.
    unsafe { block.start.write_bytes(0xa5, size) };
    Ok(block.start)
}

fn give(heap: OwnHeap, block: NonNull<u8>) {
    // SAFETY: live, and not used afterwards.
    unsafe { heap.free(block) }.unwrap();
}

fn home(mm: &Mm, block: NonNull<u8>) -> usize {
    mm.pages().page_at(block.addr().get()).unwrap().0.index()
}

/// Blocks a node: how many of `size` bytes came from each.
fn spread(mm: &Mm, heap: OwnHeap, size: usize, count: usize) -> [usize; 4] {
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
    let moved = || mm.is_astray(heap);
    assert_eq!([moved(), moved()], [false, true], "at the second look");
    // SAFETY: only the answer is used.
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
fn a_node_that_is_full_in_its_turn_spills_to_the_threads_own() {
    let machine = four_nodes().limit(1, 2048).build();
    machine.run_on(node(0));
    let (mm, heap) = start(machine, with_policy(PolicyMode::Interleave, &[0, 1]));
    // 32 MiB, of which node 1 has 8.
    let nodes = spread(mm, heap, 100_000, 320);
    assert!(nodes[1] > 40, "{nodes:?}");
    assert_eq!(nodes[0] + nodes[1], 320, "{nodes:?}");
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
fn trim_tells_what_it_gave_back() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let fill = |size: usize| {
        let blocks: Vec<_> = (0..(50 << 20) / size).map(|_| take(heap, size).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        mm.pages().charged()
    };
    for size in [50_000, 1 << 20, 10 << 20] {
        let before = fill(size);
        let back = trim(mm, Some(heap), usize::MAX, true);
        let by_accounts = (before - mm.pages().charged()) * PAGE_SIZE;
        assert!(back > 45 << 20 && back <= by_accounts, "{back} bytes of {by_accounts}");
        assert_eq!(trim(mm, Some(heap), usize::MAX, true), 0);
    }
    // Where the kernel does not say, it is what the accounts have.
    machine.fail_from(Call::Resident, 0, Errno::EPERM);
    let before = fill(50_000);
    let back = trim(mm, Some(heap), usize::MAX, true);
    assert_eq!(back / PAGE_SIZE, before - mm.pages().charged());
    machine.fail_no_more();
    // The user may forbid to ask, and a filter kill who does.
    for is_confined in [false, true] {
        fill(50_000);
        let asked = machine.calls(Call::Resident);
        assert!(trim(mm, Some(heap), usize::MAX, is_confined) > 45 << 20);
        assert_eq!(machine.calls(Call::Resident), asked);
        machine.confine();
    }
}

/// The accounts have what was handed out; the kernel does not have what nobody touched.
#[test]
fn trim_counts_no_page_that_was_never_touched() {
    let (mm, heap) = start(FakeBuilder::new().build(), Config::default());
    for size in [100, 20_000, 64 << 10, 1 << 20, 8 << 20] {
        let request = Request { size, align: 8, zeroed: false, grows: false };
        let nr = (32 << 20) / size;
        let blocks = (0..nr).map(|_| alloc(heap, request).unwrap().start);
        let blocks: Vec<_> = blocks.collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        let before = mm.pages().charged();
        let back = trim(mm, Some(heap), usize::MAX, true);
        assert!((before - mm.pages().charged()) * PAGE_SIZE > 24 << 20, "blocks of {size}");
        // A few are looked at as they are freed.
        assert!(back < 256 << 10, "{back} bytes in blocks of {size}");
    }
}

/// What the system refuses to take is not told.
#[test]
fn trim_counts_no_page_that_stays() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let blocks: Vec<_> = (0..800).map(|_| take(heap, 64 << 10).unwrap()).collect();
    blocks.into_iter().for_each(|block| give(heap, block));
    let before = mm.pages().charged();
    // As where some of it is locked.
    machine.fail(Call::Purge, 0, Errno::EINVAL);
    let back = trim(mm, Some(heap), usize::MAX, true);
    let by_accounts = (before - mm.pages().charged()) * PAGE_SIZE;
    assert!(back > 0 && back <= by_accounts && by_accounts < before * PAGE_SIZE);
    assert!(mm.pages().charged() > 0, "nothing was refused");
}

/// Whoever wants a little keeps the rest.
#[test]
fn trim_stops_at_its_goal() {
    for size in [1000, 64 << 10, 3 << 20, 8 << 20] {
        let (mm, heap) = start(FakeBuilder::new().build(), Config::default());
        let blocks: Vec<_> = (0..(96 << 20) / size).map(|_| take(heap, size).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        for goal in [1 << 20, 5 << 20, 17 << 20] {
            let before = mm.pages().charged();
            let back = trim(mm, Some(heap), goal, true);
            let most = goal + (4 << 20);
            assert!((goal..most).contains(&back), "{back} of {goal}, blocks of {size}");
            assert!((before - mm.pages().charged()) * PAGE_SIZE < most, "blocks of {size}");
            mm.validate(Some(heap)).unwrap();
            // What is left serves again.
            let block = take(heap, size).unwrap();
            give(heap, block);
        }
    }
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
        unsafe { heap.free(block).unwrap() };
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
            mm.drain_own(heap, Patience::PassBy, Deadline::NEVER);
            let block = take(heap, 1000);
            is_over.store(block.is_err(), Relaxed);
            // SAFETY: just taken.
            unsafe { heap.free(block.unwrap()).unwrap() };
        }
        is_over.store(true, Relaxed);
    });
}
