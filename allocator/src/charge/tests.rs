//! One budget: limits are final, caps give way.

use super::*;
use crate::watermark::WatermarkLevel::{Low, Min, Reserve};

const MARKS: Watermarks = Watermarks { min: 10, low: 20, high: 30 };

const EDGE: Edge = Edge { from: 90, killed_from: 100 };

/// One at which nobody is killed.
const A_CAP: Cap = Cap { pages: 100, marks: MARKS, edge: Edge::NONE };

#[test]
fn a_cap_asks_for_headroom_and_lets_the_last_try_pass() {
    let budget = Budget::new(UNLIMITED, WatermarkFactors::DEFAULT);
    budget.set_cap(A_CAP);
    assert!(budget.try_charge(80, Low));
    assert!(!budget.try_charge(1, Low) && budget.try_charge(10, Min));
    assert!(!budget.try_charge(1, Min) && budget.is_capped(1));
    assert_eq!(budget.shortfall(), 20);
    assert!(budget.try_charge(50, Reserve));
    assert_eq!(budget.shortfall(), 70);
    budget.yield_cap(5, 0, true);
    assert!(budget.try_charge(5, Low) && !budget.try_charge(1, Low));
    budget.set_cap(Cap::NONE);
    assert!(budget.try_charge(1000, Low) && budget.shortfall() == 0);
}

#[test]
fn a_cap_that_gave_way_is_as_it_was_for_the_reclaimer() {
    let budget = Budget::new(UNLIMITED, WatermarkFactors::DEFAULT);
    budget.set_cap(A_CAP);
    budget.charge(95);
    assert!(budget.is_capped(1));
    budget.yield_cap(0, 20, false);
    assert!(!budget.is_capped(5) && budget.is_capped(6));
    budget.yield_cap(0, 20, true);
    assert!(!budget.is_capped(20) && budget.is_capped(21));
    assert_eq!(budget.shortfall(), 25);
    // The next reading counts again.
    budget.set_cap(A_CAP);
    assert!(budget.is_capped(1));
}

#[test]
fn a_limit_is_final() {
    let budget = Budget::new(1000, WatermarkFactors::DEFAULT);
    assert!(budget.try_charge(1000, Reserve) && !budget.try_charge(1, Reserve));
    assert!(!budget.is_capped(1));
    assert_eq!(budget.shortfall(), budget.marks().high);
}

#[test]
fn the_tighter_cap_is_the_one_that_wakes_first() {
    let early = A_CAP;
    let late = Cap { pages: 95, marks: Watermarks { min: 1, low: 2, high: 3 }, edge: EDGE };
    assert_eq!(late.tighter(early), Cap { edge: EDGE, ..early });
    assert_eq!(early.tighter(Cap::NONE), early);
}

#[test]
fn the_edge_may_lie_beyond_the_cap() {
    let budget = Budget::new(UNLIMITED, WatermarkFactors::DEFAULT);
    budget.set_cap(Cap { edge: Edge { from: 120, killed_from: 130 }, ..A_CAP });
    budget.charge(95);
    assert!(budget.is_capped(10) && !budget.is_at_edge(25) && budget.is_at_edge(26));
    budget.set_cap(A_CAP);
    assert!(budget.is_capped(10_000) && !budget.is_at_edge(10_000));
}

#[test]
fn grace_is_short_from_the_edge_to_the_killer_only() {
    // A step is a quarter of the way.
    let edge = Edge { from: 9_960, killed_from: 10_000 };
    let passed = [95, 8_960, 8_961, 9_900, 9_955, 9_999, 10_000].map(|at| edge.grace(at, 1000));
    assert_eq!(passed, [1000, 1000, 999, 60, 10, 10, 1000]);
    assert_eq!(Edge::NONE.grace(9_999, 1000), 1000);

    let budget = Budget::new(UNLIMITED, WatermarkFactors::DEFAULT);
    budget.set_cap(Cap { edge: EDGE, ..A_CAP });
    budget.charge(95);
    budget.yield_cap(1, 1000, true);
    assert!(!budget.is_capped(3) && budget.is_capped(4));
    // It did not come.
    budget.charge(5);
    budget.yield_cap(1, 1000, true);
    assert!(!budget.is_capped(1001) && budget.is_capped(1002));
}

#[test]
fn a_soft_limit_has_its_own_marks_and_the_edge_of_the_group() {
    let soft = Cap::of_soft_limit(1000, 10);
    let group =
        Cap { pages: 50_000, marks: MARKS, edge: Edge { from: 48_000, killed_from: 50_000 } };
    let both = soft.tighter(group);
    assert_eq!(both, Cap { edge: group.edge, ..soft });
    assert_eq!(both, group.tighter(soft));
    assert_eq!(both.edge.grace(1000, 1024), 1024);
}
