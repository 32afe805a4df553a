//! What the registry keeps in a heap, and how it may be handed on.

use core::cell::Cell;
use core::ptr;

use super::Heap;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;

/// The registry's words.
#[derive(Debug)]
pub(crate) struct PoolState {
    /// Next heap in the pool, while it is there.
    pub(crate) next: Cell<*mut Heap>,
    /// In the pool: its holder, not a visitor, takes care of it.
    pub(crate) dead: AtomicBool,
    /// Left torn by a thread that vanished in a fork: never used again.
    torn: AtomicBool,
    /// It belongs to a handle, not to a thread: that survives a fork.
    held: AtomicBool,
}

// SAFETY: `next` belongs to the holder of the pool's lock; the others are atomics.
unsafe impl Sync for PoolState {}

impl PoolState {
    pub(super) fn new() -> PoolState {
        PoolState {
            next: Cell::new(ptr::null_mut()),
            dead: AtomicBool::new(false),
            torn: AtomicBool::new(false),
            held: AtomicBool::new(false),
        }
    }
}

impl Heap {
    /// Whether it waits in the pool for a thread.
    pub(crate) fn is_dead(&self) -> bool {
        // Relaxed: under the pool's lock it is true; without, a hint.
        self.pool.dead.load(Relaxed)
    }

    /// Whether its thread vanished inside it.
    pub(crate) fn is_torn(&self) -> bool {
        self.pool.torn.load(Relaxed)
    }

    /// Whether somebody will open what is posted to it. What a fork left torn takes nothing in; one that lives is torn
    /// for that moment only.
    pub(crate) fn takes_in(&self) -> bool {
        !(self.is_torn() && self.is_dead())
    }

    /// Its thread may vanish inside it, or did not. For the holder of the registry's lock around a fork; what the
    /// lock's holder has set when the process forks, the child keeps.
    pub(crate) fn set_torn(&self, torn: bool) {
        // Relaxed: others only pass it over.
        self.pool.torn.store(torn, Relaxed);
    }

    /// Whether it belongs to a handle, for a forked child.
    pub(crate) fn is_held(&self) -> bool {
        self.pool.held.load(Relaxed)
    }

    /// It belongs to a handle from now on, or to a thread. Owner only.
    pub(crate) fn set_held(&self, held: bool) {
        // Relaxed: a forked child reads it, whose memory is all of one moment.
        self.pool.held.store(held, Relaxed);
    }
}
