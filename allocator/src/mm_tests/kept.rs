//! Large blocks that a thread keeps: they serve again at once, and make way for what grows.

use core::iter;
use core::ptr::NonNull;
use std::vec::Vec;

use zonal_numa::fake::FakeBuilder;
use zonal_numa::{Machine, PAGE_SIZE};

use super::{Owner, Rng, new_mm};
use crate::order::Order;
use crate::pages::{PCP_DEEP, Pages};
use crate::watermark::WatermarkLevel;
use crate::{Attempt, BadKind, Config, Mm, PageConfig, Place, Request, Thp};

/// An owner of a new instance, where threads keep large runs the short way: among nodes each request is
/// placed.
fn keeper() -> Option<Owner> {
    let mm = new_mm();
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

#[test]
fn what_was_spilled_and_missed_is_kept_next_time() {
    const SIZE: usize = 64 * PAGE_SIZE;
    // Together more than a thread's share, and no more than what it may keep at most.
    const NR: usize = 32;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    // How many of them are kept.
    let cycle = || {
        let blocks: Vec<_> = (0..NR).map(|_| owner.alloc(SIZE, 8)).collect();
        for &block in &blocks {
            owner.free(block);
        }
        heap.enter().large.nr_pages() / 64
    };
    let at_first = cycle();
    assert!(at_first < NR, "{at_first}");
    assert_eq!(cycle(), NR);
    // Not by calls that nobody waits for.
    heap.enter().large.drain(heap.mm().pages());
    assert_eq!(cycle(), at_first);
}

/// The room beyond the shares is for who has something to keep, not cut into parts for all; together they
/// have no more of it than there is.
#[test]
fn of_many_threads_the_one_that_wants_it_has_the_room_of_all() {
    const SIZE: usize = 64 * PAGE_SIZE;
    const NR: usize = 24;
    let Some(one) = keeper() else { return };
    let mm = one.heap().mm();
    let [other, ..] = [(); 7].map(|()| Owner::attach(mm));
    let share = mm.pages().pcp_share(Order::ZERO);
    assert!(2 * share < NR * 64, "{share}");
    let kept = |owner: &Owner| owner.heap().enter().large.nr_pages();
    let take = |owner: &Owner| -> Vec<_> { (0..NR).map(|_| owner.alloc(SIZE, 8)).collect() };
    let free = |owner: &Owner, blocks: Vec<_>| blocks.into_iter().for_each(|p| owner.free(p));

    free(&one, take(&one));
    assert!(kept(&one) <= share);
    free(&one, take(&one));
    assert_eq!(kept(&one), NR * 64);
    // The other one wants as much.
    free(&other, take(&other));
    free(&other, take(&other));
    let left = PCP_DEEP - (NR * 64 - share);
    assert!(kept(&other) > share, "{} pages", kept(&other));
    assert!(kept(&other) <= share + left, "{} pages", kept(&other));
    // And has it while the first one uses what it had.
    let used = take(&one);
    free(&other, take(&other));
    assert_eq!(kept(&other), NR * 64);
    free(&one, used);
    assert!(kept(&one) <= share + left, "{} pages", kept(&one));
    // All of it comes back.
    for owner in [&one, &other] {
        owner.heap().enter().large.drain(mm.pages());
    }
    assert_eq!(nr_reserved(mm.pages()), 0);
    assert!(!mm.pages().reserve_kept(PCP_DEEP + 1));
}

/// A thread that took all it kept has nothing reserved any more.
#[test]
fn who_keeps_nothing_leaves_the_room_to_others() {
    const SIZE: usize = 20 * PAGE_SIZE;
    const NR: usize = 60;
    let Some(owner) = keeper() else { return };
    let pages = owner.heap().mm().pages();
    // So many that a share is less than what is reserved at a time.
    for _ in 0..31 {
        Owner::attach(owner.heap().mm());
    }
    let share = pages.pcp_share(Order::ZERO);
    assert!(share < 64);
    let mut blocks = Vec::new();
    for _ in 0..4 {
        blocks.drain(..).for_each(|block| owner.free(block));
        blocks.extend((0..NR).map(|_| owner.alloc(SIZE, 8)));
    }
    assert_eq!(owner.heap().enter().large.nr_pages(), 0);
    assert_eq!(nr_reserved(pages), 0);
    blocks.into_iter().for_each(|block| owner.free(block));
    assert_eq!(owner.heap().enter().large.nr_pages(), NR * 20);
    let needed = NR * 20 - share;
    assert!((needed..needed + 64).contains(&nr_reserved(pages)));
}

/// What is reserved of the pool.
fn nr_reserved(pages: &Pages) -> usize {
    let is_left = |nr_pages: usize| {
        let is_left = pages.reserve_kept(nr_pages);
        pages.unreserve_kept(if is_left { nr_pages } else { 0 });
        is_left
    };
    (0..=PCP_DEEP).find(|reserved| is_left(PCP_DEEP - reserved)).unwrap()
}

/// Nothing is reserved for a block that does not stay.
#[test]
fn what_is_not_kept_takes_no_room() {
    const SIZE: usize = 40 * PAGE_SIZE;
    let Some(owner) = keeper() else { return };
    let (heap, pages) = (owner.heap(), owner.heap().mm().pages());
    for _ in 0..71 {
        Owner::attach(heap.mm());
    }
    // A single block is more than a share, and wanted again.
    assert!(!pages.is_pcp_share(40));
    for _ in 0..3 {
        owner.free(owner.alloc(SIZE, 8));
    }
    let block = owner.alloc(SIZE - 100, 8);
    assert_eq!(nr_reserved(pages), 0);
    // SAFETY: the test's thread owns the heap; the block is not freed.
    assert!(!unsafe { heap.try_free_large(block, Some(SIZE + 1)) });
    assert_eq!(nr_reserved(pages), 0);
    let other = owner.alloc(SIZE, 8);
    // By the long way it goes to its zone.
    // SAFETY: as above; the block is given up.
    unsafe { heap.free(other) }.unwrap();
    assert_eq!(nr_reserved(pages), 0);
    owner.free(block);
    assert!(nr_reserved(pages) > 0);
}

/// By what is charged now, not when room was reserved.
#[test]
fn room_is_less_when_a_share_is() {
    const SIZE: usize = 64 * PAGE_SIZE;
    let Some(owner) = keeper() else { return };
    let mm = owner.heap().mm();
    let kept = || owner.heap().enter().large.nr_pages();
    let big = owner.alloc(1 << 30, 8);
    for _ in 0..3 {
        let blocks: Vec<_> = (0..80).map(|_| owner.alloc(SIZE, 8)).collect();
        blocks.into_iter().for_each(|block| owner.free(block));
    }
    let before = kept();
    owner.free(big);
    mm.drain_huge();
    let most = mm.pages().pcp_share(Order::ZERO) + PCP_DEEP;
    assert!(before > most, "{before} of {most} at most");
    for _ in 0..1000 {
        owner.free(owner.alloc(SIZE, 8));
    }
    assert!(kept() <= most, "{} of {most} at most", kept());
}

/// The same by the threads of now.
#[test]
fn threads_that_come_one_after_the_other_keep_no_more_than_there_is_room() {
    const SIZE: usize = 64 * PAGE_SIZE;
    let Some(first) = keeper() else { return };
    let mm = first.heap().mm();
    let all = mm.pages().pcp_share(Order::ZERO) + PCP_DEEP;
    let mut owners = [first; 16];
    for (i, owner) in owners.iter_mut().enumerate() {
        if i > 0 {
            *owner = Owner::attach(mm);
        }
        let nr = mm.pages().pcp_share(Order::ZERO) / 64 + 1;
        for _ in 0..3 {
            let blocks: Vec<_> = (0..nr).map(|_| owner.alloc(SIZE, 8)).collect();
            blocks.into_iter().for_each(|block| owner.free(block));
        }
    }
    for _ in 0..100 {
        owners.iter().for_each(|owner| owner.free(owner.alloc(SIZE, 8)));
    }
    let kept: usize = owners.iter().map(|owner| owner.heap().enter().large.nr_pages()).sum();
    assert!(kept <= all, "{kept} of {all} at most");
}

/// A heap that nobody can use in a forked child has no part in the room there.
#[test]
fn a_forked_child_has_the_room_of_torn_heaps() {
    const SIZE: usize = 64 * PAGE_SIZE;
    let Some(own) = keeper() else { return };
    let mm = own.heap().mm();
    let [lost, ..] = [(); 7].map(|()| Owner::attach(mm));
    for owner in [&own, &lost] {
        for _ in 0..3 {
            let blocks: Vec<_> = (0..8).map(|_| owner.alloc(SIZE, 8)).collect();
            blocks.into_iter().for_each(|block| owner.free(block));
        }
    }
    let [of_own, of_lost] = [own, lost].map(|owner| owner.heap().enter().large.reserved());
    assert!(of_own > 0 && of_lost > 0);
    assert_eq!(nr_reserved(mm.pages()), of_own + of_lost);
    mm.prefork(Some(own.0));
    lost.heap().set_torn(true);
    // As in the child.
    mm.postfork_child(Some(own.0));
    assert_eq!(nr_reserved(mm.pages()), of_own);
    mm.drain_all(Some(own.0));
    own.heap().enter().large.drain(mm.pages());
    assert_eq!(nr_reserved(mm.pages()), 0);
}

#[test]
fn what_a_thread_had_at_a_time_stays_and_runs_of_other_lengths_do_not_add_to_it() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let kept = || heap.enter().large.nr_pages();

    // A few at a time, of all lengths.
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut most = 0;
    let mut live: Vec<_> = (0..8).map(|_| owner.alloc(40 << 10, 8)).collect();
    for turn in 0..4000 {
        let size = (33 << 10) + rng.next() as usize % (95 << 10);
        owner.free(core::mem::replace(&mut live[turn % 8], owner.alloc(size, 8)));
        most = most.max(kept());
    }
    // What is in use comes to 256 pages at most.
    assert!(most <= 256, "{most} pages kept");

    // Many at a time, of one length: all of them, but those that were there before.
    let blocks: Vec<_> = (0..32).map(|_| owner.alloc(64 << 10, 8)).collect();
    blocks.into_iter().for_each(|block| owner.free(block));
    assert!(kept() >= 32 * 16, "{} pages kept", kept());
    for block in live {
        owner.free(block);
    }
}

#[test]
fn while_pages_are_owed_the_front_of_a_longer_run_serves() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let kept = || heap.enter().large.nr_pages();
    let alloc = |nr_pages| owner.alloc(nr_pages * PAGE_SIZE, 8);
    let (long, short, other) = (alloc(64), alloc(28), alloc(30));
    owner.free(long);
    // Nothing is owed: the first miss costs a run of the zone's.
    let first = alloc(20);
    assert_eq!(kept(), 64);
    let front = alloc(20);
    assert_eq!((front, kept()), (long, 44));
    let rest = alloc(44);
    assert_eq!(rest.addr().get(), long.addr().get() + 20 * PAGE_SIZE);
    // Too little would be left for a large block.
    owner.free(short);
    let second = alloc(20);
    assert_ne!(second, short);
    // Just enough is.
    owner.free(other);
    let third = alloc(10);
    assert_eq!(kept(), 30);
    assert_eq!((alloc(20), kept()), (other, 10));
    [first, front, rest, second, third, other].into_iter().for_each(|block| owner.free(block));
    heap.mm().validate(Some(owner.0)).unwrap();
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
    let kept = owner.heap().enter().large.nr_pages();
    assert!(kept > 0);
    for _ in 0..1000 {
        let block = owner.alloc(SIZE, 8);
        assert_eq!((block, owner.heap().enter().large.nr_pages()), (first, 0));
        owner.free(block);
        assert_eq!(owner.heap().enter().large.nr_pages(), kept);
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
    let kept = heap.enter().large.nr_pages();
    assert_eq!(kept, 12 * 64);
    for _ in 0..100 {
        try_alloc(40).unwrap_err();
    }
    assert_eq!(heap.enter().large.nr_pages(), kept);
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
            let kept = heap.enter().large.nr_pages();
            assert!(heap.mm().pages().is_pcp_share(kept), "{kept} pages");
        }
    }
}

#[test]
fn a_row_is_found_behind_many_blocks_of_one_that_is_too_short() {
    const SIZE: usize = 4 << 20;
    const ROW: usize = 20;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let pages = heap.mm().pages();
    let mut blocks: Vec<_> = (0..96).map(|_| owner.alloc(SIZE, SIZE)).collect();
    blocks.sort();
    let is_row = |blocks: &[NonNull<u8>]| {
        blocks.windows(2).all(|pair| pair[1].addr().get() - pair[0].addr().get() == SIZE)
    };
    // A row, one block between, and a row that is shorter by one.
    let at = blocks.windows(2 * ROW).position(is_row).unwrap();
    let part: Vec<_> = blocks.drain(at..at + 2 * ROW).collect();
    let (long, short) = (&part[..ROW], &part[ROW + 1..]);
    for &block in long.iter().chain(short) {
        owner.free(block);
    }
    let row = owner.alloc(ROW * SIZE, 8);
    assert_eq!(row, long[0]);
    assert!(pages.map.pfn_of(row.addr().get()).is_some());
    owner.free(row);
    blocks.into_iter().chain([part[ROW]]).for_each(|block| owner.free(block));
}

#[test]
fn what_smaller_blocks_left_serves_a_huge_one() {
    const MIB: usize = 1 << 20;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let pages = heap.mm().pages();
    let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
    let huge = |zeroed, grows| {
        let request = Request { size: 7 * MIB, align: 8, zeroed, grows };
        // SAFETY: the test's thread owns the heap.
        unsafe { heap.alloc(request, from) }.unwrap().start
    };
    let is_row = |block: NonNull<u8>| pages.map.pfn_of(block.addr().get()).is_some();
    let smaller: Vec<_> = (0..16).map(|_| owner.alloc(MIB, 8)).collect();
    let before = pages.charged();
    smaller.into_iter().for_each(|block| owner.free(block));

    let row = huge(false, false);
    assert!(is_row(row));
    assert_eq!(pages.charged(), before);
    owner.free(row);
    // What may stay untouched, and what can be moved without being copied, is mapped.
    for (zeroed, grows) in [(true, false), (false, true)] {
        let mapped = huge(zeroed, grows);
        assert!(!is_row(mapped));
        owner.free(mapped);
    }
    // By now a mapping is kept that serves first.
    let again = huge(false, false);
    assert!(!is_row(again));
    owner.free(again);
}

/// What lies in the middle of a row of pageblocks, further from its head than the largest block of the
/// buddy core has pages.
#[test]
fn the_inside_of_a_row_is_known() {
    const MIB: usize = 1 << 20;
    for checked in [false, true] {
        // What lies between the blocks is resident, too.
        let pages = PageConfig { thp: Thp::Always, ..PageConfig::default() };
        let config = Config { checked, pages, ..Config::default() };
        let mm = Mm::new(Machine::linux(), config).unwrap();
        if !mm.is_one_node() {
            return;
        }
        let owner = Owner::attach(mm);
        let get = |size| owner.alloc_missed(size, 8);
        // SAFETY: the test's thread owns the heap.
        let free = |block| unsafe { owner.heap().free(block) };
        let smaller: Vec<_> = (0..16).map(|_| get(MIB)).collect();
        smaller.into_iter().for_each(|block| free(block).unwrap());
        mm.drain_all(Some(owner.0));

        let row = get(7 * MIB);
        let start = row.addr().get();
        let size = mm.capacity(row).unwrap();
        assert!(mm.pages().map.pfn_of(start).is_some());
        for offset in [PAGE_SIZE, 3 * MIB, 4 * MIB, 5 * MIB, 6 * MIB + 24, 7 * MIB - 8] {
            let addr = start + offset;
            assert_eq!(mm.place_of(addr), Place::Large { size, offset });
            assert!(!mm.is_guard(addr));
            if !checked {
                let inside = NonNull::new(row.as_ptr().with_addr(addr)).unwrap();
                assert_eq!(free(inside).unwrap_err().kind, BadKind::Interior, "{offset}");
            }
        }
        assert_eq!(mm.is_guard(start + size - 1), checked);
        assert!(!matches!(mm.place_of(start + size), Place::Large { .. }));
        free(row).unwrap();
        assert_eq!(mm.place_of(start + 5 * MIB), Place::Free);
        mm.validate(Some(owner.0)).unwrap();
    }
}

/// By lengths as by age: the newest run that will do, whatever left before from wherever.
#[test]
fn the_newest_of_the_shortest_that_will_do_comes_first() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let size = |nr_pages: usize| nr_pages * PAGE_SIZE;
    // SAFETY: the test's thread owns the heap, and gives the block up.
    let keep = |p: NonNull<u8>| assert!(unsafe { heap.try_free_large(p, None) });
    // SAFETY: as above.
    let take = |nr_pages: usize| unsafe { heap.try_alloc_large(size(nr_pages)) };
    let [a, b, c] = [(); 3].map(|()| owner.alloc(size(20), 8));
    let longer = owner.alloc(size(24), 8);
    for p in [a, longer, b, c] {
        keep(p);
    }
    assert_eq!([take(20), take(20)], [Some(c), Some(b)]);
    keep(c);
    assert_eq!(take(18), Some(c), "a part longer");
    assert_eq!([take(20), take(20), take(20)], [Some(a), Some(longer), None]);
    [a, b, c, longer].into_iter().for_each(keep);
    heap.mm().validate(Some(owner.0)).unwrap();
}

/// All places are taken, left in any order and taken again.
#[test]
fn a_thread_keeps_as_many_runs_as_there_are_places() {
    const NR: usize = 127;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
    // Short, so that places end before pages do. It comes from the heap's runs if there are any.
    // SAFETY: the test's thread owns the heap.
    let take = || unsafe { heap.mm().alloc_pages(heap, 2, from, false) }.unwrap().start;
    // SAFETY: as above; the block is given up, or is not free yet.
    let keep = |p: NonNull<u8>| unsafe { heap.try_free_large(p, None) };
    let nr_kept = || heap.enter().large.nr_pages() / 2;
    let mut out: Vec<_> = (0..NR + 9).map(|_| take()).collect();
    heap.enter().large.drain(heap.mm().pages());
    let spare = out.split_off(NR);
    // The newest last, as they come back.
    let mut kept: Vec<NonNull<u8>> = Vec::new();
    let mut rng = Rng(7);
    for _ in 0..4 {
        while let Some(p) = out.pop() {
            assert!(keep(p), "{}", nr_kept());
            kept.push(p);
        }
        assert_eq!(nr_kept(), NR);
        assert!(!keep(spare[0]));
        for _ in 0..1000 {
            let is_taken = !kept.is_empty() && rng.next().is_multiple_of(2);
            if is_taken {
                out.push(take());
                assert_eq!(out.last(), kept.pop().as_ref());
            } else if !out.is_empty() {
                let p = out.swap_remove(rng.next() as usize % out.len());
                assert!(keep(p));
                kept.push(p);
            }
            assert_eq!(nr_kept(), kept.len());
        }
    }
    // From full, the older half leaves.
    while let Some(p) = out.pop() {
        assert!(keep(p));
        kept.push(p);
    }
    owner.free(spare[0]);
    kept.push(spare[0]);
    let newest = kept.split_off(kept.len() - nr_kept());
    assert_eq!(newest.len(), NR / 2 + 1);
    let left: Vec<_> = newest.iter().map(|_| take()).collect();
    assert!(left.iter().rev().eq(&newest));
    left.iter().chain(&spare[1..]).for_each(|&p| owner.free(p));
    heap.mm().validate(Some(owner.0)).unwrap();
}

/// Batches of many lengths, of which no two are alike: what their thread keeps grows by what it takes for
/// nearly all to find a run.
#[test]
fn batches_of_varying_lengths_are_nearly_always_served() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let mut rng = Rng(1);
    let mut missed_in = |nr_batches: usize| {
        let mut missed = 0;
        for _ in 0..nr_batches {
            let blocks: Vec<_> = (0..40)
                .map(|_| {
                    let size = 36_000 + rng.next() as usize % 64_000;
                    // SAFETY: the test's thread owns the heap.
                    let kept = unsafe { heap.try_alloc_large(size) };
                    missed += usize::from(kept.is_none());
                    kept.unwrap_or_else(|| owner.alloc(size, 8))
                })
                .collect();
            blocks.into_iter().for_each(|block| owner.free(block));
        }
        missed
    };
    missed_in(200);
    let missed = missed_in(200);
    // Of 8,000.
    assert!(missed < 240, "{missed}");
    // A batch takes some 720 pages, at most 1,000.
    let kept = heap.enter().large.nr_pages();
    assert!(kept < 1_200, "{kept}");
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
