//! What counts as time: for what lies there, and for what is learnt.

use super::*;

/// Nobody looked when it was used, which may have been just before the look.
#[test]
fn what_was_used_in_a_long_sleep_of_kswapd_is_young() {
    let mut load = Cycles::new();
    // So little that it teaches nothing.
    let one = take(load.heap, 100_000).unwrap();
    give(load.heap, one);
    load.rest(1000 * MS);
    // Until a moment before it wakes.
    load.rest(load.wakes_at - load.now() - 7 * MS);
    load.work();
    let peak = load.charged();
    load.rest(10 * MS);
    assert!(load.wakes_at > load.now() && load.charged() == peak, "{} of {peak}", load.charged());
    load.rest(700 * MS);
    assert!(load.charged() * 2 < peak, "{} of {peak}", load.charged());
}

/// A round that takes long is no stop of the process: memory ages meanwhile.
#[test]
fn a_long_round_is_no_stop() {
    const LONG: u64 = 3000 * MS;
    let slow_down = |load: &Cycles, ns: u64| {
        for call in [Call::Purge, Call::PurgeMany] {
            load.machine.slow(call, ns);
        }
    };
    let mut load = Cycles::new();
    load.work();
    load.rest(20 * MS);
    slow_down(&load, LONG);
    let (start, before) = (load.now(), load.mm.pages().generation());
    load.rest(40 * MS);
    let passed = load.now() - start;
    assert!(passed > LONG, "a round took long");
    slow_down(&load, 0);
    load.rest(40 * MS);
    let aged = u64::from(load.mm.pages().generation() - before) << 24;
    assert!(aged > passed - 100 * MS, "{aged} in {passed}");
}

/// Nor is it told that it was wrong by an hour in which nobody could ask.
#[test]
fn what_was_learnt_outlives_an_hour_without_a_round() {
    const HOUR: u64 = 3_600_000 * MS;
    for is_stopped in [false, true] {
        let mut load = Cycles::new();
        let first = load.cycle(1000 * MS);
        load.cycle(1000 * MS);
        assert!(load.cycle(1000 * MS) * 10 < first);
        if is_stopped {
            load.machine.advance_ns(HOUR);
        } else {
            load.rest(9000 * MS);
            assert!(!load.is_on_duty);
            load.rest(HOUR);
            assert!(load.cycle(1000 * MS) * 2 > first);
        }
        let again = load.cycle(1000 * MS);
        assert!(again * 10 < first, "{again} of {first}, stopped: {is_stopped}");
    }
}

/// A program that is stopped before kswapd could purge gives back afterwards.
#[test]
fn what_is_left_when_all_stop_goes_back_later() {
    let mut load = Cycles::new();
    load.work();
    let peak = load.charged();
    load.rest(10 * MS);
    load.machine.advance_ns(60_000 * MS);
    load.rest(10 * MS);
    assert_eq!(load.charged(), peak);
    load.rest(700 * MS);
    assert!(load.charged() * 3 < peak * 2, "{} of {peak}", load.charged());
}

/// Where callers do the rounds: what is purged within one burst and wanted in the next would have had to
/// stay for a burst, whatever time they slept between.
#[test]
fn sleep_between_bursts_makes_no_long_age() {
    const PAUSE: u64 = 5000 * MS;
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
    let (mut asleep, mut purged) = (0, 0);
    for _ in 0..20 {
        let blocks: Vec<_> = (0..1000).map(|_| take(heap, 100_000).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        let peak = mm.pages().charged();
        for _ in 0..5 {
            machine.advance_ns(20 * MS);
            kswapd.round(mm, Some(heap));
        }
        purged += usize::from(mm.pages().charged() < peak);
        machine.advance_ns(PAUSE);
        asleep += PAUSE;
        kswapd.note_sleep(asleep);
        kswapd.round(mm, Some(heap));
    }
    assert!(purged > 0);
    let peak = mm.pages().charged();
    for _ in 0..25 {
        machine.advance_ns(20 * MS);
        kswapd.round(mm, Some(heap));
    }
    assert!(mm.pages().charged() * 10 < peak, "{} of {peak}", mm.pages().charged());
}
