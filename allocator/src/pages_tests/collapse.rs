//! Sections that are holed, and become whole again.

use std::vec::Vec;

use zonal_numa::fake::{Call, FakeBuilder};

use super::{N0, Rig};
use crate::pages::PageConfig;
use crate::pfn::Pfn;
use crate::purge::{Isolated, PurgeHow, Reclaimer};
use crate::run::PageRun;
use crate::word::PageWord;

/// A dense heap that has moved on to huge pages; the runs in those, a pageblock each.
fn dense(config: &PageConfig) -> (Rig, Vec<PageRun>) {
    let rig = Rig::new(FakeBuilder::new(), config);
    let runs: Vec<PageRun> = (0..64).map(|_| rig.alloc(512).unwrap()).collect();
    let huge = runs.into_iter().filter(|run| rig.pages.map.chunk(run.head()).is_huge());
    let huge = huge.collect();
    (rig, huge)
}

/// Purges half of the last pageblock, for which its section is holed.
fn hole(rig: &Rig, runs: &mut [PageRun]) -> Pfn {
    let last = runs.last_mut().unwrap();
    rig.shrink(last, 256);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 256);
    assert!(!rig.pages.map.chunk(last.head()).is_whole());
    last.head()
}

#[test]
fn a_holed_section_that_is_dense_becomes_whole_and_can_be_holed_again() {
    let (rig, mut runs) = dense(&PageConfig::default());
    rig.pages.set_generation(10);
    let head = hole(&rig, &mut runs);
    let charged = rig.pages.charged();
    assert_eq!(rig.pages.unhole(N0, 9), 0, "holed later");
    assert_eq!(rig.pages.unhole(N0, 10), 1);
    rig.check();
    // The kernel may fill the rest at any time, so it counts, and is to be had again.
    let chunk = rig.pages.map.chunk(head);
    assert!(chunk.is_whole() && chunk.nr_free_resident() == 256);
    assert_eq!(rig.pages.charged(), charged + 256);
    while rig.pages.collapse(N0) {}
    assert!(rig.fake.calls(Call::Collapse) > 0);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 256);
    assert!(!chunk.is_whole());
    assert_eq!(rig.pages.unhole(N0, 9), 0);
    rig.check();
}

/// A purge has free blocks of a holed section in hand when it is made whole: they come back, with or
/// without a run being taken beside them meanwhile.
#[test]
fn what_is_isolated_while_a_section_becomes_whole_counts_as_the_rest_of_it() {
    for (state, is_first) in [
        (Isolated::Purged(Reclaimer::Kswapd), true),
        (Isolated::Purged(Reclaimer::Kswapd), false),
        (Isolated::Refused, true),
        (Isolated::Kept, false),
    ] {
        let (rig, mut runs) = dense(&PageConfig::default());
        let head = hole(&rig, &mut runs);
        let home = rig.pages.node(N0).unwrap();
        let putback = |pfn| home.lock().putback(&rig.pages.env(home), pfn, state);
        // One block in which every page is missing, and one with all of them.
        let mut run = runs.swap_remove(runs.len() - 2);
        rig.shrink(&mut run, 256);
        assert!(!rig.pages.map.chunk(run.head()).is_whole());
        let blocks = [head, run.head()].map(|head| head.add(256));
        // Beside each is one that can be had meanwhile.
        rig.shrink(&mut run, 128);
        rig.shrink(runs.last_mut().unwrap(), 128);
        for pfn in blocks {
            home.lock().isolate(&rig.pages.map, pfn);
        }
        assert_eq!(rig.pages.unhole(N0, rig.pages.generation()), 1);
        rig.check();
        let mut put = Vec::new();
        if is_first {
            put.extend(blocks.map(putback));
            rig.check();
        }
        runs.push(rig.alloc(1).unwrap());
        if !is_first {
            put.extend(blocks.map(putback));
        }
        rig.check();
        let nr_resident = if matches!(state, Isolated::Purged(_)) { 0 } else { 256 };
        assert_eq!(put, [nr_resident; 2]);
        // Now somebody takes a part of each.
        while blocks.iter().any(|&pfn| rig.pages.map.word_at(pfn).as_buddy().is_some()) {
            runs.push(rig.alloc(64).unwrap());
            rig.check();
        }
    }
}

#[test]
fn a_part_of_a_huge_page_that_was_purged_on_its_way_out_counts_as_the_rest_of_it() {
    let (rig, mut runs) = dense(&PageConfig::default());
    let mut run = runs.swap_remove(0);
    rig.shrink(&mut run, 256);
    let home = rig.pages.node(N0).unwrap();
    let taken = rig.alloc(256).unwrap();
    assert!(rig.pages.map.chunk(taken.head()).is_whole());
    let charged = rig.pages.charged();
    rig.pages.map.set_word(taken.head(), PageWord::NOTHING);
    home.lock().free_purged(&rig.pages.env(home), taken.into_head(), 256);
    assert_eq!(rig.pages.charged(), charged);
    runs.push(rig.alloc(1).unwrap());
    rig.check();
}

#[test]
fn where_little_is_left_a_huge_page_is_split_before_a_part_of_it_goes_back() {
    let (rig, mut runs) = dense(&PageConfig::default());
    hole(&rig, &mut runs);
    assert_eq!(rig.fake.calls(Call::Split), 0);
    rig.pages.lookout().set_tight(true);
    let mut run = runs.remove(0);
    rig.shrink(&mut run, 100);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 412);
    let nr_splits = rig.fake.calls(Call::Split);
    assert!(nr_splits > 0);
    // All of one needs no splitting.
    let whole = runs.remove(0);
    rig.pages.free_run(whole);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 512);
    assert_eq!(rig.fake.calls(Call::Split), nr_splits);
    rig.check();
}

#[test]
fn a_sparse_section_stays_as_it_is() {
    let (rig, mut runs) = dense(&PageConfig::default());
    runs.iter_mut().for_each(|run| rig.shrink(run, 256));
    rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
    assert_eq!(rig.pages.unhole(N0, 0), 0);
    assert!(!rig.pages.collapse(N0));
    rig.check();
}

#[test]
fn a_section_stays_as_it_is_where_a_limit_is_near() {
    let config = PageConfig { limit: 100 << 9, ..PageConfig::default() };
    let (rig, mut runs) = dense(&config);
    hole(&rig, &mut runs);
    let headroom = || rig.pages.limit() - rig.pages.charged();
    while headroom() >= rig.pages.watermarks().high + 256 {
        runs.push(rig.alloc(512).unwrap());
    }
    assert_eq!(rig.pages.unhole(N0, 0), 0);
    rig.check();
}

#[test]
fn a_few_pages_are_not_worth_a_section() {
    let (rig, mut runs) = dense(&PageConfig::default());
    let how = PurgeHow { sparing: Some(rig.pages.generation()), ..PurgeHow::ALL };
    let last = runs.last_mut().unwrap();
    rig.shrink(last, 256);
    for _ in 0..3 {
        rig.pages.begin_wishes(false);
        assert_eq!(rig.pages.purge(N0, usize::MAX, how), 0);
    }
    runs.iter_mut().for_each(|run| rig.shrink(run, 256));
    rig.pages.begin_wishes(false);
    assert_eq!(rig.pages.purge(N0, usize::MAX, how), 0, "it takes a round to know");
    rig.pages.begin_wishes(false);
    assert_eq!(rig.pages.purge(N0, usize::MAX, how), runs.len() * 256);
    rig.check();
}

#[test]
fn what_was_wanted_back_is_holed_again_only_for_much_more() {
    let (rig, mut runs) = dense(&PageConfig::default());
    let how = PurgeHow { sparing: Some(rig.pages.generation()), ..PurgeHow::ALL };
    let purge = || {
        rig.pages.begin_wishes(false);
        rig.pages.purge(N0, usize::MAX, how)
    };
    let section = |run: &PageRun| rig.pages.map.chunk(run.head()).section();
    let last = section(runs.last().unwrap());
    runs.retain(|run| section(run) == last);
    let nr_committed = rig.pages.sections.get(last).nr_committed();
    // A tenth of the section.
    let tenth = nr_committed / 10 / 256 + 1;
    runs[..tenth].iter_mut().for_each(|run| rig.shrink(run, 256));
    assert_eq!([purge(), purge()], [0, tenth * 256]);
    assert_eq!(rig.pages.unhole(N0, rig.pages.generation()), 1);
    assert_eq!([purge(), purge(), purge()], [0; 3]);
    let quarter = nr_committed / 4 / 256 + 1;
    runs[tenth..quarter].iter_mut().for_each(|run| rig.shrink(run, 256));
    assert_eq!([purge(), purge()], [0, quarter * 256]);
    rig.check();
}

/// What old pages of a section are, young ones of it are not.
#[test]
fn old_pages_alone_decide_whether_huge_ones_are_given_up() {
    let (rig, mut runs) = dense(&PageConfig::default());
    let purge = |up_to, sparing, with_spared| {
        rig.pages.begin_wishes(with_spared);
        let how = PurgeHow { up_to: Some(up_to), sparing: Some(sparing), ..PurgeHow::ALL };
        rig.pages.purge(N0, usize::MAX, how)
    };
    rig.pages.set_generation(10);
    rig.shrink(runs.last_mut().unwrap(), 400);
    rig.pages.set_generation(20);
    let nr_young = runs.len() - 1;
    runs[..nr_young].iter_mut().for_each(|run| rig.shrink(run, 400));
    assert_eq!([(); 3].map(|()| purge(20, 15, false)), [0; 3]);
    assert_eq!(rig.pages.nr_spared(), nr_young * 112);
    // A rest of what went goes as all others, at once.
    assert_eq!(purge(20, 20, true), runs.len() * 112);
    rig.check();
}

/// However long it had been held.
#[test]
fn a_huge_page_is_spared_from_the_last_free_on() {
    let (rig, mut runs) = dense(&PageConfig::default());
    let purge = |sparing| {
        rig.pages.begin_wishes(false);
        let how = PurgeHow { up_to: Some(30), sparing: Some(sparing), ..PurgeHow::ALL };
        rig.pages.purge(N0, usize::MAX, how)
    };
    for (generation, nr_left) in [(10, 500), (20, 300)] {
        rig.pages.set_generation(generation);
        runs.iter_mut().for_each(|run| rig.shrink(run, nr_left));
    }
    rig.pages.set_generation(30);
    assert_eq!([purge(19), purge(19)], [0; 2]);
    assert_eq!([purge(20), purge(20)], [0, runs.len() * 212]);
    rig.check();
}
