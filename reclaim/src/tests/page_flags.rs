//! Whole pages with the kernel's flags, on a fake machine.

use std::thread;
use std::time::Duration;

use zonal_allocator::word::Migratetype;

use super::*;
use crate::{PageFlags, alloc_pages};

const ORDINARY: PageFlags =
    PageFlags { no_wait: false, no_retry: false, no_fail: false, this_node: false, zero: false };

fn pages(
    heap: OwnHeap,
    on: Option<NodeId>,
    nr_pages: usize,
    flags: PageFlags,
) -> Result<NonNull<u8>, AllocError> {
    alloc_pages(heap, on, nr_pages, flags).map(|block| block.start)
}

/// A limit of 16 MiB of which 12 are free and resident in blocks of 8 pages, among used ones.
fn full_of_garbage() -> (&'static FakeMachine, &'static Mm, OwnHeap) {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, with_limit(16 << 20));
    let blocks: Vec<_> = core::iter::from_fn(|| pages(heap, None, 8, ORDINARY).ok()).collect();
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 4 != 0 {
            give(heap, block);
        }
    }
    (machine, mm, heap)
}

fn purges(machine: &FakeMachine) -> u64 {
    machine.calls(Call::Purge) + machine.calls(Call::PurgeMany)
}

#[test]
fn no_wait_reclaims_nothing() {
    let (machine, mm, heap) = full_of_garbage();
    let before = purges(machine);
    let no_wait = PageFlags { no_wait: true, ..ORDINARY };
    // Larger than any hole, so that it would have to be made resident anew.
    assert!(pages(heap, None, 500, no_wait).is_err());
    assert_eq!(purges(machine), before);
    // It may take what is free, and what others may not: the reserve.
    pages(heap, None, 8, no_wait).unwrap();
    pages(heap, None, 500, ORDINARY).unwrap();
    assert!(purges(machine) > before);
    mm.validate(Some(heap)).unwrap();
}

/// What the reserve gave goes back to it, not into the cache of the thread that had it.
#[test]
fn urgent_pages_are_for_others_as_soon_as_they_are_free() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, with_limit(64 << 20));
    let no_wait = PageFlags { no_wait: true, ..ORDINARY };
    let low = mm.pages().watermarks().low;
    while mm.pages().limit() - mm.pages().charged() > low + 8 {
        pages(heap, None, 8, ORDINARY).unwrap();
    }
    let urgent = core::iter::from_fn(|| pages(heap, None, 8, no_wait).ok());
    let page = |block: &NonNull<u8>| mm.pages().page_at(block.addr().get()).unwrap();
    let reserve = |block: &NonNull<u8>| page(block).1 == Migratetype::HighAtomic;
    let free = || mm.pages().zone_stats(NodeId::ZERO).unwrap().zone.nr_free;
    let urgent: Vec<_> = urgent.filter(reserve).collect();
    assert!(!urgent.is_empty(), "no reserve was made");
    for block in urgent {
        let before = free();
        give(heap, block);
        assert_eq!(free(), before + 8);
    }
}

#[test]
fn no_wait_uses_half_of_the_reserve() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, with_limit(64 << 20));
    let marks = mm.pages().watermarks();
    // Down to the low mark.
    while mm.pages().limit() - mm.pages().charged() > marks.low + 64 {
        pages(heap, None, 64, ORDINARY).unwrap();
    }
    let no_wait = PageFlags { no_wait: true, ..ORDINARY };
    let mut left = mm.pages().limit();
    while pages(heap, None, 8, no_wait).is_ok() {
        left = mm.pages().limit() - mm.pages().charged();
    }
    assert!(left >= marks.min / 2 && left < marks.min, "{left} of {marks:?}");
}

#[test]
fn this_node_fails_where_others_have_room() {
    let machine = four_nodes().limit(3, 1024).build();
    let (mm, heap) = start(machine, Config::default());
    let this = PageFlags { this_node: true, ..ORDINARY };
    let mut got = 0;
    while let Ok(block) = pages(heap, Some(node(3)), 64, this) {
        assert_eq!(home(mm, block), 3);
        got += 1;
    }
    assert!((8..=16).contains(&got), "{got}");
    let block = pages(heap, Some(node(3)), 64, ORDINARY).unwrap();
    assert_eq!(home(mm, block), 2, "the nearest");
}

#[test]
fn zero_pages_are_zero() {
    let (_, mm, heap) = full_of_garbage();
    let zero = PageFlags { zero: true, ..ORDINARY };
    for nr_pages in [1, 8, 3, 64] {
        let block = pages(heap, None, nr_pages, ORDINARY).unwrap();
        // SAFETY: the block has that many bytes.
        unsafe { block.write_bytes(0xff, nr_pages * PAGE_SIZE) };
        give(heap, block);
        let block = pages(heap, None, nr_pages, zero).unwrap();
        // SAFETY: as above.
        let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), nr_pages * PAGE_SIZE) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        give(heap, block);
    }
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn no_retry_and_impossible_sizes_end_soon() {
    let machine = FakeBuilder::new().build();
    let (_, heap) = start(machine, with_limit(8 << 20));
    let no_retry = PageFlags { no_retry: true, ..ORDINARY };
    while pages(heap, None, 16, no_retry).is_ok() {}
    assert!(matches!(pages(heap, None, 16, no_retry), Err(AllocError::Exhausted { .. })));
    let no_fail = PageFlags { no_fail: true, ..ORDINARY };
    for nr_pages in [0, 1025] {
        assert!(matches!(pages(heap, None, nr_pages, no_fail), Err(AllocError::TooLarge)));
    }
}

#[test]
fn no_fail_waits_until_others_free() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, with_limit(8 << 20));
    let blocks: Vec<_> = core::iter::from_fn(|| pages(heap, None, 64, ORDINARY).ok()).collect();
    assert!(pages(heap, None, 64, ORDINARY).is_err());
    let held: Vec<usize> = blocks.iter().map(|block| block.expose_provenance().get()).collect();
    let helper = thread::spawn(move || {
        let other = mm.attach().unwrap();
        thread::sleep(Duration::from_millis(20));
        for addr in held {
            give(other, NonNull::new(core::ptr::with_exposed_provenance_mut(addr)).unwrap());
        }
    });
    pages(heap, None, 64, PageFlags { no_fail: true, ..ORDINARY }).unwrap();
    helper.join().unwrap();
    mm.validate(Some(heap)).unwrap();
}
