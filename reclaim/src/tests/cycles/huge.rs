//! When huge pages are broken up, and come back.

use super::*;

use crate::regain::Regret;

/// They go in one piece or later: what a huge page holds comes back dear.
#[test]
fn short_pauses_break_up_no_huge_pages() {
    for (pause, holds) in [(50, 2), (100, 2), (250, 2), (50, 1000), (250, 1000)] {
        let mut load = Cycles { holds_ns: holds * MS, ..Cycles::new() };
        load.work();
        let before = load.machine.calls(Call::AdviseHuge);
        let full = load.charged();
        load.rest(pause * MS);
        assert_eq!(load.machine.calls(Call::AdviseHuge), before, "{pause} ms after {holds}");
        // What is not in huge pages goes.
        assert!(pause < 100 || load.charged() < full, "{pause} ms after {holds}");
        load.holds_ns = 2 * MS;
        (0..12).for_each(|_| _ = load.cycle(pause * MS));
        assert_eq!(load.machine.calls(Call::AdviseHuge), before, "{pause} ms after {holds}");
    }
}

/// Where nearly all has gone in one piece, the rest does not stay.
#[test]
fn huge_pages_that_are_a_rest_are_broken_up_at_once() {
    let mut load = Cycles::new();
    let blocks: Vec<_> = (0..60_000).map(|i| take(load.heap, 1000 + i % 1000).unwrap()).collect();
    let peak = load.charged();
    for (i, block) in blocks.into_iter().enumerate().rev() {
        if i % 10_000 != 0 {
            give(load.heap, block);
        }
    }
    load.rest(120 * MS);
    assert!(load.charged() * 20 < peak, "{} of {peak}", load.charged());
}

/// A pageblock that misses a few pages is one of them.
#[test]
fn cycles_have_their_huge_pages_back() {
    for period in [450, 1000, 2000] {
        let mut load = Cycles::new();
        for _ in 0..16 {
            load.cycle(period * MS);
        }
        let collapses = load.machine.calls(Call::Collapse);
        assert!(collapses >= 6, "every {period} ms: {collapses} of six pageblocks");
    }
}

/// What was holed after the mistake went at the longer age that this taught.
#[test]
fn a_regret_makes_nothing_whole_that_was_holed_later() {
    let load = Cycles::new();
    let blocks: Vec<_> = (0..4000).map(|_| take(load.heap, 8000).unwrap()).collect();
    blocks.into_iter().step_by(40).for_each(|block| give(load.heap, block));
    let advises = || load.machine.calls(Call::AdviseHuge);
    let before = advises();
    load.mm.pages().set_generation(10);
    trim(load.mm, Some(load.heap), usize::MAX, true);
    let holed = advises();
    assert!(holed > before);
    Regret { at_ns: 0, generation: 9 }.unhole(load.mm);
    assert_eq!(advises(), holed);
    Regret { at_ns: 0, generation: 10 }.unhole(load.mm);
    assert!(advises() > holed);
}
