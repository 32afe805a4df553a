//! Threads that end: what they taught is not what the others want.

use super::*;

/// The load's work is that of the next thread.
fn begin(load: &mut Cycles) {
    load.heap = load.mm.attach().unwrap();
}

/// That thread ends.
fn end(load: &mut Cycles) {
    // SAFETY: the heap is not used any more.
    unsafe { load.mm.detach(load.heap) };
}

/// It is kept for seconds while they live, and goes in less than one once they have ended.
#[test]
fn what_was_wanted_again_by_threads_that_ended_goes_soon() {
    for ends in [false, true] {
        let mut load = Cycles { works_ns: MS, ..Cycles::new() };
        begin(&mut load);
        let [first, again, _, _] = [(); 4].map(|()| load.cycle(450 * MS));
        assert!(again * 2 > first, "{again} of {first} pages were wanted again");
        load.work();
        let set = load.charged();
        if ends {
            end(&mut load);
        }
        load.rest(700 * MS);
        let left = load.charged();
        assert_eq!(left * 10 < set, ends, "{left} of {set}");
        load.rest(60_000 * MS);
        assert!(!load.is_on_duty && load.charged() * 2 < set, "{} of {set}", load.charged());
        load.mm.validate(None).unwrap();
    }
}

/// They may be those of one of many cycles, which begins with new ones: that is learnt, once more than by threads
/// that stay.
#[test]
fn cycles_of_threads_that_end_pay_for_it_twice() {
    for period in [100, 250, 500, 1000, 2000] {
        let mut load = Cycles::new();
        let faults: Vec<_> = (0..28)
            .map(|turn| {
                // What the first ones teach is too short for the others.
                let period = if turn < 4 { 50 } else { period };
                begin(&mut load);
                let (start, before) = (load.now(), load.faults());
                load.work();
                end(&mut load);
                load.rest(period * MS - (load.now() - start));
                load.faults() - before
            })
            .collect();
        let (first, later) = (faults[0], faults[8..].iter().sum::<u64>());
        assert!(faults[1..8].iter().sum::<u64>() < 3 * first, "every {period} ms: {faults:?}");
        let share = later * 1000 / (first * 20);
        assert!(share < 10, "every {period} ms: {share} of 1,000 pages, {faults:?}");
    }
}
