//! Limits, and what kswapd does for watermarks, on a fake machine.

mod edge;
mod group;

use zonal_numa::{GroupRoom, Room};

use super::*;

const MIB: usize = 1 << 20;

fn kswapd(mm: &'static Mm) -> Kswapd {
    assert!(mm.doorbell().claim());
    Kswapd::new(mm, KswapdConfig::default(), 0)
}

/// Frees all but every `keep`th of `count` blocks of `size` bytes.
fn leave_garbage(heap: OwnHeap, size: usize, count: usize, keep: usize) {
    let blocks: Vec<_> = (0..count).map(|_| take(heap, size).unwrap()).collect();
    for (i, block) in blocks.into_iter().enumerate() {
        if i % keep != 0 {
            give(heap, block);
        }
    }
}

#[test]
fn a_node_without_room_sends_requests_to_the_next() {
    let machine = four_nodes().build();
    machine.run_on(node(3));
    let (mm, heap) = start(machine, Config::default());
    take(heap, 100_000).unwrap();
    machine.set_node_room(node(3), Room { total: 512 * MIB, available: MIB });
    kswapd(mm).round(mm, None);
    let nodes = spread(mm, heap, 1_000_000, 40);
    assert_eq!(nodes[3] + nodes[2], 40, "{nodes:?}");
    assert!(nodes[2] >= 35, "{nodes:?}");
}

#[test]
fn a_limit_of_one_node_leaves_the_others_free() {
    let machine = four_nodes().build();
    let mut pages = PageConfig::default();
    pages.node_limits[0] = 8 * MIB / PAGE_SIZE;
    let (mm, heap) = start(machine, Config { pages, ..Config::default() });
    let nodes = spread(mm, heap, 1_000_000, 40);
    assert!((4..=8).contains(&nodes[0]), "{nodes:?}");
    assert_eq!(nodes[0] + nodes[1], 40, "{nodes:?}");
    // Huge blocks count, too.
    take(heap, 20 * MIB).unwrap();
    let stats = mm.pages().zone_stats(node(0)).unwrap();
    assert!(stats.zone.nr_charged as usize * PAGE_SIZE <= 8 * MIB);
}

/// What rounds took too much keeps nobody from working for a watermark, only from purging what is cold.
#[test]
fn a_watermark_does_not_wait_for_credit() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_node_room(node(0), Room { total: 512 * MIB, available: 400 * MIB });
    let mut kswapd = kswapd(mm);
    let mut rounds = |nr| {
        for _ in 0..nr {
            machine.advance_ns(20_000_000);
            kswapd.round(mm, None);
        }
    };
    let nr_purged = || mm.pages().zone_stats(node(0)).unwrap().events.pgsteal_kswapd;
    let block = take(heap, 3_000_000).unwrap();
    give(heap, block);
    machine.slow(Call::Purge, 200_000_000);
    rounds(5);
    machine.slow(Call::Purge, 0);
    let before = nr_purged();
    assert!(before > 0);
    leave_garbage(heap, 100_000, 200, 2);
    rounds(10);
    assert_eq!(nr_purged(), before, "too much was taken");
    machine.set_node_room(node(0), Room { total: 512 * MIB, available: MIB });
    rounds(50);
    assert!(nr_purged() > before, "the node is short");
}

#[test]
fn over_the_soft_limit_it_reclaims_then_says_so_once() {
    let machine = FakeBuilder::new().build();
    let pages = PageConfig { soft_limit: 32 * MIB / PAGE_SIZE, ..PageConfig::default() };
    let (mm, heap) = start(machine, Config { pages, ..Config::default() });
    // Garbage gives way to what is wanted.
    for size in [30_000, 70_000, 200_000, 900_000] {
        leave_garbage(heap, size, 24 * MIB / size, usize::MAX);
        assert!(mm.pages().charged() * PAGE_SIZE <= 32 * MIB, "{size}");
    }
    assert!(!mm.vmstat().take_soft_limit_warning());
    for _ in 0..50 {
        take(heap, 1_000_000).unwrap();
    }
    assert!(mm.pages().charged() * PAGE_SIZE > 48 * MIB);
    assert!(mm.vmstat().take_soft_limit_warning());
    for _ in 0..50 {
        take(heap, 1_000_000).unwrap();
    }
    assert!(!mm.vmstat().take_soft_limit_warning(), "once");
    mm.validate(Some(heap)).unwrap();
}

/// A working set that changes its sizes all the time fits into 1.1 times its size.
#[test]
fn a_churning_load_completes_under_a_tight_limit() {
    const SET: usize = 40 * MIB;
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, with_limit(SET + SET / 10));
    let mut live = std::collections::VecDeque::new();
    let mut bytes = 0;
    let mut x = 88_172_645_463_325_252_u64;
    for i in 0..60_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let scale: u64 = if i % 8 == 0 { 200_000 } else { 4000 };
        let size = (x % scale) as usize + 1;
        while bytes + size > SET {
            let (block, size) = live.pop_front().unwrap();
            give(heap, block);
            bytes -= size;
        }
        let block = take(heap, size)
            .unwrap_or_else(|e| panic!("step {i}, {size} bytes, {bytes} live: {e:?}"));
        live.push_back((block, size));
        bytes += size;
    }
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn kswapd_gives_up_where_nothing_helps_and_comes_back() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, with_limit(16 * MIB));
    let blocks: Vec<_> = core::iter::from_fn(|| take(heap, 100_000).ok()).collect();
    let mut kswapd = kswapd(mm);
    let mut run = |rounds| {
        for _ in 0..rounds {
            kswapd.round(mm, Some(heap));
            machine.advance_ns(20_000_000);
        }
        mm.vmstat().stats().pageoutrun
    };
    let tried = run(100);
    assert!((10..=40).contains(&tried), "{tried} rounds");
    assert!(mm.doorbell().is_hopeless());
    blocks.into_iter().for_each(|block| give(heap, block));
    assert!(run(5) > tried || mm.pages().shortfall(Level::Process) == 0);
    let back = mm.pages().limit() - mm.pages().charged();
    assert!(back >= mm.pages().watermarks().high, "{back} pages");
}

/// Slabs that have to take pages between large blocks: the marks rise, kswapd is woken, makes room
/// up to them out of what is free, and lowers them again. Without a boost none of that happens.
#[test]
fn mixing_boosts_the_marks_until_kswapd_has_made_room() {
    for boost in [15_000, 0] {
        let machine = FakeBuilder::new().build();
        let mut config = with_limit(64 * MIB);
        config.pages.watermarks.boost = boost;
        let (mm, heap) = start(machine, config);
        let config = KswapdConfig { purges_cold: false, ..KswapdConfig::default() };
        assert!(mm.doorbell().claim());
        let mut kswapd = Kswapd::new(mm, config, 0);
        let pages = mm.pages();
        let marks = pages.watermarks();
        let headroom = || pages.limit() - pages.charged();
        let mut blocks = Vec::new();
        while headroom() > marks.low + 100 {
            blocks.push(take(heap, 200_000).unwrap());
        }
        // Less than half of any pageblock, so that none is claimed.
        for i in (0..40).rev() {
            give(heap, blocks.swap_remove(i * 6));
        }
        assert!(headroom() >= marks.low && !pages.is_boosted());
        let wakeups = mm.vmstat().stats().kswapd_wakeups;
        machine.fail_from(Call::Commit, 1, Errno::ENOMEM);
        let small: Vec<_> = (0..100).map(|_| take(heap, 3000).unwrap()).collect();
        let was_woken = mm.vmstat().stats().kswapd_wakeups > wakeups;
        assert_eq!((pages.is_boosted(), was_woken), (boost > 0, boost > 0), "{boost}");
        let (raised, before) = (pages.boost(Level::Process), headroom());
        kswapd.round(mm, None);
        assert!(!pages.is_boosted());
        if boost > 0 {
            assert!(headroom() >= marks.high + raised, "{} pages", headroom());
        } else {
            assert_eq!(headroom(), before);
        }
        assert_eq!(mm.vmstat().stats().pageoutrun_boost, u64::from(boost > 0));
        assert_eq!(mm.vmstat().stats().pageoutrun, 0);
        small.into_iter().chain(blocks).for_each(|block| give(heap, block));
        mm.validate(Some(heap)).unwrap();
    }
}

/// Cycles of a second: what is freed in one is wanted in the next. After a few the age has grown
/// over the pause, refaults are counted, and nothing is purged any more; when the cycles end, all
/// goes back.
#[test]
fn a_cycling_load_keeps_its_memory_until_it_stops() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut kswapd = kswapd(mm);
    let purges = || machine.calls(Call::Purge) + machine.calls(Call::PurgeMany);
    let mut rest = |ns: u64| {
        let mut slept = 0;
        while slept < ns {
            let Next::Sleep(tick) = kswapd.round(mm, None) else { break };
            machine.advance_ns(tick.min(ns - slept));
            slept += tick;
        }
    };
    let mut before = 0;
    for cycle in 0..12 {
        leave_garbage(heap, 5000, 2000, usize::MAX);
        mm.doorbell().ring();
        rest(1_000_000_000);
        if cycle == 5 {
            before = purges();
        }
    }
    assert!(before > 0, "the first cycles are purged");
    assert!(machine.calls(Call::Collapse) > 0, "and have their huge pages back");
    assert_eq!(purges(), before, "the later ones are not");
    assert!(mm.vmstat().stats().workingset_refault > 1000);
    rest(120_000_000_000);
    assert!(mm.pages().charged() * PAGE_SIZE < 2 * MIB, "{} pages", mm.pages().charged());
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn a_process_that_was_stopped_finds_its_memory() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut kswapd = kswapd(mm);
    give(heap, take(heap, 20 * MIB).unwrap());
    leave_garbage(heap, 100_000, 100, 100);
    let Next::Sleep(tick) = kswapd.round(mm, None) else { panic!("there is work") };
    let charged = mm.pages().charged();
    // Longer than anything stays, and longer than it asked for.
    machine.advance_ns(60_000_000_000);
    kswapd.round(mm, None);
    assert_eq!(mm.pages().charged(), charged);
    // From here on it ages.
    for _ in 0..100 {
        machine.advance_ns(tick);
        kswapd.round(mm, None);
    }
    assert!(charged - mm.pages().charged() > 29 * MIB / PAGE_SIZE);
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn what_others_hold_is_drained_until_the_deadline() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mapping = take(heap, 20 * MIB).unwrap();
    leave_garbage(heap, 3000, 1000, 1000);
    give(heap, mapping);
    let over = Deadline::at(mm.machine().now_ns());
    assert_eq!(
        (mm.drain_all_until(Some(heap), Patience::PassBy, over), mm.drain_huge_until(over)),
        (0, 0)
    );
    let later = Deadline::at(mm.machine().now_ns() + 1);
    assert!(mm.drain_all_until(Some(heap), Patience::PassBy, later) > 0);
    assert_eq!(mm.drain_huge_until(later), 20 * MIB);
    mm.validate(Some(heap)).unwrap();
}
