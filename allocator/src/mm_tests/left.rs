//! Large runs that threads leave for each other.

use core::ptr::NonNull;
use std::vec::Vec;

use zonal_numa::PAGE_SIZE;

use super::{Owner, new_mm};
use crate::Mm;
use crate::node_cache::{MOST, NodeCache};

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
        let mm = new_mm();
        let (one, other) = (Owner::attach(mm), Owner::attach(mm));
        let blocks: Vec<_> = (0..NR).map(|_| one.alloc(SIZE, 8)).collect();
        blocks.iter().for_each(|&block| one.free(block));
        let left = Left { mm, one, other, blocks };
        let kept = one.heap().enter().large.nr_pages();
        assert_eq!(kept + left.shared().nr_pages(), NR * 64);
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
    let long = left.other.alloc(3 * SIZE, 8);
    let given = before - left.shared().nr_pages();
    assert!((224..320).contains(&given), "{given}");
    left.other.free(short);
    left.other.free(long);
    left.end();
}

#[test]
fn what_nobody_needs_goes_by_age() {
    let left = Left::new();
    let pages = left.mm.pages();
    let age = |generation: u32| {
        pages.set_generation(generation);
        left.shared().age(pages, 4);
        left.shared().nr_pages()
    };
    let all = left.shared().nr_pages();
    // It may have come just now.
    assert_eq!(age(10), all);
    // Meanwhile one run at a time is in use.
    let block = left.other.alloc(SIZE, 8);
    let in_use = all - left.shared().nr_pages();
    left.other.heap().enter().large.drain(pages);
    left.other.free(block);
    left.other.heap().enter().large.drain(pages);
    assert_eq!(age(13), all - in_use, "not old enough");
    assert_eq!(age(14), 0);
    left.end();
}

#[test]
fn nobody_waits_for_who_is_at_what_was_left() {
    let left = Left::new();
    let before = left.shared().nr_pages();
    left.shared().raw_lock().acquire();
    let one = left.other.alloc(SIZE, 8);
    assert!(!left.blocks.contains(&one));
    let many: Vec<_> = (0..NR).map(|_| left.other.alloc(SIZE, 8)).collect();
    many.iter().for_each(|&block| left.other.free(block));
    left.other.free(one);
    assert_eq!(left.shared().nr_pages(), before);
    left.shared().raw_lock().release();
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
    one.heap().enter().large.drain(mm.pages());
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
    assert!(left.shared().raw_lock().is_held());
    left.mm.postfork_child(Some(left.other.0));
    assert_eq!(left.shared().nr_pages(), before);
    let block = left.other.alloc(SIZE, 8);
    assert!(left.blocks.contains(&block));
    left.other.free(block);
    left.mm.drain_all(None);
    assert_eq!(left.shared().nr_pages(), 0);
}
