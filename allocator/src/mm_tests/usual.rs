//! What an instance finds of misuse at next to no cost: fenced objects, the slack of large blocks.

use core::ptr::NonNull;

use zonal_numa::fake::FakeBuilder;
use zonal_numa::{Machine, MemPolicy, NodeId, PAGE_SIZE};

use super::Owner;
use crate::class::SizeClass;
use crate::{BadKind, BadPointer, Config, Mm};

fn usual(fence: u64) -> Owner {
    let config = Config { slack: true, fence, ..Config::default() };
    Owner::attach(Mm::new(Machine::linux(), config).unwrap())
}

fn bad(block: NonNull<u8>, kind: BadKind) -> BadPointer {
    BadPointer::new(block.addr().get(), kind)
}

#[test]
fn the_slack_of_large_blocks_is_looked_at() {
    let owner = usual(0);
    let mm = owner.heap().mm();
    for size in [32_769, 36_864, 40_000, 40_960, 100_000, 3 << 20, (3 << 20) + 1] {
        let block = owner.alloc(size, 8);
        assert_eq!(mm.usable_size(block), Ok(size));
        // SAFETY: the block has that many bytes.
        unsafe { block.write_bytes(0, size) };
        // Up to the end of the cache line, but no page for it alone.
        let filled = if size % PAGE_SIZE == 0 { 0 } else { 64 - size % 64 };
        for at in [0, 1, filled.saturating_sub(1)].into_iter().filter(|&at| at < filled) {
            let at = size + at;
            // SAFETY: inside the block.
            let byte = unsafe { block.add(at) };
            // SAFETY: as above.
            let was = unsafe { byte.read() };
            // SAFETY: as above.
            unsafe { byte.write(0) };
            assert_eq!(mm.usable_size(block), Err(bad(block, BadKind::Overrun)), "{size} {at}");
            // SAFETY: the test's thread owns the heap.
            let freed = unsafe { owner.heap().free(block) };
            assert_eq!(freed, Err(bad(block, BadKind::Overrun)), "{size} {at}");
            // SAFETY: inside the block.
            unsafe { byte.write(was) };
        }
        // Longer and shorter in place, the slack moves along.
        for size in [size + 100, size + 2 * PAGE_SIZE, size - 100] {
            if mm.resize(block, size).is_some() {
                assert_eq!(mm.usable_size(block), Ok(size));
            }
        }
        owner.free(block);
        // SAFETY: the test's thread owns the heap; the block is free, which is the point.
        assert!(unsafe { owner.heap().free(block) }.is_err());
    }
}

/// The kernel rounds a length up to pages: what the program gives back takes the slack along.
#[test]
fn a_block_whose_last_page_was_given_back_is_whole() {
    let owner = usual(0);
    let mm = owner.heap().mm();
    for size in [40_000, 100_000, 1_000_003] {
        let block = owner.alloc(size, PAGE_SIZE);
        // SAFETY: whole pages of the block, whose content is no longer wanted.
        let done = unsafe { libc::madvise(block.as_ptr().cast(), size, libc::MADV_DONTNEED) };
        assert_eq!(done, 0);
        assert_eq!(mm.usable_size(block), Ok(size));
        // SAFETY: behind the block's end, in its last page.
        unsafe { block.add(size).write(b'x') };
        assert_eq!(mm.usable_size(block), Err(bad(block, BadKind::Overrun)));
        // SAFETY: as above.
        unsafe { block.add(size).write(0) };
        owner.free(block);
    }
}

/// Every object is fenced: it takes no part in slabs and bins, and is one like any other.
#[test]
fn fenced_objects_are_as_others() {
    let owner = usual(1);
    let mm = owner.heap().mm();
    let blocks: Vec<_> = (1..600).map(|size| (owner.alloc(size, 8), size)).collect();
    let nr_fenced = blocks.iter().filter(|(p, _)| mm.fence().contains(p.addr().get())).count();
    assert!(nr_fenced > 300 && nr_fenced < 600, "until the arena is full: {nr_fenced}");
    for &(block, size) in &blocks {
        let is_fenced = mm.fence().contains(block.addr().get());
        let usable = mm.usable_size(block).unwrap();
        assert!(if is_fenced { usable == size.max(8) } else { usable >= size });
        assert!(mm.is_size_wrong(block, 2000, 8) && !mm.is_size_wrong(block, size, 8), "{size}");
        assert_eq!(mm.resize(block, size + 8).is_some(), !is_fenced && size + 8 <= usable);
    }
    let wide = owner.alloc(100, 64);
    assert!(!mm.fence().contains(wide.addr().get()), "their alignment is that of malloc");
    owner.free(wide);
    let (last, _) = blocks[0];
    blocks.into_iter().for_each(|(block, _)| owner.free(block));
    assert_eq!(mm.check_bins(Some(owner.0)), None);
    // SAFETY: in the arena, free.
    unsafe { last.write(0) };
    assert_eq!(mm.check_bins(Some(owner.0)), Some(bad(last, BadKind::UsedAfterFree)));
}

/// One miss in so many: by chance, but not by much.
#[test]
fn some_objects_are_fenced() {
    let owner = usual(4);
    let mm = owner.heap().mm();
    let mut nr = 0;
    for _ in 0..200 {
        let blocks: Vec<_> = (0..5000).map(|_| owner.alloc(100, 8)).collect();
        nr += blocks.iter().filter(|p| mm.fence().contains(p.addr().get())).count();
        blocks.into_iter().for_each(|block| owner.free(block));
    }
    assert!((100..100_000).contains(&nr), "{nr} of a million");
}

/// The pages of the arena are where those who first touched them ran.
#[test]
fn fenced_objects_are_on_the_node_of_their_thread() {
    let machine = FakeBuilder::new().nodes(2).build();
    let config = Config { slack: true, fence: 16, ..Config::default() };
    let mm = Mm::new(Machine::fake(machine), config).unwrap();
    let [here, there] = [0, 1].map(|node| {
        machine.run_on(NodeId::new(node).unwrap());
        Owner::attach(mm)
    });
    let is_fenced = |block: NonNull<u8>| mm.fence().contains(block.addr().get());
    let page = |block: NonNull<u8>| block.addr().get() / PAGE_SIZE;
    // On node 1.
    let [first, second] = [there.alloc(100, 8), there.alloc(100, 8)];
    assert!(is_fenced(first) && page(first) == page(second));
    let of_other = here.alloc(100, 8);
    assert!(!is_fenced(of_other), "its memory is not where it runs");
    machine.run_on(NodeId::ZERO);
    let own = here.alloc(200, 8);
    assert!(is_fenced(own) && page(own) != page(first));
    // A policy of the thread's is not the kernel's.
    machine.run_on(NodeId::new(1).unwrap());
    there.heap().ask_for(Some(MemPolicy::LOCAL));
    let by_policy = there.alloc(100, 8);
    assert!(!is_fenced(by_policy));
    [first, second, by_policy].into_iter().for_each(|block| there.free(block));
    [of_other, own].into_iter().for_each(|block| here.free(block));
    assert_eq!(mm.check_bins(Some(here.0)), None);
}

/// The first objects that have no place in the arena have slack, as large blocks have.
#[test]
fn the_first_of_larger_classes_end_before_their_pages() {
    let owner = usual(16);
    let mm = owner.heap().mm();
    for size in [4096, 5000, 8192, 20_000, 32_768] {
        let blocks = [(); 3].map(|()| owner.alloc(size, 8));
        let [first, second, third] = blocks;
        for block in [first, second] {
            assert_eq!(mm.usable_size(block), Ok(size));
            assert!(!mm.is_size_wrong(block, size, 8), "{size}");
            assert!(mm.is_size_wrong(block, size - 1, 8) && mm.is_size_wrong(block, size + 1, 8));
            assert!(mm.resize(block, size - 1).is_none(), "objects move");
            // SAFETY: behind the end of the object, in its last page.
            unsafe { block.add(size).write(b'x') };
            // SAFETY: the test's thread owns the heap.
            let freed = unsafe { owner.heap().free(block) };
            assert_eq!(freed, Err(bad(block, BadKind::Overrun)), "{size}");
            // SAFETY: as above.
            unsafe { block.add(size).write(0xf5) };
        }
        assert_eq!(mm.capacity(third), Ok(SizeClass::of(size).unwrap().size()));
        blocks.into_iter().for_each(|block| owner.free(block));
    }
}
