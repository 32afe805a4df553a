//! Growth: the first request, sections, and an OS that refuses.

use std::vec::Vec;

use zonal_numa::fake::{Call, FakeBuilder};
use zonal_numa::{Errno, Machine, NodeId, PAGE_SIZE};

use super::{N0, Rig, exhausted};
use crate::order::Order;
use crate::pages::PageConfig;
use crate::pages::grow::Growth;
use crate::pfn::Pfn;
use crate::purge::PurgeHow;
use crate::run::PageRun;
use crate::watermark::WatermarkLevel;
use crate::word::Migratetype;
use crate::zone::Request;

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

/// Nothing can step over what lies in the way of the metadata, so it keeps away from where windows of
/// other instances in the process begin.
#[test]
fn another_instance_anywhere_near_does_not_keep_a_heap_from_growing() {
    let rig = Rig::plain();
    let mut runs = vec![rig.alloc(512).unwrap()];
    let first = rig.pages.map.addr_of(runs[0].head()).addr() & !((1 << 30) - 1);
    let machine = Machine::linux();
    // Some of these places are taken: by this one, or by those of other tests.
    let others = (0..60).map(|i| machine.reserve_at(first - (i << 30), 64 << 20));
    let others: Vec<_> = others.flatten().collect();
    assert!(others.len() >= 30);
    runs.extend((0..1200).map(|_| rig.alloc(512).unwrap()));
    rig.check();
    others.into_iter().for_each(|span| machine.unmap(span).unwrap());
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

/// Claims the rest of the first section, as a thread that then commits it.
fn claim_rest(rig: &Rig) -> (Pfn, usize) {
    let node = rig.pages.node(N0).unwrap();
    let (index, section) = rig.pages.sections.iter().next().unwrap();
    let nr_pages = section.nr_left();
    let mut zone = node.lock();
    let start = zone.claim(&rig.pages.env(node), (index, section), nr_pages, Migratetype::Slab);
    (start, nr_pages)
}

#[test]
fn while_one_thread_commits_others_grow_behind_it() {
    let rig = Rig::plain();
    let first = rig.alloc(512).unwrap();
    let (start, nr_pages) = claim_rest(&rig);
    assert_eq!(nr_pages, 512);
    rig.check();
    let others: Vec<PageRun> = (0..4).map(|_| rig.alloc(512).unwrap()).collect();
    rig.check();
    assert!(others.iter().all(|run| run.head() != start));
    let node = rig.pages.node(N0).unwrap();
    rig.pages.machine.commit(rig.pages.span_of(start, nr_pages)).unwrap();
    node.lock().online(&rig.pages.env(node), start, nr_pages, false);
    rig.check();
    let runs: Vec<PageRun> = others.into_iter().chain([first]).collect();
    rig.pages.free_bulk(runs.into_iter());
    rig.check();
    assert_eq!(rig.zone().nr_free, rig.zone().nr_managed);
}

/// Where there is no other memory it is not too late for who asks meanwhile: what is on its way may do.
#[test]
fn nothing_is_refused_while_another_thread_commits() {
    let rig = Rig::plain();
    let run = rig.alloc(512).unwrap();
    let (start, nr_pages) = claim_rest(&rig);
    rig.fake.fail_from(Call::MapAt, 1, Errno::ENOMEM);
    rig.fake.fail_from(Call::Reserve, 1, Errno::ENOMEM);
    let (nr, order, mt) = (512, Order::PAGEBLOCK, Migratetype::Slab);
    let level = WatermarkLevel::Low;
    let req = Request { nr_pages: nr, order, mt, level, may_grow: true, align: order };
    let node = rig.pages.node(N0).unwrap();
    let grow = || rig.pages.grow(N0, false, &req, node.grown());
    assert_eq!(grow(), Growth::Others);
    node.lock().online(&rig.pages.env(node), start, nr_pages, false);
    assert_eq!(grow(), Growth::Refused);
    rig.pages.free_run(run);
    rig.check();
}

/// Nobody waits for the system's answer to another thread, and few short sections are enough for that.
#[test]
fn who_finds_no_section_while_one_is_added_adds_a_short_one() {
    const MIB: usize = 1 << 20;
    let lens = |rig: &Rig| -> Vec<usize> {
        let sections = rig.pages.sections.iter();
        sections.map(|(_, section)| section.nr_pages() * PAGE_SIZE / MIB).collect()
    };
    let fill = |rig: &Rig, nr: usize| (0..nr).for_each(|_| drop(rig.alloc(1024).unwrap()));
    let rig = Rig::plain();
    fill(&rig, 3);
    assert_eq!(lens(&rig), [4, 8]);
    let pages = rig.pages;
    let level = WatermarkLevel::Min;
    let alloc = move || pages.alloc_run(N0, 1024, Order::ZERO, Migratetype::Slab, level);
    rig.fake.during(Call::Reserve, move || {
        assert!(!pages.window_lock().is_held());
        drop(alloc().unwrap());
    });
    fill(&rig, 1);
    rig.fake.during_no_more(Call::Reserve);
    assert_eq!(lens(&rig), [4, 8, 4, 16]);
    rig.check();
    // The next ones are of full length again: also in a child whose parent was at one.
    fill(&rig, 4);
    assert!(pages.window.lock().growing(0, false).begin_adding());
    pages.lock_all();
    // SAFETY: nobody else uses this instance.
    unsafe { pages.child_after_fork() };
    fill(&rig, 1);
    assert_eq!(lens(&rig), [4, 8, 4, 16, 32]);
    rig.check();
}

#[test]
fn where_no_section_can_be_entered_none_is_reserved() {
    let rig = Rig::plain();
    drop(rig.alloc(1024).unwrap());
    let sections = &rig.pages.sections;
    let start = sections.iter().next().unwrap().1.start();
    while !sections.is_full() {
        sections.add(N0, false, start, 0);
    }
    let before = rig.fake.calls(Call::Reserve);
    assert!((0..10).any(|_| rig.alloc(1024).is_err()));
    assert_eq!(rig.fake.calls(Call::Reserve), before);
}

#[test]
fn what_the_os_refused_is_asked_for_again_before_anything_else() {
    let rig = Rig::plain();
    let mut held: Vec<PageRun> = (0..32).map(|_| rig.alloc(512).unwrap()).collect();
    let covered = rig.pages.map.covered();
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    held.extend(core::iter::from_fn(|| rig.alloc(512).ok()));
    // More often than there are pageblocks left in the section.
    for _ in 0..64 {
        assert!(exhausted(rig.alloc(512)));
        rig.check();
    }
    rig.fake.fail_no_more();
    assert_eq!(rig.pages.map.covered(), covered);
    let more: Vec<PageRun> = (0..4).map(|_| rig.alloc(512).unwrap()).collect();
    assert_eq!(rig.pages.map.covered(), covered);
    more.iter().for_each(|run| rig.touch(run, 1));
    rig.pages.free_bulk(held.into_iter().chain(more));
    rig.check();
}

/// What was claimed and refused is among the pageblocks that a search passes.
#[test]
fn what_the_os_refused_hides_nothing_from_a_purge() {
    let rig = Rig::plain();
    let mut held: Vec<PageRun> = (0..16).map(|_| rig.alloc(512).unwrap()).collect();
    rig.fake.fail_from(Call::Commit, 1, Errno::ENOMEM);
    held.extend(core::iter::from_fn(|| rig.alloc(512).ok()));
    let nr_refused = rig.pages.node(N0).unwrap().lock().claims.refused.len();
    assert!(nr_refused > 0);
    for nr_kept in [256, 128, 64, 32] {
        // From wherever the search before ended.
        rig.pages.purge(N0, usize::MAX, PurgeHow { looks: 1, ..PurgeHow::ALL });
        held.iter_mut().for_each(|run| rig.shrink(run, nr_kept));
        rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
        assert_eq!(rig.zone().nr_free_resident, 0);
        rig.check();
    }
    rig.pages.free_bulk(held.into_iter());
}

#[test]
fn a_child_commits_what_a_fork_interrupted() {
    let rig = Rig::plain();
    let first = rig.alloc(512).unwrap();
    let (start, _) = claim_rest(&rig);
    rig.pages.lock_all();
    // SAFETY: nobody else uses this instance.
    unsafe { rig.pages.child_after_fork() };
    rig.check();
    let run = rig.alloc(512).unwrap();
    assert_eq!(run.head(), start);
    rig.touch(&run, 1);
    rig.pages.free_bulk([first, run].into_iter());
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
fn nodes_without_memory_have_no_zone() {
    let builder = FakeBuilder::new().node_numbers(&[0, 3]).cpus_only(3);
    let rig = Rig::new(builder, &PageConfig::default());
    let n3 = NodeId::new(3).unwrap();
    assert!(rig.pages.zone_stats(n3).is_none());
    let (mt, level) = (Migratetype::Slab, WatermarkLevel::Min);
    assert!(exhausted(rig.pages.alloc_run(n3, 1, Order::ZERO, mt, level)));
}
