//! Large blocks that a thread keeps: they serve again at once, and make way for what grows.

use std::vec::Vec;

use zonal_numa::PAGE_SIZE;

use super::{Owner, new_mm};

#[test]
fn a_kept_block_serves_again_and_makes_way() {
    const SIZE: usize = 24 * PAGE_SIZE;
    let owner = Owner::attach(new_mm());
    let heap = owner.heap();
    if !heap.mm().is_one_node() {
        // Nothing is kept the short way.
        return;
    }
    let blocks: Vec<_> = (0..16).map(|_| owner.alloc(SIZE, 8)).collect();
    let behind = |addr: usize| blocks.iter().find(|other| other.addr().get() == addr + SIZE);
    let pair = blocks.iter().find_map(|&block| Some((block, *behind(block.addr().get())?)));
    let (block, neighbour) = pair.unwrap();

    // SAFETY: the test's thread owns the heap, and gives the block up.
    assert!(unsafe { heap.try_free_large(neighbour) });
    // SAFETY: as above; the second time it is refused.
    assert!(!unsafe { heap.try_free_large(neighbour) });
    // SAFETY: as above.
    assert_eq!(unsafe { heap.try_alloc_large(SIZE - 5) }, Some(neighbour));
    // SAFETY: as above.
    assert!(unsafe { heap.try_free_large(neighbour) });

    // SAFETY: as above.
    assert_eq!(unsafe { heap.resize(block, 2 * SIZE) }, Some(block));
    assert_eq!(heap.mm().capacity(block), Ok(2 * SIZE));
    // SAFETY: as above.
    assert_eq!(unsafe { heap.try_alloc_large(SIZE) }, None);
}
