//! Sections of huge pages.

use std::vec::Vec;

use zonal_numa::Errno;
use zonal_numa::fake::{Call, FakeBuilder};

use super::{N0, Rig};
use crate::pages::PageConfig;
use crate::purge::PurgeHow;
use crate::run::PageRun;

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
    rig.shrink(&mut last, 200);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 0);
    assert_eq!(rig.pages.map.chunk(head).nr_free_resident(), 56);
    // Half of some does not; the section then counts as one of small pages.
    rig.pages.free_run(last);
    for _ in 0..7 {
        let [half, _other] = [held.pop().unwrap(), held.pop().unwrap()];
        rig.pages.free_run(half);
    }
    // Unless that is not so long ago.
    let purge = |now: u32| {
        rig.pages.begin_wishes(false);
        let old = Some(now - 5);
        let how = PurgeHow { up_to: old, sparing: old, ..PurgeHow::ALL };
        rig.pages.purge(N0, usize::MAX, how)
    };
    let advice = rig.fake.calls(Call::AdviseHuge);
    assert_eq!([purge(14), purge(14)], [0, 0]);
    assert!(!rig.pages.has_wishes());
    assert_eq!(purge(15), 0, "it takes a round to know that it is worth it");
    assert!(rig.pages.has_wishes());
    assert_eq!(rig.fake.calls(Call::AdviseHuge), advice);
    assert_eq!(purge(15), 8 * 256);
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
    rig.shrink(&mut sparse, 1);
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

/// The rest of a holed section must not be lost where address space is short.
#[test]
fn what_is_left_of_a_holed_section_serves_as_base_pages() {
    let rig = Rig::new(FakeBuilder::new(), &PageConfig::default());
    let mut held: Vec<PageRun> = Vec::new();
    let is_huge = |run: &PageRun| rig.pages.map.chunk(run.head()).is_huge();
    while held.last().is_none_or(|run| !is_huge(run)) {
        held.push(rig.alloc(512).unwrap());
    }
    let mut last = held.pop().unwrap();
    let head = last.head();
    rig.shrink(&mut last, 100);
    assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 412);
    assert!(!rig.pages.map.chunk(head).is_whole());
    rig.fake.fail_from(Call::Reserve, 1, Errno::ENOMEM);
    while let Ok(run) = rig.alloc(512) {
        assert!(!rig.pages.map.chunk(run.head()).is_whole());
        held.push(run);
        rig.check();
    }
    assert_eq!(rig.pages.map.covered() / zonal_numa::PAGE_SIZE, rig.zone().nr_managed as usize);
}

/// A program that trims all the time: each section of huge pages is holed as soon as it is used.
#[test]
fn a_heap_that_is_holed_all_the_time_ceases_to_grow() {
    let rig = Rig::new(FakeBuilder::new(), &PageConfig::default());
    let mut held: Vec<PageRun> = (0..24).map(|_| rig.alloc(512).unwrap()).collect();
    let mut seen = Vec::new();
    for round in 0..60 {
        // Another third goes each time, and a hole is in each of the others.
        for place in (round % 3..held.len()).step_by(3) {
            let new = rig.alloc(300).unwrap();
            rig.pages.free_run(core::mem::replace(&mut held[place], new));
        }
        rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
        rig.check();
        seen.push((rig.pages.map.covered() / zonal_numa::PAGE_SIZE, rig.zone().nr_managed));
    }
    assert_eq!(seen[30], seen[59], "{seen:?}");
    assert!(seen[59].0 < 16 * 24 * 512, "{seen:?}");
}

/// The same of a heap that fills its sections before they are holed.
#[test]
fn a_heap_whose_full_sections_are_holed_all_the_time_ceases_to_grow() {
    let rig = Rig::new(FakeBuilder::new(), &PageConfig::default());
    let mut held: Vec<Option<PageRun>> = (0..1 << 13).map(|_| rig.alloc(64).ok()).collect();
    let quarter = held.len() / 4;
    let mut seen = Vec::new();
    for round in 0..48 {
        held.sort_by_key(|run| run.as_ref().map(|run| run.head().get()));
        let part = round % 4 * quarter..(round % 4 + 1) * quarter;
        // Few stay, so that no section is free as a whole.
        let go = |place: &usize| !place.is_multiple_of(100);
        part.clone().filter(go).for_each(|place| rig.pages.free_run(held[place].take().unwrap()));
        rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
        part.filter(go).for_each(|place| held[place] = rig.alloc(64).ok());
        seen.push(rig.pages.map.covered() >> 20);
    }
    rig.check();
    // MiB, of 2 GiB in use.
    assert!(seen[47] == seen[30] && seen[47] < 5 * 2048, "{seen:?}");
}
