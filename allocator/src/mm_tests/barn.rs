//! What one thread frees and another one allocates, by way of the barn.

use std::collections::HashSet;

use super::*;
use crate::class::SizeClass;
use crate::remote::barn::batch_of;
use crate::remote::group::Group;

const SIZE: usize = 256;

fn class() -> SizeClass {
    SizeClass::of(SIZE).unwrap()
}

/// Two heaps, and blocks of the first one's that the other one freed.
fn freed_by_another(mm: &'static Mm, size: usize, nr: usize) -> ([Owner; 2], HashSet<usize>) {
    let [owner, other] = without_commons(mm);
    let blocks: Vec<_> = (0..nr).map(|_| owner.alloc(size, 8)).collect();
    blocks.iter().for_each(|&block| other.free(block));
    ([owner, other], blocks.iter().map(|block| block.addr().get()).collect())
}

fn end(mm: &'static Mm, owners: impl IntoIterator<Item = Owner>) {
    // SAFETY: the test's thread owns the heaps and does not use them again.
    owners.into_iter().for_each(|owner| unsafe { mm.detach(owner.0) });
    assert_nothing_left(mm);
}

/// Also to a thread that has nothing to do with either.
#[test]
fn what_is_left_serves_whoever_wants_it_next() {
    let mm = fake_mm(1);
    let ([owner, other], freed) = freed_by_another(mm, SIZE, 500);
    let third = Owner::attach(mm);
    let nr_left = mm.barn().nr_of(class());
    assert!(nr_left > 200, "{nr_left}");
    let cached = snapshot(mm, Some(owner.0)).classes()[class().index()].nr_cached;
    assert!(cached as usize >= nr_left, "they count as free");
    let blocks: Vec<_> = (0..nr_left).map(|_| third.alloc(SIZE, 8)).collect();
    assert!(blocks.iter().all(|block| freed.contains(&block.addr().get())));
    let different: HashSet<_> = blocks.iter().collect();
    assert_eq!((different.len(), mm.barn().nr_of(class())), (nr_left, 0));
    assert_eq!(third.heap().enter().classes[class().index()].nr_slabs, 0);
    blocks.iter().for_each(|&block| third.free(block));
    mm.validate(Some(owner.0)).unwrap();
    end(mm, [owner, other, third]);
}

#[test]
fn no_more_than_a_part_of_them_is_left() {
    for size in [Group::SHARED_FROM, SIZE, 500] {
        let mm = fake_mm(1);
        let ([owner, other], _) = freed_by_another(mm, size, (1 << 20) / size);
        let class = SizeClass::of(size).unwrap();
        let bytes = mm.barn().nr_of(class) * class.size();
        assert!((64 << 10..=128 << 10).contains(&bytes), "{bytes} of {size}");
        // The rest is on its way home.
        owner.heap().enter().collect(owner.heap(), || false);
        assert!(owner.heap().enter().events.remote_free as usize * class.size() > 512 << 10);
        mm.validate(Some(owner.0)).unwrap();
        end(mm, [owner, other]);
    }
}

/// What is of no bin of others' is none of it, nor is what a bin would keep too much of.
#[test]
fn others_go_home() {
    for (nr_nodes, size) in [(1, 16), (2, SIZE), (1, 600), (1, 8 << 10)] {
        let mm = fake_mm(nr_nodes);
        let (owners, _) = freed_by_another(mm, size, 300);
        assert_eq!(mm.barn().nr_of(SizeClass::of(size).unwrap()), 0);
        end(mm, owners);
    }
}

#[test]
fn what_nobody_takes_goes_home() {
    let mm = fake_mm(1);
    let ([owner, other], _) = freed_by_another(mm, SIZE, 500);
    let nr_left = mm.barn().nr_of(class());
    mm.barn().age(mm, 3);
    assert_eq!(mm.barn().nr_of(class()), nr_left, "it is new");
    mm.pages().set_generation(mm.pages().generation() + 3);
    mm.barn().age(mm, 3);
    assert_eq!(mm.barn().nr_of(class()), 0);
    let before = owner.heap().enter().events.remote_free;
    owner.heap().enter().collect(owner.heap(), || false);
    assert_eq!(owner.heap().enter().events.remote_free - before, nr_left as u64);
    owner.heap().enter().settle_flight(owner.heap());
    other.heap().enter().settle_flight(other.heap());
    assert_eq!(mm.flight().sum(), 0);
    end(mm, [owner, other]);
}

/// What is left are messages that travel back and forth: none is made for each of them.
#[test]
fn messages_come_back() {
    let mm = fake_mm(1);
    let [owner, other] = without_commons(mm);
    let pass = |nr: usize| {
        for _ in 0..nr {
            let blocks: Vec<_> = (0..batch_of(class())).map(|_| owner.alloc(SIZE, 8)).collect();
            blocks.into_iter().for_each(|block| other.free(block));
        }
        mm.meta().usage()[1]
    };
    // Until all bins and slabs are made that there will be.
    let at_first = pass(1000);
    assert_eq!(pass(1000), at_first);
    end(mm, [owner, other]);
}

/// One that was freed twice, and lay in the barn, is told of at the latest as the process ends.
#[test]
fn a_double_free_comes_to_light() {
    let mm = fake_mm(1);
    let [owner, other] = without_commons(mm);
    let blocks: Vec<_> = (0..500).map(|_| owner.alloc(SIZE, 8)).collect();
    let twice = blocks[0];
    blocks.iter().chain([&twice]).for_each(|&block| other.free(block));
    assert!(mm.barn().nr_of(class()) > 0);
    let bad = mm.check_bins(Some(other.0)).unwrap();
    assert_eq!((bad.addr, bad.kind), (twice.addr().get(), BadKind::DoubleFree));
    assert_eq!(mm.barn().nr_of(class()), 0);
}
