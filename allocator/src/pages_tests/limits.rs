//! Charging against the limits, and the check of the accounts.

use std::vec::Vec;

use zonal_numa::NodeId;
use zonal_numa::fake::FakeBuilder;

use super::{N0, PAGE_SIZE, Rig, exhausted};
use crate::charge::Cap;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::{Level, PageConfig, UNLIMITED};
use crate::purge::PurgeHow;
use crate::thp::Thp;
use crate::watermark::{WatermarkLevel, Watermarks};
use crate::word::{Migratetype, PageWord};

#[test]
fn a_limit_counts_resident_pages_and_purging_makes_room() {
    let rig = Rig::limited(4096);
    let marks = rig.pages.watermarks();
    assert!(0 < marks.min && marks.min < marks.low && marks.low < marks.high);
    let mut held = Vec::new();
    while let Ok(run) = rig.alloc(64) {
        held.push(run);
    }
    assert!(4096 - rig.pages.charged() < marks.min + 64);
    assert!(4096 - rig.pages.charged() >= marks.min);
    rig.check();
    // Below the mark, warm memory still passes: it consumes nothing.
    let freed = held.pop().unwrap();
    rig.pages.free_run(freed);
    held.push(rig.alloc(64).unwrap());
    // The reserve goes deeper.
    let (mt, level) = (Migratetype::Slab, WatermarkLevel::Reserve);
    assert!(rig.pages.alloc_run(N0, marks.min, Order::ZERO, mt, level).is_ok());
    // Free resident pages hold headroom until they are purged.
    for run in held.drain(..held.len() / 2) {
        rig.pages.free_run(run);
    }
    let charged = rig.pages.charged();
    let purged = rig.pages.purge(N0, 512, PurgeHow::ALL);
    assert!(purged >= 512);
    assert_eq!(rig.pages.charged(), charged - purged);
    rig.check();
}

#[test]
fn a_limit_of_a_node_is_its_own() {
    let mut node_limits = [UNLIMITED; zonal_numa::MAX_NODES];
    node_limits[0] = 600;
    let config = PageConfig { node_limits, thp: Thp::Never, ..PageConfig::default() };
    let rig = Rig::new(FakeBuilder::new().nodes(2), &config);
    let n1 = NodeId::new(1).unwrap();
    assert!(exhausted(rig.alloc(1024)));
    assert!(rig.alloc(256).is_ok());
    let (mt, level) = (Migratetype::Slab, WatermarkLevel::Min);
    let run = rig.pages.alloc_run(n1, 1024, Order::ZERO, mt, level).unwrap();
    assert_eq!(rig.pages.node_of(run.head()), n1);
    rig.touch(&run, 1);
    let addr = rig.pages.map.addr_of(run.head()).addr();
    assert_eq!(rig.fake.node_of_addr(addr), Some(n1));
    rig.check();
    rig.pages.free_run(run);
    assert_eq!(rig.pages.zone_stats(n1).unwrap().zone.nr_out, 0);
    rig.check();
}

#[test]
fn a_page_of_a_huge_section_charges_its_pageblock() {
    let config = PageConfig { thp: Thp::Always, ..PageConfig::default() };
    let rig = Rig::new(FakeBuilder::new(), &config);
    let run = rig.alloc(1).unwrap();
    assert!(run.known_zero());
    assert_eq!(rig.pages.charged(), PAGEBLOCK_PAGES);
    let next = rig.alloc(1).unwrap();
    assert!(next.known_zero());
    assert_eq!(rig.pages.charged(), PAGEBLOCK_PAGES);
    rig.check();
}

#[test]
fn validate_finds_what_is_wrong() {
    let rig = Rig::plain();
    let run = rig.alloc(8).unwrap();
    let word = rig.pages.map.word_at(run.head().add(8));
    assert!(word.as_buddy().is_some());
    rig.pages.map.set_word(run.head().add(8), PageWord::NOTHING);
    assert!(rig.pages.validate().is_err());
    rig.pages.map.set_word(run.head().add(8), word);
    rig.check();
    rig.pages.nodes[0].lock().nr_free += 1;
    assert_eq!(rig.pages.validate().unwrap_err().what, "pages free");
    rig.pages.nodes[0].lock().nr_free -= 1;
    assert!(rig.pages.budget.try_charge(1, WatermarkLevel::Reserve));
    assert_eq!(rig.pages.validate().unwrap_err().what, "pages charged to the process");
}

#[test]
fn watermarks_follow_the_kernels_formula() {
    // 1 GiB: sqrt(1048576 KiB * 16) = 4096 KiB.
    let marks = Watermarks::for_budget(1 << 18, 10);
    assert_eq!(marks, Watermarks { min: 1024, low: 1024 + 260, high: 1024 + 520 });
    // The bounds of min_free_kbytes, and no more than an eighth of what there is.
    assert_eq!(Watermarks::for_budget(1 << 30, 0).min, 65536);
    assert_eq!(Watermarks::for_budget(64, 0).min, 8);
    assert_eq!(Watermarks::for_budget(0, 10), Watermarks::default());
}

/// `boost_watermark` (mm/page_alloc.c): 150 % of the high mark, a pageblock at least, nothing where
/// there are no marks.
#[test]
fn boosts_follow_the_kernels_formula() {
    let most = |pages, factor| Watermarks::for_budget(pages, 10).max_boost(factor);
    assert_eq!(most(1 << 18, 15_000), (1024 + 520) * 3 / 2);
    assert_eq!(most(4096, 15_000), PAGEBLOCK_PAGES);
    assert_eq!([most(1 << 18, 0), most(0, 15_000)], [0, 0]);
    let marks = Watermarks { min: 10, low: 20, high: 30 };
    assert_eq!(marks.boosted(100), Watermarks { min: 10, low: 120, high: 130 });
}

/// A page is charged with the page of the OS that it lies in.
#[test]
fn a_zone_does_not_grow_for_what_cannot_be_charged() {
    let unit = 16;
    let of_marks = |limit| Watermarks::for_budget(limit, 10).min;
    // Half a page of the OS is left.
    let limit = (600..).find(|&limit| (limit - of_marks(limit)) % unit == unit / 2).unwrap();
    let config = PageConfig { limit, thp: Thp::Never, ..PageConfig::default() };
    let rig = Rig::new(FakeBuilder::new().page_size(unit * PAGE_SIZE), &config);
    let held: Vec<_> = core::iter::from_fn(|| rig.alloc(unit).ok()).collect();
    let left = limit - rig.pages.charged() - rig.pages.watermarks().min;
    assert_eq!((held.is_empty(), left), (false, unit / 2));
    let nr_managed = rig.zone().nr_managed;
    assert!(rig.alloc(1).is_err());
    assert_eq!(rig.zone().nr_managed, nr_managed);
    held.into_iter().for_each(|run| rig.pages.free_run(run));
    rig.check();
}

/// What is asked of a node without memory is not answered by the process.
#[test]
fn a_node_without_memory_has_no_bounds() {
    let rig = Rig::limited(4096);
    let _held = rig.alloc(64).unwrap();
    let nowhere = Level::Node(NodeId::new(1).unwrap());
    assert!(rig.pages.ledger(Level::Process).0 >= 64);
    assert_eq!(rig.pages.ledger(nowhere), (0, 0));
    rig.pages.set_cap(nowhere, Cap { pages: 0, ..Cap::NONE });
    assert!(!rig.pages.has_cap());
}
