//! Unsent messages of a heap: freed objects of other heaps, grouped by owner and class.
//!
//! A small direct-mapped table. Two destinations that fall into one slot push each other out,
//! which costs a smaller batch and nothing else.

use core::ptr;

use crate::remote::Message;

/// Messages that can be open at a time.
pub(crate) const SLOTS: usize = 16;

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
        // Fibonacci hashing: owner and class both reach the top bits.
        let hash = word.wrapping_mul(0x9E37_79B9) >> (u32::BITS - SLOTS.trailing_zeros());
        &mut self.open[hash as usize]
    }

    /// All slots.
    pub(crate) fn slots(&mut self) -> impl Iterator<Item = &mut *mut Message> {
        self.open.iter_mut()
    }
}
