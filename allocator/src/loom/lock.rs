//! The zone lock: one holder at a time, who sees what the last one wrote, and no waiter forgotten.
//!
//! Faults: `lock_release_relaxed` (the next holder misses writes), `futex_no_wake` (a waiter sleeps
//! for ever), `lock_leaves_early` (a waiter whose errand is done takes the wake of another with it).

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::{check, reached};
use crate::lock::{FutexLock, Mutex};

#[test]
fn waiters() {
    check("lock:waiters", &["sleep", "late-sleep"], || {
        let sum = Arc::new(Mutex::new(0));
        let others = [1, 2].map(|n| {
            let sum = Arc::clone(&sum);
            thread::spawn(move || *sum.lock() += n)
        });
        *sum.lock() += 4;
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*sum.lock(), 7);
    });
}

/// A thread that comes for the lock to have something done, unless it is.
fn client_of(shared: &Arc<(FutexLock, AtomicBool)>) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        if shared.0.acquire_unless(|| shared.1.load(Relaxed)) {
            reached("served");
            shared.0.release();
        } else {
            reached("left");
        }
    })
}

/// One waiter leaves when what it came for is done, told by a wake for all or by the one of a release;
/// the other one is not forgotten.
#[test]
fn errands() {
    for tells in [false, true] {
        check("lock:errands", &["sleep", "served", "left"], move || {
            let shared = Arc::new((FutexLock::new(), AtomicBool::new(false)));
            shared.0.acquire();
            let client = client_of(&shared);
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.0.acquire();
                    shared.0.release();
                })
            };
            shared.1.store(true, Relaxed);
            if tells {
                shared.0.wake_all();
            }
            shared.0.release();
            client.join().unwrap();
            other.join().unwrap();
            assert!(!shared.0.is_held());
        });
    }
}

/// Who did the errand does not hold the lock, as a thread that grew a zone while another one adds a section.
#[test]
fn errands_of_others() {
    check("lock:others", &["sleep", "served", "left"], || {
        let shared = Arc::new((FutexLock::new(), AtomicBool::new(false)));
        shared.0.acquire();
        let client = client_of(&shared);
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.1.store(true, Relaxed);
                shared.0.wake_all();
            })
        };
        shared.0.release();
        client.join().unwrap();
        other.join().unwrap();
        assert!(!shared.0.is_held());
    });
}

#[test]
fn try_acquire() {
    check("lock:try", &["taken", "refused"], || {
        let shared = Arc::new((FutexLock::new(), UnsafeCell::new(0)));
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.0.acquire();
                add(&shared.1);
                shared.0.release();
            })
        };
        if shared.0.try_acquire() {
            reached("taken");
            add(&shared.1);
            shared.0.release();
        } else {
            reached("refused");
        }
        other.join().unwrap();
        assert!(!shared.0.is_held());
    });
}

fn add(cell: &UnsafeCell<u32>) {
    // SAFETY: under the lock.
    cell.with_mut(|n| unsafe { *n += 1 });
}
