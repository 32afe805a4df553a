//! Large blocks that a thread keeps: they serve again at once, and make way for what grows.

mod hits;
mod room;
mod runs;

use core::iter;

use zonal_numa::fake::FakeBuilder;
use zonal_numa::{Machine, PAGE_SIZE};

use super::{Owner, new_mm};
use crate::order::Order;
use crate::watermark::WatermarkLevel;
use crate::{Attempt, Config, Mm, PageConfig, Request};

/// An owner of a new instance as programs have it, where threads keep large runs the short way: among nodes each
/// request is placed.
pub(super) fn keeper() -> Option<Owner> {
    let config = Config { slack: true, ..Config::default() };
    let mm = Mm::new(Machine::linux(), config).unwrap();
    mm.is_one_node().then(|| Owner::attach(mm))
}

#[test]
fn a_kept_block_serves_again_and_makes_way() {
    const SIZE: usize = 24 * PAGE_SIZE;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let blocks: Vec<_> = (0..16).map(|_| owner.alloc(SIZE, 8)).collect();
    let behind = |addr: usize| blocks.iter().find(|other| other.addr().get() == addr + SIZE);
    let pair = blocks.iter().find_map(|&block| Some((block, *behind(block.addr().get())?)));
    let (block, neighbour) = pair.unwrap();

    // SAFETY: the test's thread owns the heap, and gives the block up.
    assert!(unsafe { heap.try_free_large(neighbour, None) });
    // SAFETY: as above; the second time it is refused.
    assert!(!unsafe { heap.try_free_large(neighbour, None) });
    // SAFETY: as above.
    assert_eq!(unsafe { heap.try_alloc_large(SIZE - 5) }, Some(neighbour));
    // SAFETY: as above.
    assert!(unsafe { heap.try_free_large(neighbour, None) });

    // SAFETY: as above.
    assert_eq!(unsafe { heap.resize(block, 2 * SIZE) }, Some(block));
    assert_eq!(heap.mm().capacity(block), Ok(2 * SIZE));
    // SAFETY: as above.
    assert_eq!(unsafe { heap.try_alloc_large(SIZE) }, None);
}

/// Among nodes the short way takes none.
#[test]
fn what_is_kept_serves_again_among_nodes_too() {
    const SIZE: usize = 200 << 10;
    let machine = FakeBuilder::new().nodes(2).build();
    let owner = Owner::attach(Mm::new(Machine::fake(machine), Config::default()).unwrap());
    let large = (0..40).map(|_| owner.alloc(2 << 20, 8));
    let large: Vec<_> = large.collect();
    let first = owner.alloc(SIZE, 8);
    owner.free(first);
    let kept = owner.heap().enter().large().nr_pages();
    assert!(kept > 0);
    for _ in 0..1000 {
        let block = owner.alloc(SIZE, 8);
        assert_eq!((block, owner.heap().enter().large().nr_pages()), (first, 0));
        owner.free(block);
        assert_eq!(owner.heap().enter().large().nr_pages(), kept);
    }
    large.into_iter().for_each(|block| owner.free(block));
}

#[test]
fn a_request_that_finds_no_room_leaves_the_kept_blocks_alone() {
    const LIMIT: usize = 4096;
    let pages = PageConfig { limit: LIMIT, ..PageConfig::default() };
    let mm = Mm::new(Machine::linux(), Config { pages, ..Config::default() }).unwrap();
    let owner = Owner::attach(mm);
    let heap = owner.heap();
    if !mm.is_one_node() {
        return;
    }
    let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
    let try_alloc = |nr_pages| {
        let request = Request { size: nr_pages * PAGE_SIZE, align: 8, zeroed: false, grows: false };
        // SAFETY: the test's thread owns the heap.
        unsafe { heap.alloc(request, from) }.map(|block| block.start)
    };
    let to_keep: Vec<_> = (0..12).map(|_| owner.alloc(64 * PAGE_SIZE, 8)).collect();
    let fill = |nr_pages| iter::from_fn(move || try_alloc(nr_pages).ok());
    let rest: Vec<_> = fill(128).chain(fill(40)).collect();
    to_keep.into_iter().for_each(|block| owner.free(block));
    let kept = heap.enter().large().nr_pages();
    assert_eq!(kept, 12 * 64);
    for _ in 0..100 {
        try_alloc(40).unwrap_err();
    }
    assert_eq!(heap.enter().large().nr_pages(), kept);
    rest.into_iter().for_each(|block| owner.free(block));
}

#[test]
fn aligned_blocks_are_kept_as_far_as_that_is_of_use() {
    const SIZE: usize = 64 << 10;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    for align in [16, 64, PAGE_SIZE] {
        let block = owner.alloc(SIZE, align);
        owner.free(block);
        // SAFETY: the test's thread owns the heap.
        assert_eq!(unsafe { heap.try_alloc_large(SIZE) }, Some(block));
        owner.free(block);
        assert_eq!(owner.alloc(SIZE, align), block);
        owner.free(block);
    }
    // What the kept ones cannot serve does not make room for more of them.
    for _ in 0..8 {
        let blocks: Vec<_> = (0..120).map(|_| owner.alloc(SIZE, SIZE)).collect();
        for block in blocks {
            owner.free(block);
            let kept = heap.enter().large().nr_pages();
            assert!(kept <= heap.mm().pages().pcp_share(Order::ZERO), "{kept} pages");
        }
    }
}

/// A block that was moved once has room to grow, and keeps it; one that shrinks gives it back.
#[test]
fn what_grows_is_not_moved_for_each_page() {
    let owner = Owner::attach(new_mm());
    let (heap, mm) = (owner.heap(), owner.heap().mm());
    let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
    let size = 40 * PAGE_SIZE;
    let request = Request { size, align: 8, zeroed: false, grows: true };
    // SAFETY: the test's thread owns the heap.
    let grown = unsafe { heap.alloc(request, from) }.unwrap().start;
    // Its neighbour is in the way of what would go beyond the room.
    let neighbour = owner.alloc(size, 8);
    for nr_pages in [41, 44, 42, 45] {
        // SAFETY: as above.
        let moved = unsafe { heap.resize(grown, nr_pages * PAGE_SIZE) };
        assert_eq!(moved, Some(grown), "{nr_pages}");
        assert!(mm.capacity(grown).unwrap() >= nr_pages * PAGE_SIZE);
    }
    // SAFETY: the block is ours and that long.
    unsafe { grown.write_bytes(1, 45 * PAGE_SIZE) };
    // SAFETY: as above.
    unsafe { heap.resize(grown, 20 * PAGE_SIZE) }.unwrap();
    assert_eq!(mm.capacity(grown).unwrap(), 20 * PAGE_SIZE);
    owner.free(grown);
    owner.free(neighbour);
    mm.validate(Some(owner.0)).unwrap();
}

/// So that a hit, which takes no gate, is alone with them.
#[test]
fn who_visits_a_heap_has_what_it_keeps_unless_a_hit_is_under_way() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    if !heap.has_large_hits() {
        return;
    }
    let keep = || {
        owner.free(owner.alloc(24 * PAGE_SIZE, 8));
        owner.rest();
        assert_eq!(heap.kept_pages(), 24);
    };
    // SAFETY: a field of the heap.
    let hot = unsafe { &*heap.hot() };
    keep();
    assert!(hot.try_take(0x1000));
    let nr_skipped = heap.mm().vmstat().stats().drain_skipped;
    heap.mm().drain_all(None);
    assert_eq!(heap.kept_pages(), 24, "a hit has them");
    assert!(heap.mm().vmstat().stats().drain_skipped > nr_skipped);
    // As the hit misses, and goes on, however long that takes.
    hot.set_mark(hot.mark().slow());
    heap.mm().drain_all(None);
    assert_eq!(heap.kept_pages(), 0);
    hot.end();
    keep();
    heap.mm().drain_all(None);
    assert_eq!(heap.kept_pages(), 0);
}

#[test]
fn a_hit_leaves_what_is_kept_to_who_visits_the_heap() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    if !heap.has_large_hits() {
        return;
    }
    let [kept, other] = [(); 2].map(|()| owner.alloc(24 * PAGE_SIZE, 8));
    owner.free(kept);
    assert!(heap.begin_visit());
    // SAFETY: the test's thread owns the heap.
    assert_eq!(unsafe { heap.take_large_at_once(24 * PAGE_SIZE) }, None);
    // SAFETY: as above.
    assert!(!unsafe { heap.try_keep_at_once(other.as_ptr(), None) });
    heap.leave_open();
    // SAFETY: as above.
    assert!(unsafe { heap.try_keep_at_once(other.as_ptr(), None) });
    // SAFETY: as above.
    assert_eq!(unsafe { heap.take_large_at_once(24 * PAGE_SIZE) }, Some(other));
    owner.free(other);
}

#[test]
fn a_forked_child_has_what_others_kept() {
    let Some(own) = keeper() else { return };
    let mm = own.heap().mm();
    let others = [(); 2].map(|()| Owner::attach(mm));
    if !own.heap().has_large_hits() {
        return;
    }
    for other in &others {
        other.free(other.alloc(24 * PAGE_SIZE, 8));
        other.rest();
    }
    let [asleep, in_hit] = others.map(|other| other.heap());
    // SAFETY: a field of the heap.
    assert!(unsafe { &*in_hit.hot() }.try_take(0x1000));
    mm.prefork(Some(own.0));
    mm.postfork_child(Some(own.0));
    assert_eq!([asleep, in_hit].map(|heap| heap.kept_pages()), [24; 2]);
    mm.drain_all(Some(own.0));
    assert_eq!([asleep, in_hit].map(|heap| heap.kept_pages()), [0; 2]);
    mm.validate(Some(own.0)).unwrap();
}
