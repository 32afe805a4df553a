//! Which heaps take huge pages.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

use zonal_numa::NodeId;

use super::{Owner, new_mm};
use crate::{Mm, SizeClass};

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
    let owners: Vec<_> = (0..8).map(|_| Owner::attach(mm)).collect();
    let mut blocks = Vec::new();
    for owner in &owners {
        blocks.extend(SizeClass::all().map(|class| (*owner, owner.alloc(class.size(), 8))));
    }
    let (counted, truth) = nr_first(mm, &owners);
    assert_eq!(counted, truth);
    assert!(counted >= (16 << 20) / zonal_numa::PAGE_SIZE, "{counted} pages");
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
