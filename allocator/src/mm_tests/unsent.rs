//! What a thread freed for others and has not sent yet, handed out again.

use std::collections::BTreeSet;

use zonal_numa::NodeId;
use zonal_numa::fake::FakeBuilder;

use super::*;
use crate::class::SizeClass;

/// Objects of one owner and a heap that frees them, in which nothing of their class is free.
fn blocks_and_freer(mm: &'static Mm, nr: usize, size: usize) -> (Vec<NonNull<u8>>, Owner, Owner) {
    let (first, other) = (Owner::attach(mm), Owner::attach(mm));
    let blocks = (0..nr).map(|_| first.alloc(size, 8)).collect();
    use_up(other, size);
    (blocks, first, other)
}

/// Takes all of a first slab.
fn use_up(owner: Owner, size: usize) {
    let class = SizeClass::of(size).unwrap();
    (0..class.objects()).for_each(|_| _ = owner.alloc(size, 8));
    assert_eq!(nr_slabs(owner), 1);
}

fn nr_slabs(owner: Owner) -> u64 {
    owner.heap().enter().events.slab_alloc
}

fn nr_reused(owner: Owner) -> u64 {
    owner.heap().enter().events.remote_reuse
}

fn set(blocks: &[NonNull<u8>]) -> BTreeSet<usize> {
    blocks.iter().map(|p| p.addr().get()).collect()
}

#[test]
fn it_serves_before_new_memory_and_then_goes_home() {
    for size in [64, 200, 1000, 5000] {
        let mm = new_mm();
        let (blocks, first, other) = blocks_and_freer(mm, 10, size);
        let used = snapshot(mm, Some(other.0)).small_bytes();
        blocks.iter().for_each(|&p| other.free(p));
        let again: Vec<_> = blocks.iter().map(|_| other.alloc(size, 8)).collect();
        assert_eq!(set(&again), set(&blocks), "{size}");
        assert_eq!((nr_slabs(other), nr_reused(other)), (1, 10), "{size}");
        assert_eq!(snapshot(mm, Some(other.0)).small_bytes(), used, "{size}");
        // In the bin of a heap that is not theirs they count as free.
        again.iter().for_each(|&p| other.free(p));
        other.alloc(size, 8);
        let class_size = SizeClass::of(size).unwrap().size() as u64;
        let sum = snapshot(mm, Some(other.0));
        let cached: u64 = sum.classes().iter().map(|class| class.nr_cached).sum();
        assert!(cached >= 9);
        assert_eq!(sum.small_bytes(), used - 9 * class_size, "{size}");
        mm.validate(Some(other.0)).unwrap();
        assert_eq!(mm.check_bins(Some(other.0)), None, "{size}");
        // The check sent them home.
        assert_eq!(first.heap().enter().events.remote_free, 9, "{size}");
        assert_eq!(snapshot(mm, Some(other.0)).small_bytes(), used - 9 * class_size, "{size}");
    }
}

#[test]
fn what_shares_a_line_and_what_is_of_another_node_goes_home() {
    let mm = new_mm();
    let (blocks, _, other) = blocks_and_freer(mm, 10, 48);
    blocks.iter().for_each(|&p| other.free(p));
    assert!(!set(&blocks).contains(&other.alloc(48, 8).addr().get()));
    assert_eq!((nr_slabs(other), nr_reused(other)), (2, 0));

    let machine = FakeBuilder::new().nodes(2).build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let [here, beside, there] = [0, 0, 1].map(|node| {
        machine.run_on(NodeId::from_index(node).unwrap());
        Owner::attach(mm)
    });
    let blocks = [here, beside].map(|owner| [(); 10].map(|()| owner.alloc(200, 8)));
    use_up(there, 200);
    blocks[0].iter().for_each(|&p| there.free(p));
    there.alloc(200, 8);
    assert_eq!((nr_slabs(there), nr_reused(there)), (2, 0));
    // On their own node they serve.
    machine.run_on(NodeId::ZERO);
    (0..SizeClass::of(200).unwrap().objects() - 10).for_each(|_| _ = here.alloc(200, 8));
    blocks[1].iter().for_each(|&p| here.free(p));
    here.alloc(200, 8);
    assert_eq!((nr_slabs(here), nr_reused(here)), (1, 10));
    mm.validate(Some(here.0)).unwrap();
}

/// Each of them misses whenever it is freed, and what the zone has left over costs less.
#[test]
fn memory_that_was_used_before_serves_first() {
    let mm = new_mm();
    let (blocks, first, other) = blocks_and_freer(mm, 2000, 1000);
    let (few, many) = blocks.split_at(10);
    many.iter().for_each(|&p| first.free(p));
    // SAFETY: the test's thread owns the heap.
    unsafe { mm.drain_own(first.0, Patience::Wait, None) };
    // The first is of a slab that its heap did not yet know to be used.
    let class = SizeClass::of(1000).unwrap();
    (0..class.objects()).for_each(|_| _ = other.alloc(1000, 8));
    few.iter().for_each(|&p| other.free(p));
    assert!(!set(few).contains(&other.alloc(1000, 8).addr().get()));
    assert_eq!((nr_slabs(other), nr_reused(other)), (3, 0));
}

/// Whether it lies in a message, or in a bin of a heap that is not its own.
#[test]
fn what_is_freed_twice_is_found() {
    // SAFETY: the test's thread owns the heaps; that a free is wrong is what is tested.
    let free = |owner: Owner, p| unsafe { owner.heap().free(p) };
    for from_bin in [false, true] {
        let mm = new_mm();
        let (blocks, first, other) = blocks_and_freer(mm, 10, 200);
        blocks.iter().for_each(|&p| other.free(p));
        let taken = from_bin.then(|| other.alloc(200, 8));
        assert_eq!(nr_reused(other), if from_bin { 10 } else { 0 });
        let victim = *blocks.iter().find(|&&p| Some(p) != taken).unwrap();
        free(first, victim).unwrap();
        let bad = mm.check_bins(Some(other.0)).expect("a double free");
        assert_eq!((bad.addr, bad.kind), (victim.addr().get(), BadKind::DoubleFree));
    }
    let mm = new_mm();
    let (blocks, _, other) = blocks_and_freer(mm, 2, 200);
    other.free(blocks[0]);
    other.free(blocks[0]);
    other.alloc(200, 8);
    let bad = other.heap().take_fault().expect("a double free");
    assert_eq!((bad.addr, bad.kind), (blocks[0].addr().get(), BadKind::DoubleFree));
}

/// A thread with objects of others in its bins spills, and ends.
#[test]
fn nothing_of_others_is_lost_with_their_holder() {
    let mm = new_mm();
    let (blocks, first, other) = blocks_and_freer(mm, 3000, 200);
    let (some, rest) = blocks.split_at(500);
    let mut held: Vec<_> = Vec::new();
    for p in some {
        other.free(*p);
        held.push(other.alloc(200, 8));
    }
    assert!(nr_reused(other) > 400);
    // Its own come on top of them.
    rest.iter().for_each(|&p| first.free(p));
    let more: Vec<_> = (0..5000).map(|_| other.alloc(200, 8)).collect();
    for p in held.into_iter().chain(more) {
        other.free(p);
    }
    assert!(other.heap().enter().events.bin_spill > 0);
    mm.validate(Some(other.0)).unwrap();
    // SAFETY: the heaps are not used any more.
    unsafe {
        mm.detach(other.0);
        mm.detach(first.0);
    }
    mm.drain_all(None);
    mm.validate(None).unwrap();
    let class = SizeClass::of(200).unwrap();
    // What was taken at first.
    assert_eq!(snapshot(mm, None).small_bytes(), (class.objects() * class.size()) as u64);
}
