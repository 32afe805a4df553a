//! What is kept until what was wanted again has been paid for.

use super::*;

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
        let mut kswapd = Kswapd::new(mm, KswapdConfig::default(), 0);
        let mut rounds = |count: usize| {
            for _ in 0..count {
                machine.advance_ns(20 * MS);
                kswapd.begin_wait(mm);
                kswapd.round(mm, own);
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
