//! The pool of room for kept runs: however reservations of several threads meet, they never pass its
//! bound, one of them has what is left, and nothing of it is lost.
//!
//! Fault: `kept_in_two_steps` (two threads see the same room).

use loom::sync::Arc;
use loom::thread;

use super::{check, reached};
use crate::large::kept_pool::{KeptPool, MOST};

/// Two of them are too much.
const PART: usize = MOST / 2 + 1;

#[test]
fn bound() {
    check("kept:bound", &["one-refused", "one-after-another"], || {
        let pool = Arc::new(KeptPool::new());
        let keep = |pool: &KeptPool| {
            let is_reserved = pool.reserve(PART, MOST);
            assert!(pool.reserved() <= MOST, "more is reserved than there is");
            if is_reserved {
                pool.unreserve(PART);
            }
            is_reserved
        };
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || keep(&pool))
        };
        let reserved = [keep(&pool), other.join().unwrap()];
        assert!(reserved.contains(&true), "both were refused");
        reached(if reserved == [true; 2] { "one-after-another" } else { "one-refused" });
        assert_eq!(pool.reserved(), 0);
    });
}
