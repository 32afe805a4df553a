//! Charging: however requests of several threads meet, a limit is never passed, and what is free is
//! had by somebody.
//!
//! Fault: `charge_in_two_steps` (two requests see the same room).

use loom::sync::Arc;
use loom::thread;

use super::{check, reached};
use crate::charge::Budget;
use crate::watermark::{WatermarkFactors, WatermarkLevel};

const LIMIT: usize = 100;
const PART: usize = 60;

#[test]
fn limit() {
    check("charge:limit", &["one-refused", "one-after-another"], || {
        let budget = Arc::new(Budget::new(LIMIT, WatermarkFactors { scale: 0, boost: 0 }));
        let request = |budget: &Budget| {
            let passed = budget.try_charge(PART, WatermarkLevel::Min);
            assert!(budget.charged() <= LIMIT, "more is charged than allowed");
            if passed {
                budget.uncharge(PART);
            }
            passed
        };
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || request(&budget))
        };
        let passed = [request(&budget), other.join().unwrap()];
        assert!(passed.contains(&true), "both were refused");
        reached(if passed == [true; 2] { "one-after-another" } else { "one-refused" });
        assert_eq!(budget.charged(), 0);
    });
}
