//! The page layer on a fake machine: each behaviour by itself. Random sequences against an oracle
//! are in `pages_proptest.rs`.

use std::vec::Vec;

use zonal_numa::fake::{Call, FakeBuilder, FakeMachine};
use zonal_numa::{Errno, Machine, NodeId, PAGE_SIZE};

use crate::error::AllocError;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::{PageConfig, Pages, UNLIMITED};
use crate::pfn::Pfn;
use crate::purge::PurgeHow;
use crate::run::PageRun;
use crate::watermark::{WatermarkLevel, Watermarks};
use crate::word::{Migratetype, PageWord};
use crate::zone::Thp;

pub(crate) const N0: NodeId = NodeId::ZERO;

/// A page layer of its own on a machine of its own; lives as long as the test process.
pub(crate) struct Rig {
    pub(crate) fake: &'static FakeMachine,
    pub(crate) pages: &'static Pages,
}

impl Rig {
    pub(crate) fn new(builder: FakeBuilder, config: &PageConfig) -> Rig {
        let fake = builder.build();
        let machine = Machine::fake(fake);
        let layout = std::alloc::Layout::new::<Pages>();
        // SAFETY: the layout has a size; zeroed memory of the right size and alignment is what
        // `init` asks for.
        let pages = unsafe {
            let at = std::alloc::alloc_zeroed(layout).cast::<Pages>();
            Pages::init(at, machine, config).unwrap();
            &*at
        };
        Rig { fake, pages }
    }

    pub(crate) fn plain() -> Rig {
        Rig::new(FakeBuilder::new(), &PageConfig { thp: Thp::Never, ..PageConfig::default() })
    }

    fn limited(limit: usize) -> Rig {
        let config = PageConfig { limit, thp: Thp::Never, ..PageConfig::default() };
        Rig::new(FakeBuilder::new(), &config)
    }

    pub(crate) fn alloc(&self, nr_pages: usize) -> Result<PageRun, AllocError> {
        self.alloc_as(nr_pages, Migratetype::Slab)
    }

    fn alloc_as(&self, nr_pages: usize, mt: Migratetype) -> Result<PageRun, AllocError> {
        self.pages.alloc_run(N0, nr_pages, Order::ZERO, mt, WatermarkLevel::Min)
    }

    fn zone(&self) -> zonal_stats::Zone {
        self.pages.zone_stats(N0).unwrap().zone
    }

    fn events(&self) -> zonal_stats::ZoneEvents {
        self.pages.zone_stats(N0).unwrap().events
    }

    fn touch(&self, run: &PageRun, byte: u8) {
        let addr = self.pages.map.addr_of(run.head());
        // SAFETY: the run is ours and committed.
        unsafe { addr.write_bytes(byte, run.nr_pages() * PAGE_SIZE) };
    }

    fn is_zero(&self, run: &PageRun) -> bool {
        let addr = self.pages.map.addr_of(run.head());
        // SAFETY: the run is ours and committed; anonymous memory is always initialised.
        let bytes = unsafe { std::slice::from_raw_parts(addr, run.nr_pages() * PAGE_SIZE) };
        bytes.iter().all(|&byte| byte == 0)
    }

    /// Gives the touched memory of the sections back, for tests that make many rigs.
    pub(crate) fn retire(&self) {
        for (_, section) in self.pages.sections.iter() {
            let span = section.span(&self.pages.map, 0, section.nr_pages());
            self.pages.machine.unmap(span).unwrap();
        }
    }

    pub(crate) fn check(&self) {
        self.pages.validate().unwrap();
    }
}

fn exhausted<T: std::fmt::Debug + PartialEq>(result: Result<T, AllocError>) -> bool {
    matches!(result, Err(AllocError::Exhausted { .. }))
}

#[test]
fn nothing_is_mapped_before_the_first_request() {
    // A window may by chance land on that of another test, and is then placed again.
    let placed_at_once = (0..8).any(|_| {
        let rig = Rig::plain();
        let calls = || [Call::Reserve, Call::MapAt, Call::Commit].map(|call| rig.fake.calls(call));
        assert_eq!(calls(), [0, 0, 0]);
        assert_eq!(rig.pages.map.pfn_of(0x1234), None);
        rig.check();
        let run = rig.alloc(1).unwrap();
        rig.check();
        rig.pages.free_run(run);
        rig.check();
        // A section, its metadata, one commit: what start-up pays.
        calls() == [1, 1, 1]
    });
    assert!(placed_at_once);
}

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
    rig.pages.shrink_run(&mut runs[300], 256);
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
        runs.iter_mut().for_each(|run| rig.pages.shrink_run(run, 256));
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
fn a_refused_commit_changes_nothing() {
    let rig = Rig::plain();
    let run = rig.alloc(512).unwrap();
    let before = rig.zone();
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    assert!(exhausted(rig.alloc(1)));
    let after = rig.zone();
    assert_eq!(before.nr_managed, after.nr_managed);
    assert_eq!((before.nr_free, before.nr_charged), (after.nr_free, after.nr_charged));
    rig.check();
    rig.fake.fail_no_more();
    assert!(rig.alloc(1).is_ok());
    rig.pages.free_run(run);
    rig.check();
}

#[test]
fn a_first_request_survives_every_single_failure() {
    for call in [Call::Reserve, Call::MapAt, Call::Commit, Call::AdviseHuge] {
        for nth in 1..=3 {
            for errno in [Errno::ENOMEM, Errno::EEXIST, Errno::EPERM] {
                let rig = Rig::plain();
                rig.fake.fail(call, nth, errno);
                let run = rig.alloc(3);
                // A single refusal is always survived: there is another place, or less to ask for.
                let run = run.unwrap_or_else(|_| rig.alloc(3).unwrap());
                rig.touch(&run, 1);
                rig.check();
            }
        }
    }
}

#[test]
fn without_any_address_space_a_request_fails_and_later_works() {
    for call in [Call::Reserve, Call::MapAt] {
        let rig = Rig::plain();
        rig.fake.fail_from(call, 1, Errno::ENOMEM);
        assert!(exhausted(rig.alloc(3)));
        rig.check();
        rig.fake.fail_no_more();
        assert!(rig.alloc(3).is_ok());
        rig.check();
    }
}

#[test]
fn a_foreign_mapping_in_the_window_is_stepped_over_and_not_ours() {
    let rig = Rig::plain();
    let first = rig.alloc(1).unwrap();
    let end = rig.pages.map.base() + rig.pages.map.covered();
    let foreign = rig.pages.machine.map_at(end, 1 << 20).unwrap();
    let runs: Vec<PageRun> = (0..40).map(|_| rig.alloc(1024).unwrap()).collect();
    assert!(rig.pages.map.covered() > (64 << 20) * 2);
    let inside = rig.pages.map.pfn_of(foreign.addr()).expect("covered");
    assert!(rig.pages.map.word_at(inside).is_nothing());
    rig.check();
    for run in runs {
        rig.pages.free_run(run);
    }
    rig.pages.free_run(first);
    rig.check();
}

#[test]
fn sections_double_and_shrink_when_address_space_is_short() {
    let rig = Rig::plain();
    // Every reservation of the next size fails until the smallest.
    let mut held = Vec::new();
    for _ in 0..15 {
        held.push(rig.alloc(1024).unwrap());
    }
    let covered = rig.pages.map.covered();
    assert_eq!(covered, (4 + 8 + 16 + 32) << 20);
    for nth in 1..=4 {
        rig.fake.fail(Call::Reserve, nth, Errno::ENOMEM);
    }
    held.push(rig.alloc(1024).unwrap());
    assert_eq!(rig.pages.map.covered() - covered, (64 << 20) >> 4);
    rig.check();
}

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
fn nodes_without_memory_have_no_zone() {
    let builder = FakeBuilder::new().node_numbers(&[0, 3]).cpus_only(3);
    let rig = Rig::new(builder, &PageConfig::default());
    let n3 = NodeId::new(3).unwrap();
    assert!(rig.pages.zone_stats(n3).is_none());
    let (mt, level) = (Migratetype::Slab, WatermarkLevel::Min);
    assert!(exhausted(rig.pages.alloc_run(n3, 1, Order::ZERO, mt, level)));
}

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
    assert!(rig.alloc_as(16, Migratetype::HighAtomic).is_ok());
    assert!(exhausted(rig.alloc(1)));
    assert!(rig.pages.unreserve_highatomic(N0));
    rig.check();
    assert!(rig.alloc(1).is_ok());
    drop(held);
}

#[test]
fn a_dense_heap_moves_on_to_huge_pages() {
    let rig = Rig::new(FakeBuilder::new(), &PageConfig::default());
    let mut held: Vec<PageRun> = Vec::new();
    while held.len() < 64 {
        held.push(rig.alloc(256).unwrap());
    }
    let huge: Vec<bool> = held.iter().map(|r| rig.pages.map.chunk(r.head()).is_huge()).collect();
    // A MiB each: the first four are base pages.
    assert!(!huge[..2].contains(&true) && huge[63]);
    rig.check();
    // A little that is free in a huge page stays: the huge page is worth more.
    let mut last = held.pop().unwrap();
    let other = held.pop().unwrap();
    assert_eq!(last.head().pageblock(), other.head().pageblock());
    rig.touch(&last, 7);
    let head = last.head();
    rig.pages.set_generation(10);
    rig.pages.shrink_run(&mut last, 200);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 0);
    assert_eq!(rig.pages.map.chunk(head).nr_free_resident(), 56);
    // Half of some does not; the section then counts as one of small pages.
    rig.pages.free_run(last);
    for _ in 0..7 {
        let [half, _other] = [held.pop().unwrap(), held.pop().unwrap()];
        rig.pages.free_run(half);
    }
    // Unless that is not so long ago: small pages go when they are cold, huge ones rest longer.
    let purge = |now: u32| {
        rig.pages.begin_wishes();
        let how = PurgeHow { up_to: Some(now - 5), patience: Some(20), ..PurgeHow::ALL };
        rig.pages.purge(N0, usize::MAX, how)
    };
    let advice = rig.fake.calls(Call::AdviseHuge);
    assert_eq!([purge(34), purge(34)], [0, 0]);
    assert!(!rig.pages.has_wishes());
    assert_eq!(purge(35), 0, "it takes a round to know that it is worth it");
    assert!(rig.pages.has_wishes());
    assert_eq!(rig.fake.calls(Call::AdviseHuge), advice);
    assert_eq!(purge(35), 8 * 256);
    assert_eq!(rig.fake.calls(Call::AdviseHuge), advice + 1);
    rig.check();
    rig.pages.free_run(other);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 256);
    rig.check();
    let charged = rig.pages.charged();
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    let again = rig.alloc(1).unwrap();
    assert!(!rig.pages.map.chunk(again.head()).is_whole());
    assert_eq!(rig.pages.charged(), charged + 1);
    rig.check();
}

#[test]
fn the_pageblocks_of_a_holed_section_are_found_as_small_pages() {
    let rig = Rig::new(FakeBuilder::new(), &PageConfig::default());
    let held: Vec<PageRun> = (0..64).map(|_| rig.alloc(512).unwrap()).collect();
    let section = |run: &PageRun| rig.pages.map.chunk(run.head()).section();
    let huge = |run: &PageRun| rig.pages.map.chunk(run.head()).is_huge();
    let (mut huge, mut held): (Vec<PageRun>, Vec<PageRun>) = held.into_iter().partition(huge);
    huge.sort_by_key(section);
    let mut sparse = huge.remove(0);
    assert_ne!(section(&sparse), section(&huge[huge.len() - 1]));
    // All cold and listed as huge, those of the first section last; then that one is holed.
    huge.into_iter().rev().for_each(|run| rig.pages.free_run(run));
    rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
    rig.pages.shrink_run(&mut sparse, 1);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 511);
    rig.check();
    // All memory is still within reach when the node cannot grow.
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    while let Ok(run) = rig.alloc(1) {
        held.push(run);
    }
    assert_eq!(rig.zone().nr_free, 0);
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
    rig.pages.shrink_run(&mut run, 60);
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
