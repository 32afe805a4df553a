//! Bins of blocks that a thread takes and gives back in batches.

use std::vec::Vec;

use super::{Owner, new_mm};
use crate::class::SizeClass;

/// Refills and spills that a batch takes.
fn batch(owner: Owner, size: usize, nr: usize) -> u64 {
    let events = || {
        let events = &owner.heap().enter().events;
        events.bin_refill + events.bin_spill
    };
    let before = events();
    let blocks: Vec<_> = (0..nr).map(|_| owner.alloc(size, 8)).collect();
    blocks.into_iter().for_each(|block| owner.free(block));
    events() - before
}

/// Bytes that the bin of `size` can hold.
fn room(owner: Owner, size: usize) -> usize {
    let class = SizeClass::of(size).unwrap();
    let slots = usize::from(owner.heap().enter().classes[class.index()].slots);
    slots.saturating_sub(1) * class.size()
}

#[test]
fn batches_become_hits() {
    for (size, nr) in [(2 << 10, 200), (3000, 200), (8 << 10, 200), (32 << 10, 60)] {
        let owner = Owner::attach(new_mm());
        let first = batch(owner, size, nr);
        for _ in 0..4 {
            batch(owner, size, nr);
        }
        let last = batch(owner, size, nr);
        assert!(first > 4 && last == 0, "{size}: {first}, {last} times");
        owner.heap().mm().validate(Some(owner.0)).unwrap();
    }
}

/// Whoever frees what is not wanted again keeps little of it, who takes and never frees has no use for a bin.
#[test]
fn what_goes_one_way_makes_no_deep_bin() {
    let size = 8 << 10;
    let [taker, giver] = {
        let mm = new_mm();
        [(); 2].map(|()| Owner::attach(mm))
    };
    for _ in 0..8 {
        (0..1000).for_each(|_| giver.free(taker.alloc(size, 8)));
    }
    for owner in [taker, giver] {
        let bytes = room(owner, size);
        assert!(bytes <= 512 << 10, "{bytes} bytes");
    }
    let owner = Owner::attach(new_mm());
    batch(owner, size, 2000);
    let bytes = room(owner, size);
    assert!(bytes <= 512 << 10, "{bytes} bytes");
}

/// Deep ones take half of what all bins may hold, and three quarters together at most. What was deep once makes room
/// for what is wanted now.
#[test]
fn deep_bins_leave_room_for_others() {
    let owner = Owner::attach(new_mm());
    let mm = owner.heap().mm();
    let deep = [8 << 10, 10 << 10];
    for size in deep.into_iter().flat_map(|size| [size; 8]) {
        batch(owner, size, 600);
    }
    let rooms = deep.map(|size| room(owner, size));
    assert!(rooms.iter().all(|&bytes| bytes <= 2 << 20), "{rooms:?}");
    assert!((2 << 20..=3 << 20).contains(&rooms.iter().sum::<usize>()), "{rooms:?}");
    let others = [128, 144, 160, 176, 192, 256, 320, 512, 640, 1024];
    for size in others {
        for _ in 0..4 {
            batch(owner, size, 5000);
        }
        let bytes = room(owner, size);
        assert!(bytes >= 120 << 10, "{size}: {bytes} bytes");
    }
    mm.validate(Some(owner.0)).unwrap();
    assert!(owner.heap().enter().bin_bytes <= 4 << 20);
    assert!(deep.iter().any(|&size| room(owner, size) < 600 << 10));
}

/// A bin that was deep beside many threads takes no more room where it is cut beside few, whose share is larger.
#[test]
fn what_is_cut_never_grows() {
    let mm = new_mm();
    let others = [(); 15].map(|()| Owner::attach(mm));
    let owner = Owner::attach(mm);
    let size = 32 << 10;
    for _ in 0..8 {
        batch(owner, size, 60);
    }
    let deep = owner.heap().enter().deep;
    assert_ne!(deep, 0);
    let before = room(owner, size);
    // SAFETY: this thread owns them, and uses them no more.
    others.into_iter().for_each(|other| unsafe { mm.detach(other.0) });
    for class in SizeClass::all().filter(|class| (128..4096).contains(&class.size())) {
        for _ in 0..6 {
            batch(owner, class.size(), (1 << 20) / class.size());
        }
    }
    assert_eq!(owner.heap().enter().deep & deep, 0, "it was cut");
    let after = room(owner, size);
    assert!(after <= before, "{before} -> {after} bytes");
}

/// A refill takes no more from the slabs than one of a shallow bin.
#[test]
fn deep_bins_are_filled_by_frees() {
    let size = 8 << 10;
    let owner = Owner::attach(new_mm());
    for _ in 0..8 {
        batch(owner, size, 200);
    }
    assert!(room(owner, size) > 1 << 20);
    let class = SizeClass::of(size).unwrap();
    owner.heap().enter().flush_bin(owner.heap(), class);
    let block = owner.alloc(size, 8);
    let taken = {
        let inner = owner.heap().enter();
        owner.heap().bin_len(class, &inner.classes[class.index()])
    };
    assert!(taken < 32, "{taken} objects");
    owner.free(block);
}
