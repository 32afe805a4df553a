//! Which heaps take huge pages.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

use zonal_numa::fake::{Call, FakeBuilder};
use zonal_numa::{Machine, NodeId, PAGE_SIZE};

use super::without_commons;
use super::{Owner, new_mm};
use crate::{Config, Mm, SizeClass};

fn is_huge(mm: &Mm, block: NonNull<u8>) -> bool {
    let map = &mm.pages().map;
    map.chunk(map.pfn_of(block.addr().get()).unwrap()).is_huge()
}

/// Pages of first slabs, as counted and as it should be.
fn nr_first(mm: &Mm, owners: &[Owner]) -> (usize, usize) {
    let counted = mm.pages().node(NodeId::ZERO).unwrap().nr_first.load(Relaxed);
    let of_class = |owner: &Owner, class: SizeClass| {
        let has_slabs = owner.heap().enter().classes[class.index()].nr_slabs > 0;
        if has_slabs { class.slab_order().nr_pages() } else { 0 }
    };
    let of_heap = |owner| SizeClass::all().map(|class| of_class(owner, class)).sum::<usize>();
    (counted, owners.iter().map(of_heap).sum())
}

/// A thread with one object in every class says nothing about the density of a heap, and a hundred
/// of them no more; one that fills slab after slab does.
#[test]
fn first_slabs_of_many_heaps_take_no_huge_pages_and_those_that_follow_do() {
    let mm = new_mm();
    let owners: [_; 8] = without_commons(mm);
    let mut blocks = Vec::new();
    for owner in &owners {
        blocks.extend(SizeClass::all().map(|class| (*owner, owner.alloc(class.size(), 8))));
    }
    let (counted, truth) = nr_first(mm, &owners);
    assert_eq!(counted, truth);
    assert!(counted >= (16 << 20) / PAGE_SIZE, "{counted} pages");
    assert!(!blocks.iter().any(|&(_, block)| is_huge(mm, block)));
    let dense: Vec<_> = (0..1 << 16).map(|_| owners[0].alloc(1024, 8)).collect();
    assert!(is_huge(mm, dense[dense.len() - 1]));
    assert_eq!(nr_first(mm, &owners), (counted, truth));
    dense.into_iter().for_each(|block| owners[0].free(block));
    blocks.into_iter().for_each(|(owner, block)| owner.free(block));
    for owner in &owners {
        let mut inner = owner.heap().enter();
        SizeClass::all().for_each(|class| inner.flush_bin(owner.heap(), class));
        assert!(inner.release_empty_slabs(owner.heap(), || false).is_whole);
    }
    assert_eq!(nr_first(mm, &owners), (0, 0));
    mm.validate(Some(owners[0].0)).unwrap();
}

/// Large blocks of which one page in `step` is touched, all of them alive at a time, so that the zone grows
/// for each: how many begin in huge pages.
fn nr_huge(owner: Owner, nr: usize, step: usize) -> usize {
    let size = 2 << 20;
    let take = |_| {
        let block = owner.alloc(size, 8);
        touch(block, size, step);
        block
    };
    let blocks: Vec<_> = (0..nr).map(take).collect();
    let mm = owner.heap().mm();
    let nr_huge = blocks.iter().filter(|&&block| is_huge(mm, block)).count();
    blocks.into_iter().for_each(|block| owner.free(block));
    nr_huge
}

fn touch(block: NonNull<u8>, size: usize, step: usize) {
    for at in (0..size).step_by(step * PAGE_SIZE) {
        // SAFETY: the block is ours and that long.
        unsafe { block.add(at).write(1) };
    }
}

/// What is freed tells whether the next large blocks get huge pages.
#[test]
fn large_blocks_get_huge_pages_once_they_turn_out_dense() {
    let owner = Owner::attach(new_mm());
    let mm = owner.heap().mm();
    assert_eq!(nr_huge(owner, 24, 64), 0, "nobody knows, and they are sparse");
    assert_eq!(nr_huge(owner, 48, 64), 0, "one page in 64");
    // Twice as many each time: what is there serves first.
    nr_huge(owner, 96, 1);
    assert!(nr_huge(owner, 192, 1) >= 80);
    assert!(mm.pages().density.is_dense());
    mm.validate(Some(owner.0)).unwrap();
}

#[test]
fn mappings_get_huge_pages_once_they_turn_out_dense() {
    let machine = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let owner = Owner::attach(mm);
    let size = 6 << 20;
    let is_advised = |step: usize| {
        let before = machine.calls(Call::AdviseHuge);
        let block = owner.alloc(size, 8);
        touch(block, size, step);
        owner.free(block);
        // What comes from the cache tells of who had it.
        owner.free(owner.alloc(size, 8));
        mm.drain_huge();
        machine.calls(Call::AdviseHuge) > before
    };
    assert!(!(0..8).any(|_| is_advised(64)));
    let dense: Vec<bool> = (0..16).map(|_| is_advised(1)).collect();
    assert!(!dense[0] && dense[12..].iter().all(|&is_advised| is_advised), "{dense:?}");
    let sparse: Vec<bool> = (0..24).map(|_| is_advised(512)).collect();
    assert!(sparse[0] && !sparse[16..].contains(&true), "{sparse:?}");
    // What grows is written as it does.
    let before = machine.calls(Call::AdviseHuge);
    let grown = mm.resize(owner.alloc(size, 8), 2 * size).unwrap();
    let grown = mm.resize(grown, 3 * size).unwrap();
    assert_eq!(machine.calls(Call::AdviseHuge), before + 1, "it was advised when it grew first");
    owner.free(grown);
    mm.validate(Some(owner.0)).unwrap();
}

/// A dense program whose only block of a size comes back to it each time: in huge pages from then on.
#[test]
fn a_mapping_in_small_pages_is_not_kept_by_a_dense_program() {
    let machine = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let owner = Owner::attach(mm);
    let size = 6 << 20;
    for _ in 0..8 {
        let block = owner.alloc(size, 8);
        touch(block, size, 1);
        owner.free(block);
    }
    assert_eq!(machine.calls(Call::AdviseHuge), 1);
    // Blocks of zeros say nothing, touched or not.
    for _ in 0..24 {
        owner.free(owner.alloc_zeroed(size));
    }
    assert!(mm.pages().density.is_dense());
    // And what served one serves who writes, too.
    let maps = machine.calls(Call::Map);
    for _ in 0..24 {
        owner.free(owner.alloc_zeroed(size));
        owner.free(owner.alloc(size, 8));
    }
    assert_eq!(machine.calls(Call::Map), maps);
    // Also the first one of all.
    mm.drain_huge();
    for _ in 0..24 {
        owner.free(owner.alloc_zeroed(size));
        owner.free(owner.alloc(size, 8));
    }
    assert_eq!(machine.calls(Call::Map), maps + 1);
    mm.validate(Some(owner.0)).unwrap();
}

/// What its program closed is freed as it is.
#[test]
fn a_closed_mapping_is_not_looked_at() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let size = 6 << 20;
    for _ in 0..4 {
        let block = owner.alloc(size, 4096);
        // SAFETY: whole pages of our own.
        assert_eq!(unsafe { libc::mprotect(block.as_ptr().cast(), size, libc::PROT_NONE) }, 0);
        owner.free(block);
        mm.drain_huge();
    }
    mm.validate(Some(owner.0)).unwrap();
}

#[test]
fn a_forked_child_looks_at_nothing_that_it_inherited() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let protect = |block: NonNull<u8>, size: usize, how: i32| {
        // SAFETY: whole pages of our own.
        assert_eq!(unsafe { libc::mprotect(block.as_ptr().cast(), size, how) }, 0);
    };
    let inherited = [2 << 20, 6 << 20].map(|size| (owner.alloc(size, PAGE_SIZE), size));
    mm.prefork(Some(owner.0));
    mm.postfork_child(Some(owner.0));
    for (block, size) in inherited {
        protect(block, size, libc::PROT_NONE);
        owner.free(block);
        // The mapping serves again.
        assert_eq!(owner.alloc(size, PAGE_SIZE), block);
        protect(block, size, libc::PROT_READ | libc::PROT_WRITE);
        owner.free(block);
    }
    assert!(!mm.pages().density.is_dense(), "nobody knows");
    // Mappings of its own tell.
    mm.drain_huge();
    for _ in 0..4 {
        let block = owner.alloc(6 << 20, 8);
        touch(block, 6 << 20, 1);
        owner.free(block);
    }
    assert!(mm.pages().density.is_dense());
    mm.validate(Some(owner.0)).unwrap();
}

/// Level 2 clears what is freed: its zeros say nothing, and large blocks have huge pages as ever.
#[test]
fn checked_blocks_count_as_dense() {
    let config = Config { checked: true, ..Config::default() };
    let mm = Mm::new(Machine::fake(FakeBuilder::new().build()), config).unwrap();
    let density = &mm.pages().density;
    assert!(density.is_dense() && !density.learns());
}
