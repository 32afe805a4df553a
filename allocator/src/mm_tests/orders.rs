//! Objects dropped in any order, so that they come into their slabs side by side, near each other or anywhere.

use super::*;
use crate::class::SizeClass;

const SIZE: usize = 512;
/// Of a dozen slabs.
const NR: usize = 800;

/// Where the object stands that is dropped at `i`, in each of some orders.
const ORDERS: [fn(usize) -> usize; 6] = [
    |i| i,
    |i| NR - 1 - i,
    |i| i ^ 1,
    |i| i * 77 % NR,
    |i| i * 399 % NR,
    // Rows that others interrupt.
    |i| if i % 20 < 16 { i } else { (i / 20 * 20 + 16 + i % 4 + NR / 2) % NR },
];

fn push(owner: Owner, p: NonNull<u8>) {
    // SAFETY: the test's thread owns the heap. That some are freed twice is what is tested.
    unsafe {
        if !HeapHot::push(owner.heap().hot(), p.as_ptr()) {
            owner.heap().free(p).unwrap();
        }
    }
}

#[test]
fn each_order_is_one() {
    for order in ORDERS {
        let mut places: Vec<_> = (0..NR).map(order).collect();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..NR));
    }
}

/// Those of another heap among them, too.
#[test]
fn what_is_dropped_in_any_order_comes_home() {
    let class = SizeClass::of(SIZE).unwrap();
    for order in ORDERS {
        for nr_of_other in [0, 1, NR / 20, NR] {
            let mm = fake_mm(1);
            let [owner, other] = [(); 2].map(|()| Owner::attach(mm));
            let mut blocks: Vec<_> = (0..NR).map(|_| owner.alloc(SIZE, 8)).collect();
            for i in 0..nr_of_other {
                let place = &mut blocks[i * NR / nr_of_other];
                owner.free(core::mem::replace(place, other.alloc(SIZE, 8)));
            }
            (0..NR).for_each(|i| owner.free(blocks[order(i)]));
            owner.heap().enter().flush_bin(owner.heap(), class);
            mm.validate(Some(owner.0)).unwrap();
            let others: Vec<_> = [owner, other].map(|owner| owner.0).into();
            // SAFETY: the test's thread owns the heaps and does not use them again.
            others.into_iter().for_each(|heap| unsafe { mm.detach(heap) });
            assert_nothing_left(mm);
        }
    }
}

/// The block after it is freed, too, and what follows the one that is passed over comes home.
#[test]
fn what_is_freed_twice_is_told_in_any_order() {
    let class = SizeClass::of(SIZE).unwrap();
    for order in ORDERS {
        for twice in [2, NR / 2, NR - 3] {
            let mm = fake_mm(1);
            let owner = Owner::attach(mm);
            let mut blocks: Vec<_> = (0..NR + NR / 40).map(|_| owner.alloc(SIZE, 8)).collect();
            // One in each slab lives on, so that all of them stay.
            let nr_live = (0..NR / 40).map(|i| blocks.remove(i * 40)).count();
            for i in 0..NR {
                push(owner, blocks[order(i)]);
                if i == twice {
                    push(owner, blocks[order(i - 2)]);
                }
            }
            owner.heap().enter().flush_bin(owner.heap(), class);
            let bad = owner.heap().take_fault().expect("a double free");
            let addr = blocks[order(twice - 2)].addr().get();
            assert_eq!((bad.addr, bad.kind), (addr, BadKind::DoubleFree));
            mm.validate(Some(owner.0)).unwrap();
            assert_eq!(snapshot(mm, Some(owner.0)).small_bytes(), (nr_live * SIZE) as u64);
        }
    }
}
