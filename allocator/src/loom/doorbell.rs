//! The doorbell: whatever is left to reclaim, somebody is or comes on duty.
//!
//! Faults: `doorbell_ring_relaxed`, `doorbell_retire_relaxed` (ringer and keeper overlook each
//! other), `doorbell_retire_blind` (a ring during the last round is lost).
//!
//! [`Doorbell::hurry`] has no model: a keeper that it comes too early or too late for wakes at its
//! next tick anyhow, so nothing depends on the order.

use loom::sync::Arc;
use loom::thread;

use super::{check, reached};
use crate::doorbell::Doorbell;
use crate::lock::Mutex;

struct Rig {
    bell: Doorbell,
    garbage: Mutex<u32>,
}

impl Rig {
    fn new() -> Arc<Rig> {
        Arc::new(Rig { bell: Doorbell::new(), garbage: Mutex::new(0) })
    }

    /// A slow path: leaves something, rings, and starts a keeper where none is.
    fn leave(&self) {
        *self.garbage.lock() += 1;
        self.bell.ring();
        if self.bell.wants_keeper() && self.bell.claim() {
            reached("started");
            self.keep();
        }
    }

    /// The keeper's life, from its claim on.
    fn keep(&self) {
        loop {
            self.bell.answer();
            *self.garbage.lock() = 0;
            if self.bell.retire() {
                return;
            }
            reached("stayed");
        }
    }
}

#[test]
fn nothing_is_left() {
    check("doorbell:keeper", &["started", "stayed", "served"], || {
        let rig = Rig::new();
        assert!(rig.bell.claim());
        let ringers = [(); 2].map(|()| {
            let rig = Arc::clone(&rig);
            thread::spawn(move || rig.leave())
        });
        rig.keep();
        ringers.into_iter().for_each(|thread| thread.join().unwrap());
        reached("served");
        assert_eq!(*rig.garbage.lock(), 0, "left, with nobody on duty");
    });
}
