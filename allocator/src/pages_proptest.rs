//! Random sequences on the page layer, against an oracle of plain intervals.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use zonal_numa::fake::{Call, FakeBuilder};
use zonal_numa::{Errno, PAGE_SIZE};

use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::PageConfig;
use crate::pages_tests::{N0, Rig};
use crate::pfn::Pfn;
use crate::purge::PurgeHow;
use crate::run::PageRun;
use crate::thp::Thp;
use crate::watermark::WatermarkLevel;
use crate::word::Migratetype;

#[derive(Clone, Debug)]
enum Step {
    Alloc { nr_pages: usize, align: u8, mt: usize },
    Free { which: usize },
    Shrink { which: usize, keep: usize },
    Purge { goal: usize, smallest: u8 },
    Bulk { order: u8, nr: usize },
    Fail { call: usize, nth: u64 },
    Unreserve,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![4 => 1..20usize, 2 => 20..300usize, 1 => 300..=1024usize];
    let step = prop_oneof![
        8 => (size, 0..5u8, 0..8usize)
            .prop_map(|(nr_pages, align, mt)| Step::Alloc { nr_pages, align, mt }),
        6 => any::<usize>().prop_map(|which| Step::Free { which }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(which, keep)| Step::Shrink { which, keep }),
        2 => (1..2000usize, 0..6u8).prop_map(|(goal, smallest)| Step::Purge { goal, smallest }),
        1 => (0..5u8, 1..16usize).prop_map(|(order, nr)| Step::Bulk { order, nr }),
        1 => (0..4usize, 1..3u64).prop_map(|(call, nth)| Step::Fail { call, nth }),
        1 => Just(Step::Unreserve),
    ];
    prop::collection::vec(step, 1..120)
}

/// What is handed out, as start -> pages and the byte written into it.
#[derive(Default)]
struct Oracle {
    live: BTreeMap<u32, (usize, u8)>,
    runs: Vec<PageRun>,
    stamp: u8,
}

impl Oracle {
    fn take(&mut self, rig: &Rig, run: PageRun) {
        let (start, nr_pages) = (run.head().get(), run.nr_pages());
        let before = self.live.range(..start).next_back();
        assert!(before.is_none_or(|(&s, &(n, _))| s as usize + n <= start as usize), "overlap");
        let after = self.live.range(start..).next();
        assert!(after.is_none_or(|(&s, _)| start as usize + nr_pages <= s as usize), "overlap");
        if run.known_zero() {
            for i in 0..nr_pages {
                assert_eq!(Self::bytes(rig, run.head().add(i)), [0, 0], "not zero");
            }
        }
        self.stamp = self.stamp % 250 + 1;
        self.live.insert(start, (nr_pages, self.stamp));
        for i in 0..nr_pages {
            let at = rig.pages.map.addr_of(run.head().add(i));
            // SAFETY: the page is ours and committed.
            unsafe {
                at.write(self.stamp);
                at.add(PAGE_SIZE - 1).write(self.stamp);
            }
        }
        self.runs.push(run);
    }

    /// Takes a run out, after checking that nobody else wrote to it.
    fn give(&mut self, rig: &Rig, which: usize) -> Option<PageRun> {
        if self.runs.is_empty() {
            return None;
        }
        let run = self.runs.swap_remove(which % self.runs.len());
        let (nr_pages, stamp) = self.live.remove(&run.head().get()).unwrap();
        assert_eq!(nr_pages, run.nr_pages());
        for i in 0..nr_pages {
            assert_eq!(Self::bytes(rig, run.head().add(i)), [stamp; 2], "overwritten");
        }
        Some(run)
    }

    fn bytes(rig: &Rig, pfn: Pfn) -> [u8; 2] {
        let at = rig.pages.map.addr_of(pfn);
        // SAFETY: the page belongs to a run of the test and is committed.
        unsafe { [at.read(), at.add(PAGE_SIZE - 1).read()] }
    }

    /// The most pages in a row that are committed and not handed out.
    fn longest_gap(&self, rig: &Rig) -> usize {
        let mut longest = 0;
        for (_, section) in rig.pages.sections.iter() {
            let (mut at, end) = (section.start(), section.start().add(section.nr_committed()));
            let live = self.live.range(at.get()..end.get());
            // What the system refused to commit.
            let is_refused = |pfn: &Pfn| rig.pages.map.word_at(*pfn).as_isolated().is_some();
            let refused = section.pageblocks().filter(is_refused);
            let mut taken: Vec<_> =
                live.map(|(&start, &(nr_pages, _))| (start, nr_pages)).collect();
            taken.extend(refused.map(|pfn| (pfn.get(), PAGEBLOCK_PAGES)));
            taken.sort_unstable();
            for (start, nr_pages) in taken {
                longest = longest.max((start - at.get()) as usize);
                at = Pfn::new(start).add(nr_pages);
            }
            longest = longest.max((end.get() - at.get()) as usize);
        }
        longest
    }

    fn nr_pages(&self) -> usize {
        self.live.values().map(|(nr_pages, _)| nr_pages).sum()
    }
}

fn apply(rig: &Rig, oracle: &mut Oracle, step: Step) {
    let level = WatermarkLevel::Min;
    match step {
        Step::Alloc { nr_pages, align, mt } => {
            let mt = [Migratetype::Slab, Migratetype::Large, Migratetype::HighAtomic][mt % 7 / 3];
            let align = Order::new(align).unwrap();
            if let Ok(run) = rig.pages.alloc_run(N0, nr_pages, align, mt, level) {
                assert_eq!(run.nr_pages(), nr_pages);
                assert!(run.head().is_aligned(align));
                oracle.take(rig, run);
            }
        }
        Step::Free { which } => {
            if let Some(run) = oracle.give(rig, which) {
                rig.pages.free_run(run);
            }
        }
        Step::Shrink { which, keep } => {
            if let Some(mut run) = oracle.give(rig, which) {
                let keep = 1 + keep % run.nr_pages();
                rig.shrink(&mut run, keep);
                // SAFETY: the old token ends here; the new one does not say that it is zero.
                let run = unsafe { rig.pages.run_from_head(run.into_head(), keep) };
                oracle.take(rig, run);
            }
        }
        Step::Purge { goal, smallest } => {
            let charged = rig.pages.charged();
            let how =
                PurgeHow { up_to: None, smallest: Order::new(smallest).unwrap(), ..PurgeHow::ALL };
            let purged = rig.pages.purge(N0, goal, how);
            assert_eq!(rig.pages.charged() + purged, charged);
        }
        Step::Bulk { order, nr } => {
            let mut out: [Option<PageRun>; 16] = [const { None }; 16];
            let order = Order::new(order).unwrap();
            let mt = Migratetype::Slab;
            let got = rig.pages.alloc_bulk(N0, order, mt, level, &mut out[..nr]);
            assert_eq!(out.iter().flatten().count(), got);
            for run in out.iter_mut().filter_map(Option::take) {
                oracle.take(rig, run);
            }
        }
        Step::Fail { call, nth } => {
            let call = [Call::Commit, Call::Purge, Call::Reserve, Call::MapAt][call];
            rig.fake.fail(call, nth, Errno::ENOMEM);
        }
        Step::Unreserve => {
            rig.pages.unreserve_highatomic(N0);
        }
    }
}

fn run(config: &PageConfig, cases: u32, seed: u8) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let settings = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new_with_rng(settings, rng).run(&steps(), |steps| {
        let rig = Rig::new(FakeBuilder::new(), config);
        let mut oracle = Oracle::default();
        for step in steps {
            apply(&rig, &mut oracle, step);
            rig.check();
            assert_eq!(rig.pages.zone_stats(N0).unwrap().zone.nr_out, oracle.nr_pages() as u64);
        }
        rig.fake.fail_no_more();
        while let Some(run) = oracle.give(&rig, 0) {
            rig.pages.free_run(run);
        }
        let stats = rig.pages.zone_stats(N0).unwrap().zone;
        rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
        rig.check();
        assert_eq!((stats.nr_free, rig.pages.charged()), (stats.nr_managed, 0));
        rig.fake.tear_down();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("seed {seed}: {failure}");
    }
}

#[test]
fn base_pages_agree_with_the_oracle() {
    run(&PageConfig { thp: Thp::Never, ..PageConfig::default() }, 150, 1);
}

#[test]
fn huge_pages_agree_with_the_oracle() {
    run(&PageConfig { thp: Thp::Always, ..PageConfig::default() }, 100, 2);
}

#[test]
fn a_tight_limit_agrees_with_the_oracle() {
    run(&PageConfig { limit: 3000, thp: Thp::Never, ..PageConfig::default() }, 150, 3);
}

#[test]
fn both_kinds_under_a_limit_agree_with_the_oracle() {
    run(&PageConfig { limit: 14_000, ..PageConfig::default() }, 60, 4);
}

/// Large runs in a zone that cannot grow: what is refused fits nowhere.
#[test]
fn a_run_is_refused_only_where_no_free_pages_in_a_row_hold_it() {
    let step = (1..400usize, any::<usize>(), 0..8u8);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let settings = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let nr_refused = core::cell::Cell::new(0);
    let steps = prop::collection::vec(step, 50..300);
    let outcome = TestRunner::new_with_rng(settings, rng).run(&steps, |steps| {
        let rig =
            Rig::new(FakeBuilder::new(), &PageConfig { thp: Thp::Never, ..Default::default() });
        let mut oracle = Oracle::default();
        rig.fake.fail_from(Call::Commit, 3, Errno::ENOMEM);
        for (nr_pages, which, action) in steps {
            let (mt, level) = (Migratetype::Large, WatermarkLevel::Min);
            match rig.pages.alloc_run(N0, nr_pages, Order::ZERO, mt, level) {
                Ok(run) => oracle.take(&rig, run),
                Err(_) => {
                    nr_refused.set(nr_refused.get() + 1);
                    let longest = oracle.longest_gap(&rig);
                    assert!(longest < nr_pages, "{nr_pages} refused, {longest} are in a row");
                }
            }
            if action < 4
                && let Some(run) = oracle.give(&rig, which)
            {
                rig.pages.free_run(run);
            }
            if action == 4 {
                rig.pages.purge(N0, which % 500, PurgeHow::ALL);
            }
            rig.check();
        }
        rig.fake.tear_down();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(nr_refused.get() > 100, "the zones were never full");
}
