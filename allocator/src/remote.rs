//! Remote frees: objects that a thread frees but another heap owns.
//!
//! The freeing thread collects pointers in a [`Message`], one per (owner, class), and posts it when
//! it is full: by count, or by bytes for large objects. Posting is one compare-and-swap per
//! message. The owner takes its whole inbox with one swap, puts each message on the class's pending
//! list in O(1), and copies the pointers into the bin when that runs empty. Neither side touches
//! an object, and no lock is on the way.
//!
//! # Synchronisation
//!
//! | word         | writers                       | readers | carries                             |
//! |--------------|-------------------------------|---------|-------------------------------------|
//! | `Inbox.head` | any thread (push by CAS),     | owner   | posted messages and the objects'    |
//! |              | owner or visitor (swap null)  |         | contents as the freer left them     |
//!
//! Push is Release, the swap is Acquire, so that the owner may hand an object to somebody else
//! without racing with the last writes of the thread that freed it. The list is only ever taken
//! whole, so that a popped and re-pushed head (ABA) cannot harm.

use core::ptr;

use crate::class::SizeClass;
use crate::fault::weakened_by;
use crate::sync::atomic::AtomicPtr;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Pointers a message can hold: it fills 512 bytes.
pub(crate) const MESSAGE_OBJECTS: usize = 61;
/// A message for large objects is posted when it holds this many bytes.
const MESSAGE_BYTES: usize = 32 << 10;

/// A batch of freed objects of one class and one owner.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Message {
    pub(crate) next: *mut Message,
    /// Page word of the objects' slabs: owner and class.
    pub(crate) word: u32,
    pub(crate) nr: u32,
    pub(crate) limit: u32,
    pub(crate) objects: [*mut u8; MESSAGE_OBJECTS],
}

const _: () = assert!(size_of::<Message>() == 512);

/// How many objects of `class` make a full message.
pub(crate) fn message_limit(class: SizeClass) -> u32 {
    (MESSAGE_BYTES / class.size()).clamp(4, MESSAGE_OBJECTS) as u32
}

/// Where others post messages for a heap.
#[derive(Debug)]
pub(crate) struct Inbox {
    head: AtomicPtr<Message>,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Posts `message`, which then belongs to the inbox.
    ///
    /// # Safety
    /// `message` is valid and the caller owns it.
    pub(crate) unsafe fn post(&self, message: *mut Message) {
        // Relaxed: the value is only linked behind `message`, never looked into.
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: still the caller's until the exchange succeeds.
            unsafe { (*message).next = head };
            // ORDERING: Release, pairs with Acquire in `take`.
            let order = weakened_by("inbox_post_relaxed", Release);
            match self.head.compare_exchange_weak(head, message, order, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing waits; a hint.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a message missed now is found next time.
        self.head.load(Relaxed).is_null()
    }

    /// Takes all messages, newest first.
    #[inline]
    pub(crate) fn take(&self) -> *mut Message {
        // Relaxed: a message missed now is found next time; most looks find nothing and then
        // avoid the exchange.
        if self.is_empty() {
            return ptr::null_mut();
        }
        // ORDERING: Acquire, pairs with Release in `post`.
        self.head.swap(ptr::null_mut(), weakened_by("inbox_take_relaxed", Acquire))
    }
}
