//! Which slots are used next: those that were never used, then those that have rested.

use core::mem;

use zonal_numa::NodeId;

use super::{NR_PAGES, NR_RESTING, NR_SIZES};
use crate::class::NR_CLASSES;

#[derive(Debug)]
pub(super) struct Turns {
    /// By page: the slots that were never used, or have rested.
    pub(super) ready: [u64; NR_PAGES],
    /// By page: whose memory it is.
    pub(super) nodes: [NodeId; NR_PAGES],
    /// By size: the page where a slot was found last.
    pub(super) last: [usize; NR_SIZES],
    /// By size: those freed last.
    pub(super) resting: [Resting; NR_SIZES],
    /// By class: how many of its first objects there were.
    pub(super) nr_firsts: [u8; NR_CLASSES],
}

impl Turns {
    /// No page has slots yet.
    pub(super) const NEW: Turns = Turns {
        ready: [0; NR_PAGES],
        nodes: [NodeId::ZERO; NR_PAGES],
        last: [0; NR_SIZES],
        resting: [Resting::NONE; NR_SIZES],
        nr_firsts: [0; NR_CLASSES],
    };
}

/// A ring of pages and slots in them, the oldest at `next`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resting {
    slots: [Option<(u8, u8)>; NR_RESTING],
    next: usize,
}

impl Resting {
    const NONE: Resting = Resting { slots: [None; NR_RESTING], next: 0 };

    /// Puts a slot in the place of the oldest, which it returns.
    pub(super) fn exchange(&mut self, slot: Option<(u8, u8)>) -> Option<(u8, u8)> {
        let oldest = mem::replace(&mut self.slots[self.next], slot);
        self.next = (self.next + 1) % NR_RESTING;
        oldest
    }

    /// The oldest in a page that `fits`.
    pub(super) fn take(&mut self, fits: impl Fn(usize) -> bool) -> Option<(u8, u8)> {
        let (newer, older) = self.slots.split_at_mut(self.next);
        let mut slots = older.iter_mut().chain(newer);
        slots.find(|slot| slot.is_some_and(|(page, _)| fits(page.into())))?.take()
    }
}
