//! Rows of free pageblocks, which serve requests above the largest block of the buddy core.

use core::ptr::NonNull;
use std::vec::Vec;

use zonal_numa::{Machine, PAGE_SIZE};

use super::Owner;
use super::kept::keeper;
use crate::watermark::WatermarkLevel;
use crate::{Attempt, BadKind, Config, Mm, PageConfig, Place, Request, Thp};

#[test]
fn a_row_is_found_behind_many_blocks_of_one_that_is_too_short() {
    const SIZE: usize = 4 << 20;
    const ROW: usize = 20;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let pages = heap.mm().pages();
    let mut blocks: Vec<_> = (0..96).map(|_| owner.alloc(SIZE, SIZE)).collect();
    blocks.sort();
    let is_row = |blocks: &[NonNull<u8>]| {
        blocks.windows(2).all(|pair| pair[1].addr().get() - pair[0].addr().get() == SIZE)
    };
    // A row, one block between, and a row that is shorter by one.
    let at = blocks.windows(2 * ROW).position(is_row).unwrap();
    let part: Vec<_> = blocks.drain(at..at + 2 * ROW).collect();
    let (long, short) = (&part[..ROW], &part[ROW + 1..]);
    for &block in long.iter().chain(short) {
        owner.free(block);
    }
    let row = owner.alloc(ROW * SIZE, 8);
    assert_eq!(row, long[0]);
    assert!(pages.map.pfn_of(row.addr().get()).is_some());
    owner.free(row);
    blocks.into_iter().chain([part[ROW]]).for_each(|block| owner.free(block));
}

#[test]
fn what_smaller_blocks_left_serves_a_huge_one() {
    const MIB: usize = 1 << 20;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let pages = heap.mm().pages();
    let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
    let huge = |zeroed, grows| {
        let request = Request { size: 7 * MIB, align: 8, zeroed, grows };
        // SAFETY: the test's thread owns the heap.
        unsafe { heap.alloc(request, from) }.unwrap().start
    };
    let is_row = |block: NonNull<u8>| pages.map.pfn_of(block.addr().get()).is_some();
    let smaller: Vec<_> = (0..16).map(|_| owner.alloc(MIB, 8)).collect();
    let before = pages.charged();
    smaller.into_iter().for_each(|block| owner.free(block));

    let row = huge(false, false);
    assert!(is_row(row));
    assert_eq!(pages.charged(), before);
    owner.free(row);
    // What may stay untouched, and what can be moved without being copied, is mapped.
    for (zeroed, grows) in [(true, false), (false, true)] {
        let mapped = huge(zeroed, grows);
        assert!(!is_row(mapped));
        owner.free(mapped);
    }
    // By now a mapping is kept that serves first.
    let again = huge(false, false);
    assert!(!is_row(again));
    owner.free(again);
}

/// What lies in the middle of a row of pageblocks, further from its head than the largest block of the
/// buddy core has pages.
#[test]
fn the_inside_of_a_row_is_known() {
    const MIB: usize = 1 << 20;
    for checked in [false, true] {
        // What lies between the blocks is resident, too.
        let pages = PageConfig { thp: Thp::Always, ..PageConfig::default() };
        let config = Config { checked, pages, ..Config::default() };
        let mm = Mm::new(Machine::linux(), config).unwrap();
        if !mm.is_one_node() {
            return;
        }
        let owner = Owner::attach(mm);
        let get = |size| owner.alloc_missed(size, 8);
        // SAFETY: the test's thread owns the heap.
        let free = |block| unsafe { owner.heap().free(block) };
        let smaller: Vec<_> = (0..16).map(|_| get(MIB)).collect();
        smaller.into_iter().for_each(|block| free(block).unwrap());
        mm.drain_all(Some(owner.0));

        let row = get(7 * MIB);
        let start = row.addr().get();
        let size = mm.capacity(row).unwrap();
        assert!(mm.pages().map.pfn_of(start).is_some());
        for offset in [PAGE_SIZE, 3 * MIB, 4 * MIB, 5 * MIB, 6 * MIB + 24, 7 * MIB - 8] {
            let addr = start + offset;
            assert_eq!(mm.place_of(addr), Place::Large { size, offset });
            assert!(!mm.is_guard(addr));
            if !checked {
                let inside = NonNull::new(row.as_ptr().with_addr(addr)).unwrap();
                assert_eq!(free(inside).unwrap_err().kind, BadKind::Interior, "{offset}");
            }
        }
        assert_eq!(mm.is_guard(start + size - 1), checked);
        assert!(!matches!(mm.place_of(start + size), Place::Large { .. }));
        free(row).unwrap();
        assert_eq!(mm.place_of(start + 5 * MIB), Place::Free);
        mm.validate(Some(owner.0)).unwrap();
    }
}
