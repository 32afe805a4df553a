//! What a heap keeps for the thread that owns it, outside the gate.

use core::cell::Cell;
use core::ptr;

use zonal_numa::MemPolicy;

use super::Heap;
use crate::misuse::BadPointer;
use crate::policy::turns::Turns;
use crate::profile::Countdown;

/// The owner's words.
#[derive(Debug)]
pub(super) struct OwnerState {
    /// Its memory policy, as last read.
    pub(super) policy: Cell<MemPolicy>,
    /// What it asked for by itself.
    pub(super) asked: Cell<Option<MemPolicy>>,
    /// Whose turn it is under such a policy; null before one with turns.
    pub(super) turns: Cell<*const Turns>,
    /// Slow paths in a row that found it on another node.
    pub(super) strays: Cell<u8>,
    /// Its way to the next sample of the heap profile.
    countdown: Countdown,
    /// Its way to the next fenced object, in misses.
    misses: Countdown,
    /// The signals that its thread blocks as a rule: the caller's word.
    signals: Cell<u64>,
    /// Where its stack stood as its slow path began: the caller's word.
    pub(super) slow_place: Cell<usize>,
    /// The heap's detour is written.
    pub(super) has_detour: Cell<bool>,
    /// The first misuse that it found where it could not be returned.
    pub(super) noted: Cell<Option<BadPointer>>,
}

// SAFETY: only the thread that owns the heap reaches these, by methods that say so. It has made the heap, or got it
// under the lock of the registry's pool, where the last owner left it under that lock; or from the last holder of its
// handle, who lets one thread use it at a time. A forked child, which buries the heaps of others, has one thread. One
// that borrows a heap owns it for that time.
unsafe impl Sync for OwnerState {}

impl OwnerState {
    pub(super) fn new() -> OwnerState {
        OwnerState {
            policy: Cell::new(MemPolicy::LOCAL),
            asked: Cell::new(None),
            turns: Cell::new(ptr::null()),
            strays: Cell::new(0),
            countdown: Countdown::new(),
            misses: Countdown::new(),
            signals: Cell::new(0),
            slow_place: Cell::new(0),
            has_detour: Cell::new(false),
            noted: Cell::new(None),
        }
    }
}

impl Heap {
    /// The way to the next sample of the heap profile. Owner only.
    #[inline(always)]
    pub fn countdown(&self) -> &Countdown {
        &self.owner.countdown
    }

    /// The way to the next fenced object, in misses. Owner only.
    #[inline(always)]
    pub(crate) fn misses(&self) -> &Countdown {
        &self.owner.misses
    }

    /// The signals that the owner's thread blocks as a rule, as [`Heap::set_signals`] said: the heap only keeps the
    /// word, for which the caller has no room. Owner only.
    pub fn signals(&self) -> u64 {
        self.owner.signals.get()
    }

    /// Notes the signals that the owner's thread blocks as a rule. Owner only.
    pub fn set_signals(&self, mask: u64) {
        self.owner.signals.set(mask);
    }
}
