//! Whether the samples say the truth about what was allocated.

use super::live::{Filter, Live, Object, Slot};
use super::*;
use crate::sync::atomic::AtomicU8;
use zonal_numa::Machine;

const PERIOD: u64 = 512 << 10;

fn profile(period: u64) -> &'static Profile {
    Profile::new(&Machine::linux(), period).unwrap()
}

/// Allocates `count` objects of `size` at made-up addresses, all by the stack `[frame]`.
fn allocate(profile: &Profile, countdown: &Countdown, size: usize, count: usize, frame: usize) {
    for i in 0..count {
        if countdown.spend(size) && countdown.draw(size, profile.period(), || 0x5eed) {
            let addr = (frame << 40) + i * size.next_multiple_of(16);
            profile.sampled(addr, size, Weight::of(size, profile.period()), &[frame]);
        }
    }
}

fn figures(profile: &Profile, frame: usize) -> StackFigures {
    let mut found = StackFigures::default();
    profile.each_stack(|figures, frames| {
        if frames == [frame] {
            found = *figures;
        }
    });
    found
}

/// With n samples the relative error has a deviation of 1/sqrt(n): four of them are allowed.
fn assert_near(what: &str, found: u64, truth: u64, samples: u64) {
    let (found, truth) = (found as f64, truth as f64);
    let allowed = truth * 4.0 / (samples as f64).sqrt();
    assert!((found - truth).abs() < allowed, "{what}: {found} is not {truth} +- {allowed}");
}

#[test]
fn sums_are_unbiased_for_small_medium_and_large_objects() {
    let (profile, countdown) = (profile(64 << 10), Countdown::new());
    for (frame, size, count) in
        [(1, 48, 4_000_000), (2, 5_000, 40_000), (3, 100_000, 4_000), (4, 3_000_000, 200)]
    {
        allocate(profile, &countdown, size, count, frame);
        let found = figures(profile, frame);
        let (bytes, count) = ((size * count) as u64, count as u64);
        let samples = (bytes / (64 << 10)).min(count);
        assert_near("bytes", found.total_bytes, bytes, samples);
        assert_near("objects", found.total, count, samples);
        assert_eq!((found.live, found.live_bytes), (found.total, found.total_bytes));
    }
}

#[test]
fn gaps_are_exponential() {
    let countdown = Countdown::new();
    // A size of 1 would take a call for every byte; the distribution shows through the chance that
    // an object of any size is sampled: 1 - e^-(size/period).
    for (size, chance) in [(PERIOD as usize / 10, 0.0952), (PERIOD as usize, 0.6321)] {
        countdown.reset();
        let n = 200_000;
        let hits = (0..n).filter(|_| countdown.spend(size) && countdown.draw(size, PERIOD, || 7));
        let share = hits.count() as f64 / f64::from(n);
        assert!((share - chance).abs() < 0.005, "{size}: {share} is not {chance}");
    }
}

#[test]
fn weights_agree_with_the_formula() {
    for size in [1, 16, 1000, 100_000, PERIOD as usize, 10 * PERIOD as usize, usize::MAX >> 1] {
        let exact = 256.0 / -(-(size as f64) / PERIOD as f64).exp_m1();
        let found = Weight::of(size, PERIOD).objects() as f64;
        assert!((found - exact).abs() <= 0.5 + exact * 1e-9, "{size}: {found} is not {exact}");
    }
    assert_eq!(Weight::of(64, 1).objects(), 256, "every object counts once at the smallest period");
}

#[test]
fn what_is_freed_is_live_no_more() {
    let profile = profile(1);
    for i in 0..1000 {
        profile.sampled(0x7000_0000 + i * 64, 64, Weight::of(64, 1), &[1, 2, 3]);
    }
    for i in 0..1000 {
        let addr = 0x7000_0000 + i * 64;
        assert!(profile.may_be_sampled(addr));
        if i % 2 == 0 {
            profile.gone(addr);
            // A second time, and an address nobody knows: nothing happens.
            profile.gone(addr);
            profile.gone(addr + 8);
        }
    }
    let mut seen = 0;
    profile.each_stack(|figures, frames| {
        assert_eq!(frames, [1, 2, 3]);
        let truth =
            StackFigures { live: 500, live_bytes: 32_000, total: 1000, total_bytes: 64_000 };
        assert_eq!(*figures, truth);
        seen += 1;
    });
    assert_eq!((seen, profile.nr_lost()), (1, 0));
    (0..1000).for_each(|i| profile.gone(0x7000_0000 + i * 64));
    assert!(!profile.may_be_sampled(0x7000_0000), "the filter is empty again");
}

#[test]
fn full_tables_lose_places_but_no_sums() {
    let profile = profile(1);
    let n = 2 * NR_LIVE;
    for i in 0..n {
        let frames = [i + 1; 20];
        profile.sampled(0x10_0000 + i * 16, 16, Weight::of(16, 1), &frames);
    }
    let (mut total, mut live, mut without, mut with) = (0, 0, 0, 0);
    profile.each_stack(|figures, frames| {
        total += figures.total;
        live += figures.live;
        *if frames.is_empty() { &mut without } else { &mut with } += figures.total;
    });
    assert_eq!(total, n as u64);
    assert_eq!(live + profile.nr_lost(), n as u64);
    assert!(profile.nr_lost() >= (n - NR_LIVE) as u64);
    assert!(with > NR_STACKS as u64 / 2 && without > 0, "{with} stacks kept, {without} lost");
}

#[test]
fn a_restart_forgets_all() {
    let profile = profile(1);
    for i in 0..100 {
        profile.sampled(0x5000_0000 + i * 4096, 64, Weight::of(64, 1), &[i + 1]);
    }
    profile.restart(1000);
    assert_eq!(profile.period(), 1000);
    profile.each_stack(|figures, _| panic!("{figures:?}"));
    assert!((0..100).all(|i| !profile.may_be_sampled(0x5000_0000 + i * 4096)));
    profile.sampled(0x5000_0000, 64, Weight::of(64, 64), &[1, 2]);
    let mut seen = 0;
    profile.each_stack(|_, frames| {
        assert_eq!(frames, [1, 2]);
        seen += 1;
    });
    assert_eq!(seen, 1);
}

#[test]
fn a_filter_byte_that_reached_its_limit_stays() {
    let pages = Box::leak(Box::new([(); 4].map(|()| AtomicU8::new(0))));
    let filter = Filter::new(pages);
    (0..300).for_each(|_| filter.add(0x1000));
    assert!(!filter.has(0x2000));
    (0..300).for_each(|_| filter.remove(0x1000));
    assert!(filter.has(0x1000), "its count is not known any more");
}

#[test]
fn slots_are_used_again() {
    let slots: Vec<Slot> = (0..64).map(|_| Slot::new()).collect();
    let live = Live::new(Vec::leak(slots));
    let object = |addr| Object { addr, size: addr, stack: 0, weight: Weight::default() };
    for round in 1..100 {
        for i in 0..64 {
            assert!(live.insert(object(round * 4096 + i * 8)));
        }
        assert!(!live.insert(object(8)), "full");
        for i in 0..64 {
            let addr = round * 4096 + i * 8;
            assert_eq!(live.remove(addr).map(|found| found.size), Some(addr));
        }
    }
}
