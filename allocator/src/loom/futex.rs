//! Futexes in a model: a sleep really ends only by a wake, so that loom reports a lost one as a
//! deadlock.
//!
//! One queue serves all words, since no model has threads asleep on two. Like the kernel's, it is
//! guarded by a lock, which also orders the memory of sleeper and waker; models therefore do not
//! rest on executions with a sleep alone.

use std::sync::PoisonError;

use loom::sync::{Condvar, Mutex};

use crate::fault::fault;
use crate::loom::reached;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

struct Queue {
    lock: Mutex<()>,
    wake: Condvar,
}

loom::lazy_static! {
    static ref QUEUE: Queue = Queue { lock: Mutex::new(()), wake: Condvar::new() };
}

/// Sleeps if `word` is `expected`.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    let guard = QUEUE.lock.lock().unwrap_or_else(PoisonError::into_inner);
    // An exchange, because it reads the newest value, as the kernel does.
    if word.fetch_or(0, Relaxed) == expected {
        reached("sleep");
        drop(QUEUE.wake.wait(guard).unwrap_or_else(PoisonError::into_inner));
    } else {
        reached("late-sleep");
    }
}

/// Wakes one sleeper, or all if `nr` is more than one.
pub(crate) fn wake(nr: i32) {
    if fault("futex_no_wake") {
        return;
    }
    let guard = QUEUE.lock.lock().unwrap_or_else(PoisonError::into_inner);
    if nr == 1 {
        QUEUE.wake.notify_one();
    } else {
        QUEUE.wake.notify_all();
    }
    drop(guard);
}
