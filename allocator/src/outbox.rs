//! Unsent messages of a heap: freed objects of other heaps, grouped by owner and class.
//!
//! Each class has a few slots, shared by the owners whose numbers fall together. Two owners that
//! meet in one slot push each other out, which costs smaller batches and nothing else.

use core::ptr::{self, NonNull};

use crate::class::{CLASS_LIMIT, CLASS_SHIFT, NR_CLASSES};
use crate::heap::TAG_SHIFT;
use crate::remote::Message;

/// Messages that can be open at a time.
pub(crate) const SLOTS: usize = NR_CLASSES * WAYS;
/// Slots of one class.
const WAYS: usize = 4;

/// The open messages.
#[derive(Debug)]
pub(crate) struct Outbox {
    open: [*mut Message; SLOTS],
    /// Messages without content, ready to be filled.
    pub(crate) spare: *mut Message,
    pub(crate) nr_spare: u32,
}

impl Outbox {
    pub(crate) fn new() -> Outbox {
        Outbox { open: [ptr::null_mut(); SLOTS], spare: ptr::null_mut(), nr_spare: 0 }
    }

    /// The slot for objects whose slab pages carry `word`.
    #[inline]
    pub(crate) fn slot(&mut self, word: u32) -> &mut *mut Message {
        let class = (word & (CLASS_LIMIT.next_power_of_two() - 1)) >> CLASS_SHIFT;
        let way = (word >> TAG_SHIFT) as usize % WAYS;
        &mut self.open[class as usize * WAYS + way]
    }

    /// Takes the message out of slot number `slot`.
    pub(crate) fn take(&mut self, slot: usize) -> Option<NonNull<Message>> {
        NonNull::new(core::mem::replace(&mut self.open[slot], ptr::null_mut()))
    }
}
