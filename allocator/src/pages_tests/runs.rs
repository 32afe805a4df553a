//! Runs: what is handed out, from where, and what comes back together.

use std::vec::Vec;

use zonal_numa::fake::{Call, FakeBuilder};
use zonal_numa::{Errno, PAGE_SIZE};

use super::{N0, Rig};
use crate::error::AllocError;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::PageConfig;
use crate::pfn::Pfn;
use crate::purge::PurgeHow;
use crate::run::PageRun;
use crate::thp::Thp;
use crate::watermark::WatermarkLevel;
use crate::word::{Migratetype, PageWord};

#[test]
fn runs_have_exactly_the_pages_asked_for() {
    let rig = Rig::plain();
    for nr_pages in [1, 2, 3, 5, 7, 8, 100, 511, 512, 513, 1000, 1024] {
        let before = rig.zone().nr_out;
        let run = rig.alloc(nr_pages).unwrap();
        assert_eq!(run.nr_pages(), nr_pages);
        if nr_pages.is_power_of_two() {
            assert!(run.head().is_aligned(Order::holding(nr_pages).unwrap()));
        }
        assert_eq!(rig.zone().nr_out, before + nr_pages as u64);
        rig.touch(&run, 1);
        rig.check();
    }
    assert_eq!(rig.alloc(1025), Err(AllocError::TooLarge));
    assert_eq!(rig.alloc(0), Err(AllocError::TooLarge));
}

#[test]
fn runs_obey_an_alignment_beyond_their_size() {
    let rig = Rig::plain();
    let _odd = rig.alloc(1).unwrap();
    let order = Order::new(6).unwrap();
    let (mt, level) = (Migratetype::Large, WatermarkLevel::Min);
    let run = rig.pages.alloc_run(N0, 3, order, mt, level).unwrap();
    assert!(run.head().is_aligned(order));
    assert_eq!(run.nr_pages(), 3);
    rig.check();
}

#[test]
fn freeing_everything_merges_back_to_the_largest_blocks() {
    let rig = Rig::plain();
    let runs: Vec<PageRun> = (0..700).map(|i| rig.alloc(1 + i % 13).unwrap()).collect();
    rig.check();
    for run in runs {
        rig.pages.free_run(run);
    }
    rig.check();
    let node = rig.pages.zone_stats(N0).unwrap();
    let small: u64 = (0..9).map(|order| node.free_blocks(order)).sum();
    assert_eq!((small, node.zone.nr_out), (0, 0));
    assert_eq!(node.zone.nr_free, node.zone.nr_managed);
    assert!(node.events.buddy_merge > 0 && node.events.buddy_split > 0);
}

#[test]
fn addresses_map_to_pages_and_back() {
    let rig = Rig::plain();
    let run = rig.alloc(4).unwrap();
    let addr = rig.pages.map.addr_of(run.head()).addr();
    assert_eq!(rig.pages.map.pfn_of(addr), Some(run.head()));
    assert_eq!(rig.pages.map.pfn_of(addr + 4 * PAGE_SIZE - 1), Some(run.head().add(3)));
    let end = rig.pages.map.base() + rig.pages.map.covered();
    assert_eq!(rig.pages.map.pfn_of(end), None);
    assert_eq!(rig.pages.map.pfn_of(rig.pages.map.base().wrapping_sub(1)), None);
    assert_eq!(rig.pages.map.pfn_of(&raw const rig as usize), None);
    assert_eq!(rig.pages.node_of(run.head()), N0);
}

#[test]
fn fresh_and_purged_memory_is_known_to_be_zero_and_used_memory_is_not() {
    let rig = Rig::plain();
    let run = rig.alloc(64).unwrap();
    assert!(run.known_zero() && rig.is_zero(&run));
    rig.touch(&run, 0xaa);
    rig.pages.free_run(run);
    let again = rig.alloc(64).unwrap();
    assert!(!again.known_zero());
    rig.pages.free_run(again);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 64);
    rig.check();
    let run = rig.alloc(64).unwrap();
    assert!(run.known_zero() && rig.is_zero(&run));
}

#[test]
fn warm_memory_is_preferred_over_cold() {
    let rig = Rig::plain();
    let runs: Vec<PageRun> = (0..8).map(|_| rig.alloc(512).unwrap()).collect();
    let mut heads: Vec<Pfn> = runs.iter().map(PageRun::head).collect();
    for run in runs {
        rig.pages.free_run(run);
    }
    let charged = rig.pages.charged();
    assert_eq!(charged, 8 * 512);
    for _ in 0..8 {
        let run = rig.alloc(512).unwrap();
        let at = heads.iter().position(|&head| head == run.head());
        heads.remove(at.expect("a pageblock that was used before"));
    }
    assert_eq!(rig.pages.charged(), charged);
    rig.check();
}

#[test]
fn bulk_requests_take_the_lock_once() {
    let rig = Rig::plain();
    let order = Order::new(3).unwrap();
    rig.pages.free_run(rig.alloc(8).unwrap());
    let before = rig.events().zone_lock;
    let mut out: [Option<PageRun>; 16] = [const { None }; 16];
    let (mt, level) = (Migratetype::Slab, WatermarkLevel::Min);
    assert_eq!(rig.pages.alloc_bulk(N0, order, mt, level, &mut out), 16);
    rig.pages.free_bulk(out.iter_mut().filter_map(Option::take));
    // Two for the calls, one for looking.
    assert_eq!(rig.events().zone_lock - before, 3);
    rig.check();
}

#[test]
fn a_run_can_be_cut_and_rebuilt() {
    let rig = Rig::plain();
    let mut run = rig.alloc(100).unwrap();
    rig.shrink(&mut run, 60);
    assert_eq!(rig.zone().nr_out, 60);
    rig.check();
    let head = run.into_head();
    rig.pages.map.set_word(head, PageWord::large(60));
    rig.pages.map.set_word(head, PageWord::NOTHING);
    // SAFETY: the token for these pages was just given up.
    rig.pages.free_run(unsafe { rig.pages.run_from_head(head, 60) });
    assert_eq!(rig.zone().nr_out, 0);
    rig.check();
}

/// Two pageblocks in a row, each taken whole, of these migratetypes.
fn pageblocks_in_a_row(rig: &Rig, mts: [Migratetype; 2]) -> [PageRun; 2] {
    let [a, b] = mts.map(|mt| rig.alloc_as(PAGEBLOCK_PAGES, mt).unwrap());
    let [first, second] = if a.head() < b.head() { [a, b] } else { [b, a] };
    assert_eq!(first.head().add(PAGEBLOCK_PAGES), second.head());
    [first, second]
}

#[test]
fn a_run_grows_into_the_next_pageblock_only_if_it_is_of_its_migratetype() {
    const LONGER: usize = PAGEBLOCK_PAGES + 5;
    let rig = Rig::plain();
    let both = [Migratetype::Slab, Migratetype::Large];
    let [first, second] = pageblocks_in_a_row(&rig, both);
    rig.pages.free_run(second);
    assert!(!rig.pages.extend_run(first.head(), PAGEBLOCK_PAGES, LONGER));
    rig.check();

    let rig = Rig::plain();
    let [first, second] = pageblocks_in_a_row(&rig, [Migratetype::Large; 2]);
    rig.pages.free_run(second);
    let head = first.into_head();
    assert!(rig.pages.extend_run(head, PAGEBLOCK_PAGES, LONGER));
    rig.check();
    // SAFETY: the run is ours, and that long now.
    rig.pages.free_run(unsafe { rig.pages.run_from_head(head, LONGER) });
    rig.check();
    assert_eq!(rig.zone().nr_out, 0);
}

#[test]
fn runs_of_one_odd_size_leave_no_gaps() {
    let rig = Rig::plain();
    // 10 pages in a block of 16 would waste six: 409 of them fill 4,096 pages only if they pack.
    let runs: Vec<_> = (0..409).map(|_| rig.alloc(10).unwrap()).collect();
    rig.check();
    let last = runs.iter().map(|run| run.head().index() + 10).max().unwrap();
    assert!(last <= 4096 + 512, "409 runs of 10 pages reach up to page {last}");
    for run in runs.into_iter().rev() {
        rig.pages.free_run(run);
    }
    rig.check();
}

/// 16 blocks of 64 pages side by side, of which the second, third and fourth are free.
fn three_free_of_16(rig: &Rig) -> (Vec<PageRun>, Pfn) {
    let mut held: Vec<PageRun> = (0..16).map(|_| rig.alloc(64).unwrap()).collect();
    held.sort_by_key(|run| run.head().get());
    let start = held[1].head();
    assert_eq!(held[15].head(), start.add(14 * 64), "not side by side");
    held.drain(1..4).for_each(|run| rig.pages.free_run(run));
    (held, start)
}

#[test]
fn blocks_side_by_side_serve_what_none_of_them_holds() {
    let rig = Rig::plain();
    let (_held, start) = three_free_of_16(&rig);
    let (charged, managed) = (rig.pages.charged(), rig.zone().nr_managed);
    // No aligned block of 256 pages is free, but 192 pages in a row are.
    let run = rig.alloc(190).unwrap();
    assert_eq!((run.head(), rig.pages.charged()), (start, charged));
    rig.check();
    rig.pages.free_run(run);
    // With two pages less than that it does not.
    let run = rig.alloc(194).unwrap();
    assert!(run.head() != start && rig.pages.charged() == charged + 194);
    rig.check();
    // One that is aligned needs a block.
    let order = Order::new(6).unwrap();
    let (mt, level) = (Migratetype::Slab, WatermarkLevel::Min);
    let aligned = rig.pages.alloc_run(N0, 65, order, mt, level).unwrap();
    assert!(aligned.head().is_aligned(order));
    assert!(rig.zone().nr_managed > managed || rig.pages.charged() > charged + 194);
    rig.check();
}

#[test]
fn a_run_that_fits_between_others_leaves_larger_blocks_whole() {
    let rig = Rig::plain();
    let large = rig.alloc(512).unwrap();
    let (_held, start) = three_free_of_16(&rig);
    rig.pages.free_run(large);
    for nr_pages in [180, 140] {
        let run = rig.alloc(nr_pages).unwrap();
        assert_eq!(run.head(), start);
        rig.check();
        rig.pages.free_run(run);
    }
}

/// 64 warm pages behind or in front of a cold pageblock of a huge section, and 128 warm pages that
/// stand alone.
fn warm_beside_cold_huge(rig: &Rig, cold_first: bool) -> (Vec<PageRun>, PageRun) {
    let [mut low, mut high] = [0, 1].map(|_| rig.alloc(512).unwrap());
    if high.head().get() < low.head().get() {
        core::mem::swap(&mut low, &mut high);
    }
    assert_eq!(high.head(), low.head().add(512), "not side by side");
    assert!(rig.pages.map.chunk(low.head()).is_whole());
    let (cold, mut warm) = if cold_first { (low, high) } else { (high, low) };
    rig.pages.free_run(cold);
    rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
    // In eighths, of which one is free beside the cold pageblock and two are alone.
    let head = warm.head();
    rig.shrink(&mut warm, 64);
    let mut held: Vec<PageRun> = (1..8).map(|_| rig.alloc(64).unwrap()).collect();
    held.push(warm);
    held.sort_by_key(|run| run.head().get());
    assert_eq!(held[7].head(), head.add(7 * 64));
    let beside = held.remove(if cold_first { 0 } else { 7 });
    held.drain(2..4).for_each(|run| rig.pages.free_run(run));
    (held, beside)
}

#[test]
fn warm_rows_are_warm_all_through() {
    let rig = Rig::plain();
    let mut held: Vec<PageRun> = (0..16).map(|_| rig.alloc(64).unwrap()).collect();
    held.sort_by_key(|run| run.head().get());
    // A cold block, a warm one behind it, and a warm one of twice that size.
    rig.pages.free_run(held.remove(1));
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 64);
    rig.pages.free_run(held.remove(1));
    held.drain(2..4).for_each(|run| rig.pages.free_run(run));
    let charged = rig.pages.charged();
    let _run = rig.alloc(120).unwrap();
    assert_eq!(rig.pages.charged(), charged);
    rig.check();
}

#[test]
fn what_costs_nothing_does_not_run_into_cold_neighbours() {
    for cold_first in [true, false] {
        let config = PageConfig { thp: Thp::Always, ..PageConfig::default() };
        let rig = Rig::new(FakeBuilder::new(), &config);
        let (_held, beside) = warm_beside_cold_huge(&rig, cold_first);
        rig.pages.free_run(beside);
        rig.check();
        let charged = rig.pages.charged();
        let _run = rig.alloc(100).unwrap();
        assert_eq!(rig.pages.charged(), charged, "a row");
        rig.check();
        // Nor does what fits into a block begin before it there.
        let _run = rig.alloc(60).unwrap();
        assert_eq!(rig.pages.charged(), charged, "a block");
        rig.check();
    }
}

#[test]
fn cold_rows_serve_before_the_zone_grows() {
    let rig = Rig::plain();
    let (_held, start) = three_free_of_16(&rig);
    rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    // All that is left of the first step, and then the row.
    while rig.alloc_as(256, Migratetype::Slab).is_ok() {}
    assert_eq!(rig.alloc(190).unwrap().head(), start);
    rig.check();
}
