//! Loads that free and allocate in cycles, with a simulated clock: what they pay for purging.

mod clock;
mod ends;
mod huge;
mod owed;

use super::*;

const MS: u64 = 1_000_000;
/// What a cycle allocates.
const WORK: usize = 16 << 20;

/// A program and kswapd, with a clock of their own.
struct Cycles {
    machine: &'static FakeMachine,
    mm: &'static Mm,
    heap: OwnHeap,
    kswapd: Option<Kswapd>,
    is_on_duty: bool,
    /// When kswapd wakes.
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
            kswapd: None,
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
        if self.mm.doorbell().wants_kswapd() && self.mm.doorbell().claim() {
            let config = KswapdConfig::default();
            match &mut self.kswapd {
                Some(kswapd) => kswapd.resume(self.mm, config, 0),
                None => self.kswapd = Some(Kswapd::new(self.mm, config, 0)),
            }
            self.is_on_duty = true;
            self.wakes_at = self.now();
        }
        while let Some(kswapd) = &mut self.kswapd
            && self.is_on_duty
            && self.wakes_at <= end
        {
            self.machine.advance_ns(self.wakes_at.saturating_sub(self.mm.machine().now_ns()));
            match kswapd.round(self.mm, None) {
                Next::Sleep(ns) => {
                    kswapd.begin_wait(self.mm);
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

/// The first pause is paid for: nobody knows better. From the second cycle on next to nothing is purged
/// that is wanted again, whatever the period; and the program that stops gives back as much as ever,
/// after what it has taught.
#[test]
fn cycles_pay_for_purging_once() {
    const NR_CYCLES: u64 = 48;
    let (_, least) = left_by_one();
    let periods = [50, 100, 250, 500, 1000, 2000, 3000, 5000];
    // It has paid at once, or owes something for as long as it takes.
    for (period, works_ns) in periods.map(|it| [(it, 1 << 40), (it, 5 * MS)]).concat() {
        let mut load = Cycles { works_ns, ..Cycles::new() };
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
    // kswapd looks late, since it was quiet for a second.
    load.rest(400 * MS);
    assert!(load.charged() * 10 < peak, "{} of {peak}", load.charged());
}
