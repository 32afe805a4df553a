//! The doorbell: whatever is left to reclaim, somebody is or comes on duty.
//!
//! Faults: `doorbell_ring_relaxed`, `doorbell_retire_relaxed` (ringer and kswapd overlook each
//! other), `doorbell_retire_blind` (a ring during the last round is lost), `doorbell_hurry_silent`
//! (a wake comes before the sleep), `doorbell_wake_relaxed` (who counted a wake does not find what it was for),
//! `doorbell_round_silent` (nobody is told that a round is over).

use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
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

    /// A slow path: leaves something, rings, and starts kswapd where none is.
    fn leave_garbage(&self) {
        *self.garbage.lock() += 1;
        self.bell.ring();
        if self.bell.wants_kswapd() && self.bell.claim() {
            reached("started");
            self.keep();
        }
    }

    /// kswapd's life, from its claim on.
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
    check("doorbell:kswapd", &["started", "stayed", "served"], || {
        let rig = Rig::new();
        assert!(rig.bell.claim());
        let ringers = [(); 2].map(|()| {
            let rig = Arc::clone(&rig);
            thread::spawn(move || rig.leave_garbage())
        });
        rig.keep();
        ringers.into_iter().for_each(|thread| thread.join().unwrap());
        reached("served");
        assert_eq!(*rig.garbage.lock(), 0, "left, with nobody on duty");
    });
}

/// A kswapd that is about to sleep, or sleeps, wakes when it is hurried, and finds what was left. Here
/// nothing else wakes it.
#[test]
fn hurry() {
    check("doorbell:hurry", &["sleep", "late-sleep", "woken"], || {
        let rig = Rig::new();
        assert!(rig.bell.claim());
        let is_looking = Arc::new(AtomicBool::new(false));
        let caller = {
            let (rig, is_looking) = (Arc::clone(&rig), Arc::clone(&is_looking));
            thread::spawn(move || {
                while !is_looking.load(Acquire) {
                    thread::yield_now();
                }
                *rig.garbage.lock() += 1;
                rig.bell.hurry();
            })
        };
        rig.bell.answer();
        let hurries = rig.bell.hurries();
        is_looking.store(true, Release);
        rig.bell.sleep_unless_hurried(hurries, 0);
        reached("woken");
        assert!(rig.bell.answer(), "woken for nothing");
        assert_eq!(*rig.garbage.lock(), 1);
        caller.join().unwrap();
    });
}

/// A kswapd that counts, looks and then sleeps finds what somebody changed and woke it for, whenever that was. Here
/// nothing else wakes it.
#[test]
fn wake() {
    check("doorbell:wake", &["sleep", "late-sleep", "found"], || {
        let rig = Rig::new();
        assert!(rig.bell.claim());
        let is_over = Arc::new(AtomicBool::new(false));
        let other = {
            let (rig, is_over) = (Arc::clone(&rig), Arc::clone(&is_over));
            thread::spawn(move || {
                is_over.store(true, Relaxed);
                rig.bell.wake();
            })
        };
        let mut turns = 0;
        loop {
            let hurries = rig.bell.hurries();
            if is_over.load(Relaxed) {
                break;
            }
            turns += 1;
            assert!(turns < 3, "woken and overlooked");
            rig.bell.sleep_unless_hurried(hurries, 0);
        }
        reached("found");
        other.join().unwrap();
    });
}

/// Who waits for a round goes on when it is over, whenever it began to wait. Here nothing else wakes it.
#[test]
fn round() {
    check("doorbell:round", &["sleep", "late-sleep", "over"], || {
        let rig = Rig::new();
        assert!(rig.bell.claim());
        rig.bell.begin_round();
        let waiter = {
            let rig = Arc::clone(&rig);
            thread::spawn(move || {
                if !rig.bell.is_in_round() {
                    reached("over");
                }
                rig.bell.wait_for_round(0);
            })
        };
        rig.bell.end_round();
        waiter.join().unwrap();
    });
}
