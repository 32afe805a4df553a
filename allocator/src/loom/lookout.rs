//! Who looks: of several callers that find the last look old, one; and what is on its way out is
//! counted until it has left.
//!
//! Fault: `lookout_due_blind` (several look).

use loom::sync::Arc;
use loom::thread;

use super::{check, reached};
use crate::lookout::Lookout;

const AGE: u64 = 100;

#[test]
fn callers() {
    check("lookout:callers", &["side-by-side", "one-after-another", "somebody-leaves"], || {
        let lookout = Arc::new(Lookout::new());
        let call = |lookout: &Lookout, now| {
            lookout.begin_leaving(3);
            let is_due = lookout.is_due(now, AGE);
            lookout.end_leaving(3);
            is_due
        };
        let others = [AGE, AGE + 1].map(|now| {
            let lookout = Arc::clone(&lookout);
            thread::spawn(move || call(&lookout, now))
        });
        if lookout.leaving() > 0 {
            reached("somebody-leaves");
        }
        let told = others.map(|thread| thread.join().unwrap());
        assert_ne!(told, [true; 2], "two look at one time");
        assert_ne!(told, [false; 2], "nobody looks");
        reached(if told[0] { "one-after-another" } else { "side-by-side" });
        assert_eq!(lookout.leaving(), 0);
        assert!(!lookout.is_due(2 * AGE - 1, AGE) && lookout.is_due(2 * AGE + 1, AGE));
    });
}
