//! Large runs that threads leave for each other.

use core::ptr::NonNull;
use std::vec::Vec;

use zonal_numa::PAGE_SIZE;

use super::{Owner, new_mm};
use crate::heap::Patience;
use crate::large::node_cache::{MOST, NR_STRIPES, NodeCache, OWED, STRIPE_MOST};
use crate::lock::FutexLock;
use crate::watermark::WatermarkLevel;
use crate::{Attempt, Deadline, Mm};

const SIZE: usize = 64 * PAGE_SIZE;
/// Blocks of that size: more than a thread keeps at first, and fewer than are left for others at most.
const NR: usize = 32;

/// Two threads of one instance; the first has just left blocks for others: those that it did not keep.
struct Left {
    mm: &'static Mm,
    one: Owner,
    other: Owner,
    blocks: Vec<NonNull<u8>>,
}

impl Left {
    fn new() -> Left {
        Left::of(NR, SIZE)
    }

    /// The same with so many blocks of that size.
    fn of(nr: usize, size: usize) -> Left {
        let mm = new_mm();
        let (one, other) = (Owner::attach(mm), Owner::attach(mm));
        let blocks: Vec<_> = (0..nr).map(|_| one.alloc(size, 8)).collect();
        blocks.iter().for_each(|&block| one.free(block));
        let left = Left { mm, one, other, blocks };
        let kept = one.heap().enter().large().nr_pages();
        assert_eq!(kept + left.shared().nr_pages(), nr * size / PAGE_SIZE);
        assert!((64..MOST).contains(&left.shared().nr_pages()));
        left
    }

    fn shared(&self) -> &NodeCache {
        self.mm.pages().node_cache(self.one.heap().node())
    }

    /// How often the zone was locked, but for this look.
    fn zone_locks(&self) -> u64 {
        self.mm.pages().zone_stats(self.one.heap().node()).unwrap().events.zone_lock
    }

    fn end(&self) {
        self.mm.validate(Some(self.one.0)).unwrap();
        self.mm.drain_all(None);
        assert_eq!(self.shared().nr_pages(), 0);
    }
}

#[test]
fn what_one_thread_leaves_serves_another_without_the_zone() {
    let left = Left::new();
    let nr = left.shared().nr_pages() / 64;
    let before = left.zone_locks();
    let taken: Vec<_> = (0..nr).map(|_| left.other.alloc(SIZE, 8)).collect();
    assert_eq!(left.zone_locks() - before, 1, "this look");
    assert!(taken.iter().all(|block| left.blocks.contains(block)));
    assert_eq!(left.shared().nr_pages(), 0);
    taken.iter().for_each(|&block| left.other.free(block));
    left.end();
}

/// So that what nobody wants does not stand against what somebody wants.
#[test]
fn who_finds_nothing_that_fits_has_as_many_pages_given_back() {
    let left = Left::new();
    let before = left.shared().nr_pages();
    let short = left.other.alloc(SIZE / 2, 8);
    // Less than that is chance.
    assert_eq!(left.shared().nr_pages(), before);
    let long = left.other.alloc(8 * SIZE, 8);
    let given = before - left.shared().nr_pages();
    assert!((544..640).contains(&given), "{given}");
    left.other.free(short);
    left.other.free(long);
    left.end();
}

/// Also where it is many short runs.
#[test]
fn a_long_block_has_as_many_pages_of_short_ones_given_back() {
    let mm = new_mm();
    let one = Owner::attach(mm);
    let blocks: Vec<_> = (0..220).map(|_| one.alloc(10 * PAGE_SIZE, 8)).collect();
    blocks.iter().for_each(|&block| one.free(block));
    let shared = mm.pages().node_cache(one.heap().node());
    let before = shared.nr_pages();
    assert!(before > 600, "{before}");
    let long = one.alloc(512 * PAGE_SIZE, 8);
    assert_eq!(before - shared.nr_pages(), 520);
    one.free(long);
    mm.validate(Some(one.0)).unwrap();
}

#[test]
fn runs_of_pages_come_back_from_what_was_left() {
    let mm = new_mm();
    let one = Owner::attach(mm);
    let from = Attempt { node: one.heap().node(), level: WatermarkLevel::Low };
    let shared = mm.pages().node_cache(from.node);
    let cycle = || {
        // SAFETY: the test's thread owns the heap.
        let take = |_| unsafe { mm.alloc_pages(one.heap(), 16, from, false) }.unwrap().start;
        let blocks: Vec<_> = (0..150).map(take).collect();
        let left = shared.nr_pages();
        blocks.into_iter().for_each(|block| one.free(block));
        left
    };
    cycle();
    assert!(shared.nr_pages() > 0);
    assert_eq!(cycle(), 0);
    mm.validate(Some(one.0)).unwrap();
}

#[test]
fn what_nobody_needs_goes_by_age() {
    const NR_SHORT: usize = 60;
    const SHORT: usize = 16 * PAGE_SIZE;
    // All of it in one stripe, for each ages by itself.
    let left = Left::of(NR_SHORT, SHORT);
    assert!(left.shared().nr_pages() <= STRIPE_MOST);
    let pages = left.mm.pages();
    let age = |generation: u32| {
        pages.set_generation(generation);
        left.shared().age(pages, 4);
        left.shared().nr_pages()
    };
    let use_one = |generation: u32| {
        pages.set_generation(generation);
        let block = left.other.alloc(SHORT, 8);
        left.other.heap().enter().large().drain(pages);
        left.other.free(block);
        left.other.heap().enter().large().drain(pages);
        left.shared().nr_pages()
    };
    let some = use_one(8);
    // It may have come just now.
    assert_eq!(age(9), some);
    // Meanwhile some is in use.
    let rest = use_one(11);
    assert!((1..some).contains(&rest));
    assert_eq!(age(12), rest, "not old enough");
    assert_eq!(age(13), 0);
    left.end();
    // Where nothing happens, one look does.
    let left = Left::new();
    left.mm.pages().set_generation(20);
    left.shared().age(left.mm.pages(), 4);
    assert_eq!(left.shared().nr_pages(), 0);
    left.end();
}

#[test]
fn what_was_left_is_drained_until_the_deadline() {
    let left = Left::new();
    let before = left.shared().nr_pages();
    let over = Deadline::at(left.mm.machine().now_ns());
    assert_eq!(left.mm.drain_all_until(Some(left.other.0), Patience::PassBy, over), 0);
    left.mm.drain_own(left.other.0, Patience::PassBy, over);
    assert_eq!(left.shared().nr_pages(), before);
    let drained = left.mm.drain_own(left.other.0, Patience::PassBy, Deadline::NEVER);
    assert!(drained >= before);
    left.end();
}

/// So that a fork, and who drains, finds it in the one place or in the other.
#[test]
fn what_goes_back_is_in_the_zone_before_it_counts_as_gone() {
    let left = Left::new();
    let (shared, before) = (left.shared(), left.shared().nr_pages());
    let pages = left.mm.pages();
    let zone = pages.node(left.one.heap().node()).unwrap().raw_lock();
    zone.acquire();
    std::thread::scope(|scope| {
        let giving = scope.spawn(|| shared.note_miss(pages, OWED));
        while !zone.is_awaited() {
            std::thread::yield_now();
        }
        assert!(shared.raw_locks().any(FutexLock::is_held));
        assert_eq!(shared.nr_pages(), before);
        zone.release();
        giving.join().unwrap();
    });
    assert_eq!(shared.nr_pages(), before - OWED);
    left.end();
}

#[test]
fn nobody_waits_for_who_is_at_what_was_left() {
    let left = Left::new();
    let before = left.shared().nr_pages();
    left.shared().raw_locks().for_each(FutexLock::acquire);
    let one = left.other.alloc(SIZE, 8);
    assert!(!left.blocks.contains(&one));
    let many: Vec<_> = (0..NR).map(|_| left.other.alloc(SIZE, 8)).collect();
    many.iter().for_each(|&block| left.other.free(block));
    left.other.free(one);
    assert_eq!(left.shared().nr_pages(), before);
    left.shared().raw_locks().for_each(FutexLock::release);
    left.end();
}

/// The locks of all stripes but one.
fn hold_all_but(shared: &NodeCache, free: usize) -> impl Fn() {
    let others = move || shared.raw_locks().enumerate().filter(move |&(at, _)| at != free);
    others().for_each(|(_, lock)| lock.acquire());
    move || others().for_each(|(_, lock)| lock.release())
}

/// In each of the stripes, wherever the threads looked before.
#[test]
fn who_finds_a_stripe_held_goes_on_to_the_next() {
    let left = Left::new();
    let pages = left.mm.pages();
    let drain = || {
        [&left.one, &left.other].into_iter().for_each(Owner::rest);
        left.mm.drain_all(None);
    };
    drain();
    let shared = left.shared();
    for at in (0..NR_STRIPES).rev() {
        let let_go = hold_all_but(shared, at);
        let blocks: Vec<_> = (0..NR).map(|_| left.one.alloc(SIZE, 8)).collect();
        blocks.iter().for_each(|&block| left.one.free(block));
        let nr_left = shared.nr_pages();
        assert!((64..=STRIPE_MOST).contains(&nr_left), "{nr_left}");
        let before = left.zone_locks();
        let taken: Vec<_> = (0..nr_left / 64).map(|_| left.other.alloc(SIZE, 8)).collect();
        assert_eq!(left.zone_locks() - before, 1, "this look");
        assert!(taken.iter().all(|block| blocks.contains(block)));
        let_go();
        taken.into_iter().for_each(|block| left.other.free(block));
        left.other.heap().enter().large().drain(pages);
        drain();
    }
    left.end();
}

/// What one of them has no room for comes into the next, and all of it is found again.
#[test]
fn all_stripes_together_have_so_much_and_no_more() {
    let mm = new_mm();
    let (one, other) = (Owner::attach(mm), Owner::attach(mm));
    let blocks: Vec<_> = (0..2 * MOST / 64).map(|_| one.alloc(SIZE, 8)).collect();
    blocks.iter().for_each(|&block| one.free(block));
    let shared = mm.pages().node_cache(one.heap().node());
    assert_eq!(shared.nr_pages(), MOST);
    let taken: Vec<_> = (0..MOST / 64).map(|_| other.alloc(SIZE, 8)).collect();
    assert_eq!(shared.nr_pages(), 0);
    taken.into_iter().for_each(|block| other.free(block));
    mm.validate(Some(one.0)).unwrap();
    [one, other].iter().for_each(Owner::rest);
    assert!(mm.drain_all(None) >= MOST);
    assert_eq!(shared.nr_pages(), 0);
}

#[test]
fn pages_for_what_was_missed_come_from_all_stripes() {
    let mm = new_mm();
    let one = Owner::attach(mm);
    let blocks: Vec<_> = (0..2 * MOST / 64).map(|_| one.alloc(SIZE, 8)).collect();
    blocks.into_iter().for_each(|block| one.free(block));
    let shared = mm.pages().node_cache(one.heap().node());
    assert_eq!(shared.nr_pages(), MOST);
    shared.note_miss(mm.pages(), STRIPE_MOST + 64);
    assert_eq!(shared.nr_pages(), MOST - STRIPE_MOST - 64);
    mm.validate(Some(one.0)).unwrap();
}

/// A 32nd of what is found, whichever stripe has it.
#[test]
fn what_is_found_makes_up_for_what_was_missed() {
    let left = Left::new();
    let (shared, pages) = (left.shared(), left.mm.pages());
    shared.note_miss(pages, OWED - 1);
    let let_go = hold_all_but(shared, 1);
    let found = left.other.alloc(SIZE, 8);
    let_go();
    assert!(left.blocks.contains(&found));
    let before = shared.nr_pages();
    assert!(before >= OWED, "{before}");
    shared.note_miss(pages, SIZE / PAGE_SIZE / 32);
    assert_eq!(shared.nr_pages(), before);
    shared.note_miss(pages, 1);
    assert_eq!(shared.nr_pages(), before - OWED);
    left.other.free(found);
    left.end();
}

#[test]
fn what_was_left_makes_way_for_what_grows() {
    let mm = new_mm();
    let (one, other) = (Owner::attach(mm), Owner::attach(mm));
    let mut blocks: Vec<_> = (0..NR).map(|_| one.alloc(SIZE, 8)).collect();
    blocks.sort();
    let at = blocks.windows(2).position(|pair| pair[0].addr().get() + SIZE == pair[1].addr().get());
    let block = blocks.remove(at.unwrap());
    // Freed last, when there is no room left for it.
    let behind = blocks.remove(at.unwrap());
    blocks.iter().chain([&behind]).for_each(|&block| one.free(block));
    // What its own thread keeps stands in no way.
    one.heap().enter().large().drain(mm.pages());
    let shared = mm.pages().node_cache(one.heap().node());
    let before = shared.nr_pages();
    // SAFETY: the test's thread owns the heap, and the block is its.
    assert_eq!(unsafe { other.heap().resize(block, 2 * SIZE) }, Some(block));
    assert_eq!(shared.nr_pages(), before - 64);
    other.free(block);
    mm.validate(Some(one.0)).unwrap();
}

/// After a fork the child finds it whole, and its lock free.
#[test]
fn a_forked_child_has_what_was_left() {
    let left = Left::new();
    let before = left.shared().nr_pages();
    left.mm.prefork(Some(left.other.0));
    assert!(left.shared().raw_locks().all(FutexLock::is_held));
    left.mm.postfork_child(Some(left.other.0));
    assert_eq!(left.shared().nr_pages(), before);
    let block = left.other.alloc(SIZE, 8);
    assert!(left.blocks.contains(&block));
    left.other.free(block);
    left.mm.drain_all(None);
    assert_eq!(left.shared().nr_pages(), 0);
}
