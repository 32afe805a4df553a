//! The common case of large blocks that are taken and kept, and what is not the common case.

use zonal_numa::{Machine, PAGE_SIZE};

use super::keeper;
use crate::mm_tests::Owner;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::WatermarkLevel;
use crate::{Attempt, Config, Kept, Mm};

/// A refusal changes nothing, and what is refused can still be freed.
#[test]
fn what_is_freed_at_once_is_a_whole_block_of_the_size_that_is_told() {
    const SIZE: usize = 50_000;
    let Some(owner) = keeper() else { return };
    let (heap, mm) = (owner.heap(), owner.heap().mm());
    let kept = || heap.enter().large().nr_pages();
    // SAFETY: the test's thread owns the heap, and gives the block up; what is none is left alone.
    let keep = |p: *mut u8, told| unsafe { heap.try_keep_at_once(p, told) };
    if !heap.has_large_hits() {
        return;
    }
    // The first one looks how much there is room for.
    owner.free(owner.alloc(100_000, 8));
    let block = owner.alloc(SIZE, 8);
    let start = block.as_ptr();
    let pfn = mm.pages().map.pfn_of(block.addr().get()).unwrap();
    let word = || mm.pages().map.word(pfn).load(Relaxed);
    let live = word();
    let refused = |p: *mut u8, told: Option<usize>| {
        let before = kept();
        assert!(!keep(p, told), "{:#x} {told:?}", p.addr() - start.addr());
        assert_eq!((kept(), word()), (before, live));
    };
    for inside in [16, 64, PAGE_SIZE, 2 * PAGE_SIZE] {
        refused(start.wrapping_add(inside), None);
    }
    for wrong in [0, 8, SIZE - 1, SIZE + 1, 14 * PAGE_SIZE] {
        refused(start, Some(wrong));
    }
    for at in [SIZE, SIZE | 63] {
        // SAFETY: behind the block, in its last line.
        let byte = unsafe { block.add(at) };
        // SAFETY: as above.
        let filled = unsafe { byte.replace(0) };
        refused(start, None);
        // SAFETY: as above.
        unsafe { byte.write(filled) };
    }
    let other = owner.alloc(SIZE, 8);
    mm.deferred_free(other).unwrap();
    refused(start, None);
    mm.run_deferred(heap);
    let before = kept();
    assert!(keep(start, Some(SIZE)));
    assert_eq!(kept(), before + 14);
    assert!(!keep(start, None), "a second time");
    assert_eq!(kept(), before + 14);
    // Of the reserve, and too long.
    let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
    // SAFETY: the test's thread owns the heap.
    let urgent = unsafe { mm.alloc_pages(heap, 12, from, true) }.unwrap().start;
    let urgent_pfn = mm.pages().map.pfn_of(urgent.addr().get()).unwrap();
    assert!(mm.pages().map.chunk(urgent_pfn).may_rest() || !keep(urgent.as_ptr(), None));
    let long = owner.alloc(65 * PAGE_SIZE, 8);
    assert!(!keep(long.as_ptr(), None));
    owner.free(long);
    mm.validate(Some(owner.0)).unwrap();
}

/// Once it has kept one, and whether or not it has slack.
#[test]
fn what_a_thread_frees_is_kept_at_once() {
    for slack in [false, true] {
        let mm = Mm::new(Machine::linux(), Config { slack, ..Config::default() }).unwrap();
        let owner = Owner::attach(mm);
        if !owner.heap().has_large_hits() {
            return;
        }
        owner.free(owner.alloc(100_000, 8));
        let block = owner.alloc(50_000, 8);
        // SAFETY: the test's thread owns the heap, and gives the block up.
        assert!(unsafe { owner.heap().try_keep_at_once(block.as_ptr(), Some(50_000)) }, "{slack}");
        // SAFETY: as above.
        assert_eq!(unsafe { owner.heap().take_large_at_once(50_000) }, Some(block), "{slack}");
        owner.free(block);
    }
}

/// The short fill and the long one leave the same, and so do both looks.
#[test]
fn slack_is_the_same_whoever_fills_it() {
    let Some(owner) = keeper() else { return };
    let mm = owner.heap().mm();
    let sizes = (40_000..40_200).chain(15 * PAGE_SIZE - 70..15 * PAGE_SIZE + 70);
    for size in sizes {
        let block = owner.alloc(size, 8);
        let pfn = mm.pages().map.pfn_of(block.addr().get()).unwrap();
        let nr_pages = mm.capacity(block).unwrap() / PAGE_SIZE;
        let seen = || {
            // SAFETY: a live block that the test's thread does not write to meanwhile.
            let is_whole = unsafe { Mm::is_end_whole(block.as_ptr(), size) };
            (is_whole, mm.size_before_slack(pfn, mm.pages().map.word_at(pfn)))
        };
        let word = mm.pages().map.word_at(pfn);
        mm.set_kept(pfn, nr_pages, size);
        assert_eq!((seen(), mm.pages().map.word_at(pfn)), ((true, Some(size)), word));
        // SAFETY: the block has so many pages.
        unsafe { block.add(size).write_bytes(1, nr_pages * PAGE_SIZE - size) };
        assert_eq!(seen().0, size.is_multiple_of(PAGE_SIZE));
        mm.set_large(pfn, nr_pages, size, false);
        assert_eq!((seen(), mm.pages().map.word_at(pfn)), ((true, Some(size)), word));
        owner.free(block);
    }
}

/// Of the right length, or longer by a quarter at most; and the same by the longer way.
#[test]
fn what_is_slightly_longer_will_do_at_once() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    // SAFETY: the test's thread owns the heap.
    let at_once = |nr_pages: usize| unsafe { heap.take_large_at_once(nr_pages * PAGE_SIZE) };
    // SAFETY: as above.
    let take = |nr_pages: usize| unsafe { heap.take_large(nr_pages * PAGE_SIZE) };
    let block = owner.alloc(24 * PAGE_SIZE, 8);
    assert_eq!([at_once(24), take(24)], [None; 2]);
    owner.free(block);
    assert_eq!([at_once(18), take(18)], [None; 2]);
    assert_eq!([at_once(25), take(25)], [None; 2]);
    assert_eq!(at_once(24), Some(block));
    owner.free(block);
    assert_eq!(at_once(20), Some(block));
    owner.free(block);
    assert_eq!(take(20), Some(block));
    owner.free(block);
}

/// So what is done now and then is done by who has only hits, too.
#[test]
fn one_in_many_that_are_kept_says_so() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    // In pages.
    let nr = (0..10 * 2048 / 25).filter(|_| {
        let block = owner.alloc(100_000, 8);
        // SAFETY: the test's thread owns the heap, and gives the block up.
        match unsafe { heap.try_keep_large(block, None) } {
            Kept::No => unreachable!("there is room"),
            kept => kept == Kept::YesAfterMany,
        }
    });
    // The first one, too.
    assert_eq!(nr.count(), 11);
}
