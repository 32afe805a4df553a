//! Empty slabs that stay with a heap.

use std::vec::Vec;

use super::{Owner, new_mm};
use crate::class::MAX_SMALL;
use crate::deadline::Deadline;

/// More than a bin takes.
const NR: usize = 110;

/// Slabs that a batch takes anew.
fn batch(owner: Owner, nr: usize) -> u64 {
    let events = || owner.heap().enter().events.slab_alloc;
    let before = events();
    let blocks: Vec<_> = (0..nr).map(|_| owner.alloc(MAX_SMALL, 8)).collect();
    blocks.into_iter().for_each(|block| owner.free(block));
    events() - before
}

#[test]
fn what_was_given_up_and_missed_stays_next_time_up_to_a_bound() {
    let owner = Owner::attach(new_mm());
    let heap = owner.heap();
    // First the bin is as deep as it will be.
    for _ in 0..4 {
        batch(owner, NR);
    }
    heap.enter().drain(Deadline::NEVER);
    batch(owner, NR);
    let missed = batch(owner, NR);
    assert!(missed > 0, "more than a bin and the slabs that stay at first");
    assert_eq!(batch(owner, NR), 0);
    // A drain lets all go, and what it was for.
    heap.enter().drain(Deadline::NEVER);
    assert_eq!(heap.enter().empty_bytes, 0);
    assert!(batch(owner, NR) > 0);
    assert_eq!(batch(owner, NR), missed);
    // Of one class no more than half of what the bins may hold.
    for _ in 0..8 {
        batch(owner, 1000);
    }
    let kept = heap.enter().empty_bytes;
    assert!((1 << 20..=(2 << 20) + 2 * MAX_SMALL).contains(&kept), "{kept} bytes kept");
    heap.mm().validate(Some(owner.0)).unwrap();
}
