//! Loads that free and allocate in cycles, with a simulated clock: what they pay for purging.

use super::*;

const MS: u64 = 1_000_000;
/// What a cycle allocates.
const WORK: usize = 16 << 20;

/// A program and its background reclaimer, with a clock of their own.
struct Cycles {
    machine: &'static FakeMachine,
    mm: &'static Mm,
    heap: NonNull<Heap>,
    keeper: Option<Kswapd>,
    is_on_duty: bool,
    /// When the keeper wakes.
    wakes_at: u64,
    seed: u64,
    /// The processor time of a cycle, by which it pays for what it wants again: at once.
    works_ns: u64,
    /// For so long it keeps what it allocated.
    holds_ns: u64,
}

impl Cycles {
    fn new() -> Cycles {
        let machine = FakeBuilder::new().build();
        let (mm, heap) = start(machine, Config::default());
        Cycles {
            machine,
            mm,
            heap,
            keeper: None,
            is_on_duty: false,
            wakes_at: 0,
            seed: 5,
            works_ns: 1 << 40,
            holds_ns: 2 * MS,
        }
    }

    fn now(&self) -> u64 {
        self.mm.machine().now_ns()
    }

    fn next(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    /// Lets time pass, with the rounds that are due meanwhile.
    fn rest(&mut self, ns: u64) {
        let end = self.now() + ns;
        if self.mm.doorbell().wants_keeper() && self.mm.doorbell().claim() {
            let config = KswapdConfig::default();
            match &mut self.keeper {
                Some(keeper) => keeper.resume(self.mm, config, 0),
                None => self.keeper = Some(Kswapd::new(self.mm, config, 0)),
            }
            self.is_on_duty = true;
            self.wakes_at = self.now();
        }
        while let Some(keeper) = &mut self.keeper
            && self.is_on_duty
            && self.wakes_at <= end
        {
            self.machine.advance_ns(self.wakes_at.saturating_sub(self.mm.machine().now_ns()));
            match keeper.round(self.mm, None) {
                Next::Sleep(ns) => {
                    keeper.begin_wait(self.mm);
                    self.wakes_at = self.now() + ns;
                }
                Next::Retire if self.mm.doorbell().retire() => self.is_on_duty = false,
                Next::Retire => {}
            }
        }
        // A round may have taken longer.
        self.machine.advance_ns(end.saturating_sub(self.now()));
    }

    /// Objects of up to 8 KiB, small ones being many; all freed in random order.
    fn work(&mut self) {
        let mut blocks = Vec::new();
        let mut bytes = 0;
        while bytes < WORK {
            let most = 1 << (4 + self.next(10));
            let size = 16 + self.next(most) as usize;
            blocks.push(take(self.heap, size).unwrap());
            bytes += size;
        }
        self.machine.work_ns(self.works_ns);
        self.rest(self.holds_ns);
        for i in (1..blocks.len()).rev() {
            let j = self.next(i as u64 + 1) as usize;
            blocks.swap(i, j);
        }
        blocks.into_iter().for_each(|block| give(self.heap, block));
    }

    /// The pages that a cycle of `period` has to get anew.
    fn cycle(&mut self, period: u64) -> u64 {
        let (start, before) = (self.now(), self.faults());
        self.work();
        self.rest(period - (self.now() - start));
        self.faults() - before
    }

    fn charged(&self) -> usize {
        self.mm.pages().charged()
    }

    /// Pages that got their memory anew so far.
    fn faults(&self) -> u64 {
        self.mm.pages().zone_stats(node(0)).unwrap().events.pgfault
    }
}

/// What a program has left that works once and rests, after half a second and in the end.
fn left_by_one() -> (usize, usize) {
    let mut once = Cycles::new();
    once.work();
    once.rest(450 * MS);
    let soon = once.charged();
    once.rest(2000 * MS);
    (soon, once.charged())
}

#[test]
fn the_first_rest_gives_back_within_half_a_second() {
    let (soon, at_last) = left_by_one();
    assert!(soon * 100 <= at_last * 103, "{soon} pages, later {at_last}");
    assert!(at_last * PAGE_SIZE * 3 < WORK * 2, "{at_last} pages");
}

/// Nobody looked when it was used, which may have been just before the look.
#[test]
fn what_was_used_in_a_long_sleep_of_the_keeper_is_young() {
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

/// The first pause is paid for: nobody knows better. From the second cycle on next to nothing is purged
/// that is wanted again, whatever the period; and the program that stops gives back as much as ever,
/// after what it has taught.
#[test]
fn cycles_pay_for_purging_once() {
    const NR_CYCLES: u64 = 48;
    let (_, least) = left_by_one();
    for period in [50, 100, 250, 500, 1000, 2000, 3000, 5000] {
        let mut load = Cycles::new();
        let [first, _] = [(); 2].map(|()| load.cycle(period * MS));
        let later: Vec<_> = (2..NR_CYCLES).map(|_| load.cycle(period * MS)).collect();
        let share = later.iter().sum::<u64>() * 1000 / (first * later.len() as u64);
        assert!(share < 10, "every {period} ms: {share} of 1,000 pages, {later:?}");
        load.rest(12_000 * MS);
        let left = load.charged();
        assert!(left * 100 <= least * 125, "every {period} ms: {left} pages, else {least}");
        load.mm.validate(Some(load.heap)).unwrap();
    }
}

/// Nor does each pause that is longer than those before cost as much as the first: a program pays for that
/// with a thirtieth of its time at most.
#[test]
fn cycles_of_growing_and_mixed_periods_pay_once() {
    let (_, least) = left_by_one();
    for periods in [
        [50, 50, 50, 100, 100, 200, 200, 500, 50, 50, 1000, 2000],
        [50, 2000, 100, 1000, 200, 50, 500, 2000, 100, 50, 1000, 1000],
        [50, 60, 90, 130, 200, 300, 450, 600, 900, 1300, 1900, 2000],
    ] {
        let mut load = Cycles { works_ns: 5 * MS, ..Cycles::new() };
        let first = load.cycle(50 * MS);
        let again: Vec<_> = periods.map(|period| load.cycle(period * MS)).to_vec();
        let sum: u64 = again.iter().sum();
        assert!(sum * 2 < first, "{sum} pages, {first} at first: {again:?}");
        // What it then leaves goes back.
        load.rest(12_000 * MS);
        let left = load.charged();
        assert!(left * 100 <= least * 125, "{left} pages, else {least}");
    }
}

/// What a program keeps is what it had when it wanted something back: more than that goes as soon as ever, and
/// what other threads left goes before nobody looks any more.
#[test]
fn what_is_beyond_the_working_set_goes_soon() {
    let mut load = Cycles { works_ns: MS, ..Cycles::new() };
    let [first, again, _, _] = [(); 4].map(|()| load.cycle(450 * MS));
    assert!(again * 2 > first, "{again} of {first} pages were wanted again");
    let set = load.charged();
    let burst: Vec<_> = (0..2000).map(|_| take(load.heap, 100_000).unwrap()).collect();
    let peak = load.charged();
    assert!(peak > 8 * set);
    burst.into_iter().for_each(|block| give(load.heap, block));
    load.rest(1700 * MS);
    assert!(load.charged() < 2 * set, "{} of {peak}, {set} before", load.charged());
    assert!(load.charged() > set / 2, "{} of {set}", load.charged());
}

/// To be awake pays as well as work, where the processor time cannot be told or callers do the rounds.
#[test]
fn who_does_not_know_what_was_worked_pays_by_being_awake() {
    for in_caller in [false, true] {
        let machine = FakeBuilder::new().build();
        let (mm, heap) = start(machine, Config::default());
        let own = in_caller.then_some(heap);
        let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
        let mut rounds = |count: usize| {
            for _ in 0..count {
                machine.advance_ns(20 * MS);
                keeper.begin_wait(mm);
                keeper.round(mm, own);
            }
        };
        let work = || {
            let blocks: Vec<_> = (0..160).map(|_| take(heap, 100_000).unwrap()).collect();
            blocks.into_iter().for_each(|block| give(heap, block));
            mm.pages().charged()
        };
        let peak = work();
        rounds(4);
        assert!(mm.pages().charged() < peak / 2);
        work();
        rounds(1);
        work();
        // The age that was learnt has passed.
        rounds(10);
        assert!(mm.pages().charged() > peak / 2, "{} of {peak}", mm.pages().charged());
        // 32 times 8 ms of refaults are paid.
        rounds(10);
        assert!(mm.pages().charged() < peak / 2, "{} of {peak}", mm.pages().charged());
    }
}

/// They drain a heap late, and what it held is cold in the zone still later.
#[test]
fn threads_that_rest_leave_nothing_once_nobody_looks() {
    for pays_after in [60_000, 1500, 2100, 2300, 2500, 2700, 2900, 4000] {
        let mut load = Cycles { works_ns: MS, ..Cycles::new() };
        let heaps: Vec<_> = (0..16).map(|_| load.mm.attach().unwrap()).collect();
        for _ in 0..2 {
            load.cycle(100 * MS);
        }
        for &heap in &heaps {
            let blocks: Vec<_> =
                (0..20).map(|i| take(heap, 1000 * (i % 10 + 1)).unwrap()).collect();
            blocks.into_iter().for_each(|block| give(heap, block));
        }
        load.rest(pays_after * MS);
        load.machine.work_ns(1 << 40);
        load.rest(60_000 * MS);
        assert!(!load.is_on_duty);
        assert_eq!(load.mm.pages().nr_free_resident(), 0, "paid after {pays_after} ms");
    }
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

/// A program that is stopped before its keeper could purge gives back afterwards.
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
    let mut keeper = Kswapd::new(mm, KswapdConfig::default(), 0);
    let (mut asleep, mut purged) = (0, 0);
    for _ in 0..20 {
        let blocks: Vec<_> = (0..1000).map(|_| take(heap, 100_000).unwrap()).collect();
        blocks.into_iter().for_each(|block| give(heap, block));
        let peak = mm.pages().charged();
        for _ in 0..5 {
            machine.advance_ns(20 * MS);
            keeper.round(mm, Some(heap));
        }
        purged += usize::from(mm.pages().charged() < peak);
        machine.advance_ns(PAUSE);
        asleep += PAUSE;
        keeper.note_sleep(asleep);
        keeper.round(mm, Some(heap));
    }
    assert!(purged > 0);
    let peak = mm.pages().charged();
    for _ in 0..25 {
        machine.advance_ns(20 * MS);
        keeper.round(mm, Some(heap));
    }
    assert!(mm.pages().charged() * 10 < peak, "{} of {peak}", mm.pages().charged());
}

/// A busy load that leaves a little and grows by much is no cycle: when it ends, memory goes back as
/// soon as ever.
#[test]
fn a_busy_load_that_grows_teaches_no_long_age() {
    let mut load = Cycles::new();
    let some = |load: &mut Cycles, nr: usize| -> Vec<_> {
        (0..nr).map(|_| take(load.heap, 30_000).unwrap()).collect()
    };
    let mut kept = Vec::new();
    for _ in 0..4 {
        let left = some(&mut load, 100);
        left.into_iter().for_each(|block| give(load.heap, block));
        for _ in 0..100 {
            let block = take(load.heap, 30_000).unwrap();
            load.rest(10 * MS);
            give(load.heap, block);
        }
        kept.extend(some(&mut load, 2000));
    }
    let peak = load.charged();
    kept.into_iter().for_each(|block| give(load.heap, block));
    // The keeper looks late, since it was quiet for a second.
    load.rest(400 * MS);
    assert!(load.charged() * 10 < peak, "{} of {peak}", load.charged());
}
