//! Purging, and what is looked at for it.

use std::vec::Vec;

use zonal_numa::Errno;
use zonal_numa::fake::{Call, FakeBuilder};

use super::{N0, Rig};
use crate::order::Order;
use crate::pages::PageConfig;
use crate::purge::PurgeHow;
use crate::run::PageRun;
use crate::watermark::WatermarkLevel;
use crate::word::Migratetype;

#[test]
fn purging_takes_whole_pageblocks_first_and_then_holes() {
    let rig = Rig::plain();
    let whole = rig.alloc(512).unwrap();
    let kept = rig.alloc(1).unwrap();
    let hole = rig.alloc(100).unwrap();
    let hole_head = hole.head();
    rig.pages.free_run(whole);
    rig.pages.free_run(hole);
    assert_eq!(rig.zone().nr_free_resident, 612);
    assert_eq!(rig.pages.purge(N0, 512, PurgeHow::ALL), 512);
    assert_eq!(rig.zone().nr_free_resident, 100);
    assert!(rig.pages.map.chunk(hole_head).nr_free_resident() > 0);
    rig.check();
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 100);
    assert_eq!(rig.pages.charged(), 1);
    assert_eq!(rig.events().pgsteal, 612);
    rig.check();
    rig.pages.free_run(kept);
}

/// A node that cannot be filled, and free pages that are locked: they are not taken for zeros.
#[test]
fn what_is_locked_on_a_full_node_keeps_its_content() {
    let rig = Rig::new(FakeBuilder::new().nodes(2), &PageConfig::default());
    // Half of its pageblock has no memory.
    let run = rig.alloc(256).unwrap();
    let chunk = rig.pages.map.chunk(run.head());
    rig.touch(&run, 7);
    rig.pages.free_run(run);
    for (call, errno) in [
        (Call::Place, Errno::EPERM),
        (Call::Purge, Errno::EINVAL),
        (Call::PurgeMany, Errno::EINVAL),
    ] {
        rig.fake.fail_from(call, 1, errno);
    }
    assert_eq!(rig.pages.fill_free(N0), None);
    assert_eq!(chunk.dirty.count(0, 512), 256);
    rig.check();
    rig.fake.fail_no_more();
    assert_eq!(rig.pages.fill_free(N0), Some(true));
    assert_eq!(chunk.dirty.count(0, 512), 256);
    rig.check();
}

#[test]
fn purging_spares_young_chunks_and_small_holes() {
    let rig = Rig::plain();
    rig.pages.set_generation(5);
    let kept = rig.alloc(1).unwrap();
    let run = rig.alloc(64).unwrap();
    rig.pages.free_run(run);
    let old = PurgeHow { up_to: Some(4), smallest: Order::ZERO, ..PurgeHow::ALL };
    assert_eq!(rig.pages.purge(N0, usize::MAX, old), 0);
    let large = PurgeHow { up_to: Some(5), smallest: Order::PAGEBLOCK, ..PurgeHow::ALL };
    assert_eq!(rig.pages.purge(N0, usize::MAX, large), 0);
    let both = PurgeHow { up_to: Some(5), smallest: Order::ZERO, ..PurgeHow::ALL };
    assert_eq!(rig.pages.purge(N0, usize::MAX, both), 64);
    rig.pages.free_run(kept);
    rig.check();
}

#[test]
fn a_purge_that_the_system_refuses_puts_back_as_resident() {
    let rig = Rig::plain();
    let runs: Vec<PageRun> = (0..6).map(|_| rig.alloc(512).unwrap()).collect();
    // Every other one, so that they form ranges of their own.
    for (i, run) in runs.into_iter().enumerate() {
        if i % 2 == 0 {
            rig.pages.free_run(run);
        }
    }
    // One of them is locked: the others go.
    rig.fake.fail(Call::Purge, 2, Errno::EINVAL);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 1024);
    let stats = rig.zone();
    assert_eq!((rig.events().purge_fail, stats.nr_isolated), (512, 0));
    assert_eq!(stats.nr_free_resident, 512);
    rig.check();
    // It is not asked for all the time: it rests for ten seconds, unless all is wanted.
    let older_than = |generation| PurgeHow { up_to: Some(generation), ..PurgeHow::ALL };
    let calls = rig.fake.calls(Call::Purge);
    assert_eq!(rig.pages.purge(N0, usize::MAX, older_than(500)), 0);
    assert_eq!(rig.fake.calls(Call::Purge), calls);
    assert_eq!(rig.pages.purge(N0, usize::MAX, older_than(600)), 512);
    rig.check();
}

#[test]
fn a_search_looks_at_a_part_and_goes_on_from_there() {
    let rig = Rig::plain();
    let mut runs: Vec<PageRun> = (0..600).map(|_| rig.alloc(512).unwrap()).collect();
    rig.shrink(&mut runs[300], 256);
    let how = PurgeHow { looks: 10, ..PurgeHow::ALL };
    let tries = (1..100).find(|_| rig.pages.purge(N0, 1, how) > 0).unwrap();
    // In the middle of all pageblocks, from either end.
    assert!((25..=40).contains(&tries), "{tries}");
    rig.check();
}

#[test]
fn ages_are_estimated_from_a_part_of_a_large_heap() {
    let rig = Rig::plain();
    let mut runs: Vec<PageRun> = (0..2000).map(|_| rig.alloc(512).unwrap()).collect();
    let (old, young) = runs.split_at_mut(1500);
    for (generation, runs) in [(10, old), (20, young)] {
        rig.pages.set_generation(generation);
        runs.iter_mut().for_each(|run| rig.shrink(run, 256));
    }
    let lru = rig.pages.lruvec(N0);
    assert!(lru.nr_pages >= 2000 * 256 && lru.nr_pageblocks >= 2000);
    let counts = rig.pages.nr_inactive(N0, lru.nr_pageblocks, [Some(9), Some(10), Some(20), None]);
    let expected = [0, 1500 * 256, 2000 * 256, 2000 * 256];
    for (count, expected) in counts.into_iter().zip(expected) {
        assert!(count.abs_diff(expected) <= expected / 20, "{counts:?}");
    }
}

#[test]
fn a_purge_that_is_forbidden_ends_at_once() {
    let rig = Rig::plain();
    let runs: Vec<PageRun> = (0..6).map(|_| rig.alloc(512).unwrap()).collect();
    for (i, run) in runs.into_iter().enumerate() {
        if i % 2 == 0 {
            rig.pages.free_run(run);
        }
    }
    rig.fake.fail_from(Call::Purge, 2, Errno::EPERM);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 512);
    assert_eq!((rig.events().purge_fail, rig.fake.calls(Call::Purge)), (1024, 2));
    assert_eq!(rig.zone().nr_free_resident, 1024);
    rig.check();
}

#[test]
fn larger_os_pages_are_committed_and_purged_whole() {
    let builder = FakeBuilder::new().page_size(65536);
    let rig = Rig::new(builder, &PageConfig::default());
    let kept = rig.alloc(1).unwrap();
    assert_eq!(rig.pages.charged(), 16);
    let run = rig.alloc(40).unwrap();
    rig.check();
    rig.pages.free_run(run);
    let purged = rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
    assert!(purged > 0 && purged.is_multiple_of(16));
    rig.check();
    rig.pages.free_run(kept);
    rig.check();
}

#[test]
fn a_forked_child_puts_back_what_its_parent_isolated() {
    let rig = Rig::plain();
    rig.pages.free_run(rig.alloc(512).unwrap());
    {
        let mut zone = rig.pages.nodes[0].lock();
        let order = Order::PAGEBLOCK;
        let smallest = zone.buddy.smallest(order, Migratetype::Slab, true).unwrap();
        let pfn = zone.buddy.list(smallest, Migratetype::Slab, true).head().unwrap();
        zone.isolate(&rig.pages.map, pfn);
    }
    rig.check();
    rig.pages.lock_all();
    // SAFETY: this stands for the child, where the caller is alone.
    unsafe { rig.pages.child_after_fork() };
    rig.check();
    let stats = rig.zone();
    assert_eq!((stats.nr_isolated, stats.nr_free_resident), (0, 512));
    rig.pages.lock_all();
    // SAFETY: taken just before.
    unsafe { rig.pages.unlock_all() };
    assert!(rig.alloc(1).is_ok());
}

#[test]
fn threads_share_a_zone_while_another_purges() {
    let rig = Rig::plain();
    let pages = rig.pages;
    std::thread::scope(|scope| {
        for seed in 1..=3u64 {
            scope.spawn(move || {
                let mut random = seed;
                let mut held: Vec<PageRun> = Vec::new();
                for _ in 0..20_000 {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let draw = (random >> 33) as usize;
                    if held.len() > 50 || draw & 1 == 0 && !held.is_empty() {
                        pages.free_run(held.swap_remove(draw % held.len()));
                        continue;
                    }
                    let (mt, level) = (Migratetype::Slab, WatermarkLevel::Min);
                    let run = pages.alloc_run(N0, 1 + draw % 40, Order::ZERO, mt, level).unwrap();
                    let first = pages.map.addr_of(run.head());
                    // SAFETY: the run is ours and committed.
                    unsafe { first.write(1) };
                    held.push(run);
                }
                for run in held {
                    pages.free_run(run);
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..200 {
                pages.purge(N0, 256, PurgeHow::ALL);
                pages.validate().unwrap();
            }
        });
    });
    rig.check();
    assert_eq!(rig.zone().nr_out, 0);
}
