//! How much large runs a thread may keep: its share, and room out of the pool of all threads.

use std::vec::Vec;

use zonal_numa::PAGE_SIZE;

use super::keeper;
use crate::large::kept_pool::{MOST, MOST_SERVED};
use crate::mm_tests::Owner;
use crate::order::Order;

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
        heap.enter().large().nr_pages() / 64
    };
    let at_first = cycle();
    assert!(at_first < NR, "{at_first}");
    assert_eq!(cycle(), NR);
    // Not by calls that nobody waits for.
    heap.enter().large().drain(heap.mm().pages());
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
    let kept = |owner: &Owner| owner.heap().enter().large().nr_pages();
    let take = |owner: &Owner| -> Vec<_> { (0..NR).map(|_| owner.alloc(SIZE, 8)).collect() };
    let free = |owner: &Owner, blocks: Vec<_>| blocks.into_iter().for_each(|p| owner.free(p));

    free(&one, take(&one));
    assert!(kept(&one) <= share);
    free(&one, take(&one));
    assert_eq!(kept(&one), NR * 64);
    // The other one wants as much.
    free(&other, take(&other));
    free(&other, take(&other));
    let left = MOST - (NR * 64 - share);
    assert!(kept(&other) > share, "{} pages", kept(&other));
    assert!(kept(&other) <= share + left, "{} pages", kept(&other));
    // And has it while the first one uses what it had, as soon as that one asks the zone, or after many frees.
    let used = take(&one);
    one.free(one.alloc(SIZE / 2, 8));
    free(&other, take(&other));
    assert_eq!(kept(&other), NR * 64);
    free(&one, used);
    assert!(kept(&one) <= share + left, "{} pages", kept(&one));
    // All of it comes back.
    for owner in [&one, &other] {
        owner.heap().enter().large().drain(mm.pages());
    }
    assert_eq!(mm.pages().kept.reserved(), 0);
    assert!(!mm.pages().kept.reserve(MOST + 1, MOST));
}

/// Some of it is only for who finds nearly all it wants.
#[test]
fn who_seldom_misses_has_more_of_the_room() {
    const SIZE: usize = 64 * PAGE_SIZE;
    const NR: usize = 50;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let share = heap.mm().pages().pcp_share(Order::ZERO);
    assert!((share + MOST..=share + MOST_SERVED).contains(&(NR * 64)));
    let cycle = |_| {
        let blocks: Vec<_> = (0..NR).map(|_| owner.alloc(SIZE, 8)).collect();
        blocks.into_iter().for_each(|block| owner.free(block));
        heap.enter().large().nr_pages()
    };
    // At first all comes from the zone.
    let at_first = (0..2).map(cycle).max().unwrap();
    assert!((share + 1..=share + MOST).contains(&at_first), "{at_first}");
    assert_eq!((0..40).map(cycle).last(), Some(NR * 64));
}

/// A thread that took all it kept has nothing reserved any more once it asks the zone.
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
    assert_eq!(owner.heap().enter().large().nr_pages(), 0);
    assert!(pages.kept.reserved() > 0);
    blocks.push(owner.alloc(SIZE, 8));
    assert_eq!(pages.kept.reserved(), 0);
    blocks.into_iter().for_each(|block| owner.free(block));
    let kept = owner.heap().enter().large().nr_pages();
    assert!(kept >= NR * 20, "{kept}");
    let needed = kept - share;
    assert!((needed..needed + 64).contains(&pages.kept.reserved()));
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
    assert!(pages.pcp_share(Order::ZERO) < 40);
    let reserve_none = || {
        // The thread asks the zone.
        let missed = owner.alloc(SIZE / 2, 8);
        // SAFETY: the test's thread owns the heap; the block is given up, to its zone.
        unsafe { heap.free(missed) }.unwrap();
        assert_eq!(pages.kept.reserved(), 0);
    };
    for _ in 0..3 {
        owner.free(owner.alloc(SIZE, 8));
    }
    let block = owner.alloc(SIZE - 100, 8);
    reserve_none();
    // SAFETY: the test's thread owns the heap; the block is not freed.
    assert!(!unsafe { heap.try_free_large(block, Some(SIZE + 1)) });
    assert_eq!(pages.kept.reserved(), 0);
    let other = owner.alloc(SIZE, 8);
    // By the long way it goes to its zone.
    // SAFETY: as above; the block is given up.
    unsafe { heap.free(other) }.unwrap();
    assert_eq!(pages.kept.reserved(), 0);
    owner.free(block);
    assert!(pages.kept.reserved() > 0);
}

/// By what is charged now, not when room was reserved.
#[test]
fn room_is_less_when_a_share_is() {
    const SIZE: usize = 64 * PAGE_SIZE;
    let Some(owner) = keeper() else { return };
    let mm = owner.heap().mm();
    let kept = || owner.heap().enter().large().nr_pages();
    let big = owner.alloc(1 << 30, 8);
    for _ in 0..40 {
        let blocks: Vec<_> = (0..120).map(|_| owner.alloc(SIZE, 8)).collect();
        blocks.into_iter().for_each(|block| owner.free(block));
    }
    let before = kept();
    owner.free(big);
    mm.drain_huge();
    let most = mm.pages().pcp_share(Order::ZERO) + MOST_SERVED;
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
    let all = mm.pages().pcp_share(Order::ZERO) + MOST_SERVED;
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
    let kept: usize = owners.iter().map(|owner| owner.heap().enter().large().nr_pages()).sum();
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
    assert_eq!(mm.pages().kept.reserved(), of_own + of_lost);
    mm.prefork(Some(own.0));
    lost.heap().set_torn(true);
    // As in the child.
    mm.postfork_child(Some(own.0));
    assert_eq!(mm.pages().kept.reserved(), of_own);
    mm.drain_all(Some(own.0));
    own.heap().enter().large().drain(mm.pages());
    assert_eq!(mm.pages().kept.reserved(), 0);
}
