//! Unsent messages of a heap: freed objects of other heaps, grouped by owner.
//!
//! While much is in flight, some of it is not posted but used again: [`crate::remote::reuse`].
//!
//! Two owners whose numbers fall together push each other's message out, which costs smaller
//! batches and nothing else. What all messages together keep from their owners is bounded.
//! Messages travel one way, from heaps that free to heaps that allocate: the empty ones go through the shared
//! store.

use core::ptr::{self, NonNull};

use crate::class::SizeClass;
use crate::error::Mismatch;
use crate::heap::{Heap, HeapId, Inner};
use crate::pfn::Pfn;
use crate::remote::Message;
use crate::word::{HEAP_SHIFT, PageWord};

/// Messages that can be open at a time.
pub(crate) const SLOTS: usize = 64;
/// What all open messages together may hold, in bytes.
pub(crate) const OUTBOX_BYTES: usize = 256 << 10;

/// Spare messages a heap keeps before it returns half of them to the shared store.
pub(crate) const MAX_SPARE: u32 = 16;

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

    /// Slot number `slot`.
    pub(crate) fn slot_at(&mut self, slot: usize) -> &mut *mut Message {
        &mut self.open[slot]
    }

    /// Takes the message out of slot number `slot`.
    pub(crate) fn take(&mut self, slot: usize) -> Option<NonNull<Message>> {
        NonNull::new(core::mem::replace(&mut self.open[slot], ptr::null_mut()))
    }
}

impl Inner {
    /// The open messages.
    pub(crate) fn open_messages(&self) -> impl Iterator<Item = &Message> {
        // SAFETY: open messages belong to this heap, and the caller is inside its gate.
        self.outbox.open.iter().filter_map(|&message| unsafe { message.as_ref() })
    }

    /// Compares what is counted of unsent objects with the messages that hold them.
    pub(crate) fn validate_open(&self) -> Result<(), Mismatch> {
        let unsent = self.open_messages().map(|m| m.bytes as usize).sum();
        Mismatch::check("heap: unsent bytes", Pfn::NONE, unsent, self.outbox.bytes)
    }

    /// Puts an object into the message for the owner of pages with that word, and posts it when it is
    /// full; false, and nothing done, when there is no memory for a message.
    pub(crate) fn send(
        &mut self,
        heap: &Heap,
        object: NonNull<u8>,
        class: SizeClass,
        word: PageWord,
    ) -> bool {
        let slot = *self.outbox.slot(word.raw());
        // SAFETY: open messages belong to this heap.
        let message = match unsafe { slot.as_mut() } {
            Some(open) if open.is_for(word.raw()) => NonNull::from(open),
            _ => {
                if let Some(other) = NonNull::new(slot) {
                    self.post(heap, other);
                }
                let message = self.new_message(heap);
                *self.outbox.slot(word.raw()) = message.map_or(ptr::null_mut(), NonNull::as_ptr);
                let Some(message) = message else { return false };
                // SAFETY: a spare message is ours.
                unsafe { Message::open(message, word.raw()) };
                message
            }
        };
        // SAFETY: the message is ours and not full.
        let m = unsafe { &mut *message.as_ptr() };
        let full = m.is_filled_by(class.size());
        m.add(object.as_ptr(), class.size());
        self.outbox.bytes += class.size();
        if full {
            *self.outbox.slot(word.raw()) = ptr::null_mut();
            self.post(heap, message);
        } else if self.outbox.bytes >= OUTBOX_BYTES {
            self.post_all(heap);
        }
        true
    }

    /// Sends a message to the heap that its word names, but for what this heap has a use for.
    fn post(&mut self, heap: &Heap, message: NonNull<Message>) {
        // Whoever keeps something may sleep, too.
        heap.mm().doorbell().ring();
        if self.keep_some(heap, message) {
            return self.recycle(heap, message);
        }
        // SAFETY: the message is ours until posted.
        let (word, bytes) = unsafe { (message.as_ref().word, message.as_ref().bytes) };
        self.outbox.bytes -= bytes as usize;
        let owner = HeapId::from_word(word).and_then(|id| heap.mm().heap(id));
        self.events.remote_post += 1;
        match owner {
            Some(owner) => {
                if owner.takes_in() {
                    self.count_flight(heap, bytes as isize);
                }
                // SAFETY: heaps are never unmapped, and the message leaves our hands.
                unsafe { owner.inbox.post(message.as_ptr()) }
            }
            None => self.recycle(heap, message),
        }
    }

    /// Sends all open messages.
    pub(crate) fn post_all(&mut self, heap: &Heap) {
        for slot in 0..SLOTS {
            if let Some(message) = self.outbox.take(slot) {
                self.post(heap, message);
            }
        }
    }

    /// An empty message that the heap has, or null.
    pub(crate) fn take_spare(&mut self) -> *mut Message {
        let spare = self.outbox.spare;
        // SAFETY: spare messages are ours.
        if let Some(message) = unsafe { spare.as_ref() } {
            self.outbox.spare = message.next;
            self.outbox.nr_spare -= 1;
        }
        spare
    }

    pub(crate) fn new_message(&mut self, heap: &Heap) -> Option<NonNull<Message>> {
        if let Some(spare) = NonNull::new(self.take_spare()) {
            return Some(spare);
        }
        let mm = heap.mm();
        mm.meta().alloc(mm.machine(), size_of::<Message>()).map(NonNull::cast)
    }

    /// Keeps an empty message for later, or returns some when there are many: messages travel one
    /// way, from those who free to those who allocate.
    pub(crate) fn recycle(&mut self, heap: &Heap, message: NonNull<Message>) {
        // SAFETY: the message is ours.
        unsafe { (*message.as_ptr()).next = self.outbox.spare };
        self.outbox.spare = message.as_ptr();
        self.outbox.nr_spare += 1;
        if self.outbox.nr_spare <= MAX_SPARE {
            return;
        }
        while self.outbox.nr_spare > MAX_SPARE / 2 {
            let Some(spare) = NonNull::new(self.outbox.spare) else { return };
            // SAFETY: spare messages are ours and came from `meta`.
            unsafe {
                self.outbox.spare = spare.as_ref().next;
                heap.mm().meta().free(spare.cast(), size_of::<Message>());
            }
            self.outbox.nr_spare -= 1;
        }
    }
}
