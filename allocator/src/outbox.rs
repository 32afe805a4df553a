//! Unsent messages of a heap: freed objects of other heaps, grouped by owner.
//!
//! Two owners whose numbers fall together push each other's message out, which costs smaller
//! batches and nothing else. What all messages together keep from their owners is bounded.

use core::ptr::{self, NonNull};

use crate::remote::Message;
use crate::word::HEAP_SHIFT;

/// Messages that can be open at a time.
pub(crate) const SLOTS: usize = 64;
/// What all open messages together may hold, in bytes.
pub(crate) const OUTBOX_BYTES: usize = 256 << 10;

/// The open messages.
#[derive(Debug)]
pub(crate) struct Outbox {
    open: [*mut Message; SLOTS],
    /// Bytes of the objects in open messages.
    pub(crate) bytes: usize,
    /// Messages without content, ready to be filled.
    pub(crate) spare: *mut Message,
    pub(crate) nr_spare: u32,
}

impl Outbox {
    pub(crate) fn new() -> Outbox {
        Outbox { open: [ptr::null_mut(); SLOTS], bytes: 0, spare: ptr::null_mut(), nr_spare: 0 }
    }

    /// The slot for objects whose slab pages carry `word`.
    #[inline]
    pub(crate) fn slot(&mut self, word: u32) -> &mut *mut Message {
        &mut self.open[(word >> HEAP_SHIFT) as usize % SLOTS]
    }

    /// Takes the message out of slot number `slot`.
    pub(crate) fn take(&mut self, slot: usize) -> Option<NonNull<Message>> {
        NonNull::new(core::mem::replace(&mut self.open[slot], ptr::null_mut()))
    }
}
