//! Migratetypes: who keeps to what, and who takes from whom.

use std::vec::Vec;

use zonal_numa::Errno;
use zonal_numa::fake::{Call, FakeBuilder};

use super::{N0, Rig, exhausted};
use crate::charge::UNLIMITED;
use crate::order::PAGEBLOCK_PAGES;
use crate::pages::{Level, PageConfig};
use crate::run::PageRun;
use crate::thp::Thp;
use crate::word::Migratetype;

#[test]
fn migratetypes_keep_to_their_pageblocks() {
    let rig = Rig::plain();
    let mut blocks: [std::collections::HashSet<usize>; 2] = Default::default();
    for i in 0..200 {
        let large = i % 2;
        let mt = [Migratetype::Slab, Migratetype::Large][large];
        blocks[large].insert(rig.alloc_as(8, mt).unwrap().head().pageblock());
    }
    assert!(blocks[0].is_disjoint(&blocks[1]));
    rig.check();
}

#[test]
fn without_growth_a_type_steals_from_the_other() {
    let rig = Rig::plain();
    let slab = rig.alloc_as(8, Migratetype::Slab).unwrap();
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    let large = rig.alloc_as(8, Migratetype::Large).unwrap();
    assert_eq!(slab.head().pageblock(), large.head().pageblock());
    // Most of the pageblock was free, so it changed sides.
    assert_eq!(rig.pages.map.chunk(large.head()).migratetype(), Migratetype::Large);
    let events = rig.events();
    assert_eq!((events.fallback_steal, events.fallback_claim), (1, 1));
    rig.check();
}

/// Pageblocks of slab runs with a small hole in each, and no growth.
fn with_holes(rig: Rig, nr_pageblocks: usize) -> (Rig, Vec<PageRun>) {
    let mut held: Vec<PageRun> = (0..nr_pageblocks * 8).map(|_| rig.alloc(64).unwrap()).collect();
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    for i in (0..nr_pageblocks).rev() {
        rig.pages.free_run(held.swap_remove(i * 8));
    }
    (rig, held)
}

#[test]
fn mixing_in_a_pageblock_boosts_the_marks_up_to_a_part_of_the_high_one() {
    let (rig, _held) = with_holes(Rig::limited(1 << 14), 4);
    let most = rig.pages.watermarks().high * 3 / 2;
    assert!(PAGEBLOCK_PAGES < most && most < 2 * PAGEBLOCK_PAGES, "{most}");
    let (boosts, _mixed): (Vec<usize>, Vec<PageRun>) = (0..3)
        .map(|_| {
            let run = rig.alloc_as(8, Migratetype::Large).unwrap();
            (rig.pages.boost(Level::Process), run)
        })
        .unzip();
    assert_eq!(boosts, [PAGEBLOCK_PAGES, most, most]);
    assert_eq!(rig.events().fallback_steal, 3);
    assert_eq!(rig.pages.boost(Level::Node(N0)), 0, "the node has no marks");
    rig.pages.unboost(Level::Process, PAGEBLOCK_PAGES);
    assert_eq!(rig.pages.boost(Level::Process), most - PAGEBLOCK_PAGES);
    rig.check();
}

#[test]
fn a_boost_that_is_not_met_wakes_the_reclaimer_whosever_marks_it_raised() {
    for (limit, of_node) in [(2400, UNLIMITED), (UNLIMITED, 2400), (1 << 14, 1 << 14)] {
        let mut node_limits = [UNLIMITED; zonal_numa::MAX_NODES];
        node_limits[0] = of_node;
        let config = PageConfig { limit, node_limits, thp: Thp::Never, ..PageConfig::default() };
        let (rig, _held) = with_holes(Rig::new(FakeBuilder::new(), &config), 4);
        assert!(!rig.pages.take_boost_wake());
        let _mixed = rig.alloc_as(8, Migratetype::Large).unwrap();
        let is_met = rig.pages.boosted_shortfall(N0) == 0;
        assert_eq!(is_met, limit == of_node, "{limit} {of_node}");
        assert_eq!(rig.pages.take_boost_wake(), !is_met, "{limit} {of_node}");
        assert!(!rig.pages.take_boost_wake(), "told once");
        rig.check();
    }
}

#[test]
fn small_zones_and_whole_pageblocks_boost_nothing() {
    let (rig, held) = with_holes(Rig::limited(1 << 14), 3);
    let _mixed = rig.alloc_as(8, Migratetype::Large).unwrap();
    assert_eq!((rig.events().fallback_steal, rig.pages.boost(Level::Process)), (1, 0));
    drop(held);
    let (rig, held) = with_holes(Rig::limited(1 << 14), 4);
    held.into_iter().for_each(|run| rig.pages.free_run(run));
    let run = rig.alloc_as(8, Migratetype::Large).unwrap();
    assert_eq!((rig.events().fallback_claim, rig.pages.boost(Level::Process)), (1, 0));
    assert_eq!(rig.pages.map.chunk(run.head()).migratetype(), Migratetype::Large);
    rig.check();
}

#[test]
fn the_reserve_is_for_urgent_requests_only() {
    let rig = Rig::plain();
    let held: Vec<PageRun> = (0..20).map(|_| rig.alloc(512).unwrap()).collect();
    let urgent = rig.alloc_as(1, Migratetype::HighAtomic).unwrap();
    assert_eq!(rig.zone().nr_highatomic, 1);
    rig.check();
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    let mut ordinary = Vec::new();
    while let Ok(run) = rig.alloc(1) {
        assert_ne!(run.head().pageblock(), urgent.head().pageblock());
        ordinary.push(run);
    }
    assert!(!rig.pages.may_rest(urgent.head(), N0), "in a page cache it would serve anybody");
    assert!(rig.pages.may_rest(held[0].head(), N0));
    assert!(rig.alloc_as(16, Migratetype::HighAtomic).is_ok());
    assert!(exhausted(rig.alloc(1)));
    assert!(rig.pages.unreserve_highatomic(N0));
    rig.check();
    assert!(rig.alloc(1).is_ok());
    drop(held);
}
