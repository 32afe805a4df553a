//! Rounds of kswapd, one by one.

use super::*;

use std::boxed::Box;

#[test]
fn kswapd_returns_cold_memory_and_goes_home() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let blocks: Vec<_> = (0..20_000).map(|_| take(heap, 1000).unwrap()).collect();
    let peak = mm.pages().charged();
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 20 != 0 {
            give(heap, block);
        }
    }
    kswapd.round(mm, None);
    assert!(mm.pages().charged() * 10 > peak * 9, "too young");
    let mut slept = 0;
    while let Next::Sleep(ns) = kswapd.round(mm, None) {
        machine.advance_ns(ns);
        slept += ns;
        assert!(slept < 60_000_000_000, "it goes home some day");
    }
    // One in twenty of 1,024 bytes: four on a page, four pages in five are free.
    assert!(mm.pages().charged() * 100 < peak * 25, "{} of {peak}", mm.pages().charged());
    assert!(mm.doorbell().retire());
    mm.validate(Some(heap)).unwrap();
}

/// A thread that goes on working, and misses whenever somebody is in its heap, keeps what it freed no longer.
#[test]
fn kswapd_returns_what_a_thread_freed_that_goes_on_working() {
    let machine = FakeBuilder::new().build();
    // Huge pages would be spared for longer.
    let pages = PageConfig { thp: Thp::Never, ..PageConfig::default() };
    let (mm, heap) = start(machine, Config { pages, ..Config::default() });
    let blocks: Vec<_> = (0..20_000).map(|_| take(heap, 1000).unwrap()).collect();
    let peak = mm.pages().charged();
    let owner = heap.heap();
    let work = move |nr: usize| {
        for _ in 0..nr {
            // SAFETY: the owner's part, between two of its operations.
            take(unsafe { OwnHeap::new(NonNull::from(owner)) }, 64).unwrap();
        }
    };
    machine.slow(Call::Purge, 2000);
    machine.during(Call::Purge, move || work(3));
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 20 != 0 {
            give(heap, block);
        }
    }
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    for _ in 0..8 {
        machine.advance_ns(20_000_000);
        kswapd.round(mm, None);
        work(500);
    }
    assert!(mm.vmstat().stats().visited_alloc > 100, "it comes all the time");
    assert!(mm.pages().charged() * 100 < peak * 30, "{} of {peak}", mm.pages().charged());
    machine.during_no_more(Call::Purge);
    mm.validate(Some(heap)).unwrap();
}

/// As on an emulated machine, where a page takes forty times as long as credit is reckoned by. It gets on, and does
/// not take half of a processor for it.
#[test]
fn pages_that_take_long_go_all_the_same() {
    const PAGE_NS: u64 = 20_000;
    const MOST_NS: u64 = 2_000_000_000;
    let machine = FakeBuilder::new().build();
    let pages = PageConfig { thp: Thp::Never, ..PageConfig::default() };
    let (mm, heap) = start(machine, Config { pages, ..Config::default() });
    machine.slow_pages(PAGE_NS);
    // Holes in slabs, and free pages: some two seconds by that.
    let small: Vec<_> = (0..60_000).map(|_| take(heap, 1000).unwrap()).collect();
    let large: Vec<_> = (0..4000).map(|_| take(heap, 100_000).unwrap()).collect();
    let peak = mm.pages().charged();
    small.into_iter().enumerate().filter(|(i, _)| i % 20 != 0).for_each(|(_, b)| give(heap, b));
    large.into_iter().for_each(|block| give(heap, block));
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    let began = mm.machine().now_ns();
    let (mut gained_at, mut left) = (began, peak);
    while let Next::Sleep(ns) = kswapd.round(mm, None) {
        if mm.pages().charged() < left {
            (left, gained_at) = (mm.pages().charged(), mm.machine().now_ns());
        }
        machine.advance_ns(ns);
        let quiet = mm.machine().now_ns() - gained_at;
        assert!(
            quiet < MOST_NS || left * 100 < peak * 10,
            "nothing for {quiet} ns at {left} of {peak}"
        );
    }
    assert!(left * 100 < peak * 10, "{left} of {peak}");
    let purging = (peak - left) as u64 * PAGE_NS;
    let passed = gained_at - began;
    assert!(purging * 4 < passed, "{purging} of {passed} ns");
}

/// What rounds would take, where nothing goes for being cold.
#[test]
fn reports_tell_what_is_young_and_what_is_cold() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let ages = || {
        let mut snapshot = Box::<zonal_stats::Snapshot>::default();
        mm.snapshot(Some(heap), Patience::PassBy, &mut snapshot);
        let zone = snapshot.nodes[0].zone;
        assert_eq!(zone.nr_active + zone.nr_inactive, zone.nr_free_resident);
        (snapshot.process.cold_age_ns, zone.nr_active, zone.nr_inactive)
    };
    let blocks: Vec<_> = (0..400).map(|_| take(heap, 1 << 20).unwrap()).collect();
    blocks.into_iter().for_each(|block| give(heap, block));
    let (age_ns, young, cold) = ages();
    assert!(age_ns == 0 && young > 90_000 && cold == 0, "{young} and {cold} pages");
    let config = KswapdConfig { purges_cold: false, ..KswapdConfig::default() };
    let mut kswapd = Kswapd::new(mm, config, 0);
    kswapd.round(mm, None);
    assert_eq!(ages(), (40_000_000, young, 0));
    for _ in 0..4 {
        machine.advance_ns(20_000_000);
        kswapd.round(mm, None);
    }
    assert_eq!(ages(), (40_000_000, 0, young));
}

/// Where callers do the rounds, a pause does not age what the program left: it comes back for it.
#[test]
fn memory_does_not_age_while_all_sleep() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    let mut cycle = |asleep: &mut u64, pause: u64| {
        let blocks: Vec<_> = (0..1000).map(|_| take(heap, 100_000).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        let before = mm.pages().charged();
        machine.advance_ns(pause);
        *asleep += pause;
        kswapd.note_sleep(*asleep);
        kswapd.round(mm, Some(heap));
        before - mm.pages().charged()
    };
    let mut asleep = 0;
    for _ in 0..10 {
        assert_eq!(cycle(&mut asleep, 3_000_000_000), 0);
    }
    // The same time awake.
    machine.advance_ns(3_000_000_000);
    kswapd.round(mm, Some(heap));
    assert!(mm.pages().charged() < 1000, "{}", mm.pages().charged());
}

/// A free that comes first after a pause knows nothing of it: what it leaves ages all the same.
#[test]
fn what_is_freed_right_after_a_pause_ages() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    let block = take(heap, 8 << 20).unwrap();
    machine.advance_ns(40_000_000_000);
    give(heap, block);
    kswapd.note_sleep(40_000_000_000);
    kswapd.round(mm, Some(heap));
    assert!(mm.pages().charged() >= (8 << 20) / PAGE_SIZE);
    for _ in 0..150 {
        machine.advance_ns(20_000_000);
        kswapd.round(mm, Some(heap));
    }
    assert!(mm.pages().charged() < 1000, "{}", mm.pages().charged());
}

/// What was used while nobody was on duty is as young as when it was left.
#[test]
fn kswapd_that_comes_on_duty_finds_nothing_cold() {
    let machine = FakeBuilder::new().build();
    machine.advance_ns(1 << 50);
    let (mm, heap) = start(machine, Config::default());
    let purges = || machine.calls(Call::Purge) + machine.calls(Call::PurgeMany);
    for _ in 0..2 {
        let blocks: Vec<_> = (0..1000).map(|_| take(heap, 50_000).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
        assert!(mm.doorbell().claim());
        let before = purges();
        kswapd.round(mm, None);
        machine.advance_ns(20_000_000);
        kswapd.round(mm, None);
        assert_eq!(purges(), before, "after 20 ms");
        while let Next::Sleep(ns) = kswapd.round(mm, None) {
            machine.advance_ns(ns);
        }
        assert!(purges() > before && mm.doorbell().retire());
        machine.advance_ns(1 << 40);
    }
}

/// The clock of chunks and slabs has 32 bits of 17 ms each.
#[test]
fn the_clock_of_ages_may_wrap() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    mm.pages().set_generation(u32::MAX);
    let blocks: Vec<_> = (0..20_000).map(|_| take(heap, 1000).unwrap()).collect();
    let peak = mm.pages().charged();
    blocks.into_iter().step_by(2).for_each(|block| give(heap, block));
    let more: Vec<_> = (0..200).map(|_| take(heap, 100_000).unwrap()).collect();
    more.into_iter().for_each(|block| give(heap, block));
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    machine.advance_ns(20_000_000);
    kswapd.round(mm, None);
    assert!(mm.pages().generation() < 10, "it has wrapped");
    assert!(mm.pages().charged() > peak, "too young");
    for _ in 0..10 {
        machine.advance_ns(20_000_000);
        kswapd.round(mm, None);
    }
    assert!(mm.pages().charged() <= peak, "{} of {peak}", mm.pages().charged());
    mm.validate(Some(heap)).unwrap();
}

/// Free pages that the system does not take, such as locked ones, keep nobody on duty.
#[test]
fn kswapd_goes_home_where_nothing_can_be_purged() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let blocks: Vec<_> = (0..1000).map(|_| take(heap, 50_000).unwrap()).collect();
    blocks.into_iter().for_each(|block| give(heap, block));
    machine.fail_from(Call::Purge, 1, Errno::EINVAL);
    machine.fail_from(Call::PurgeMany, 1, Errno::EINVAL);
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    assert!(mm.doorbell().claim());
    let mut slept = 0;
    while let Next::Sleep(ns) = kswapd.round(mm, None) {
        machine.advance_ns(ns);
        slept += ns;
        assert!(slept < 10_000_000_000, "it goes home");
    }
    assert!(mm.pages().nr_free_resident() > 1000);
    let calls = machine.calls(Call::Purge);
    assert!((1..100).contains(&calls), "{calls} calls");
}

/// The heap of a thread that has ended is drained, and so is what others send to it later.
#[test]
fn kswapd_drains_the_dead() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let other = mm.attach().unwrap();
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    let mut settle = || {
        for _ in 0..400 {
            kswapd.round(mm, None);
            machine.advance_ns(100_000_000);
        }
        mm.pages().charged() * PAGE_SIZE
    };
    let blocks: Vec<_> = (0..20_000).map(|_| take(heap, 1000).unwrap()).collect();
    let (early, late) = blocks.split_at(10_000);
    early.iter().for_each(|&block| give(heap, block));
    // SAFETY: the heap is not used any more.
    unsafe { mm.detach(heap) };
    let half = settle();
    assert!(half < 13 << 20, "{half} bytes");
    late.iter().for_each(|&block| give(other, block));
    let rest = settle();
    assert!(rest < 1 << 20, "{rest} bytes");
}
