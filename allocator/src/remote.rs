//! Remote frees: objects that a thread frees but another heap owns.
//!
//! The freeing thread collects pointers in a [`Message`], one per owner, and posts it when it is
//! full: by count, or by bytes for large objects. Posting is one compare-and-swap per message. The
//! owner takes its whole inbox with one swap, opens messages as it needs objects, and puts the
//! pointers into its bins, those for which there is no room into the slabs' bitmaps. Neither side
//! touches an object, and no lock is on the way.
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
use crate::word::HEAP_SHIFT;

/// Pointers a message can hold: it fills 512 bytes.
pub(crate) const MESSAGE_OBJECTS: usize = 61;
/// A message is posted when it holds this many bytes.
const MESSAGE_BYTES: usize = 64 << 10;

/// A batch of freed objects of one owner.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Message {
    pub(crate) next: *mut Message,
    /// A page word of the owner's, for its number.
    pub(crate) word: u32,
    pub(crate) nr: u32,
    pub(crate) bytes: u32,
    pub(crate) objects: [*mut u8; MESSAGE_OBJECTS],
}

const _: () = assert!(size_of::<Message>() == 512);

impl Message {
    /// Whether it is meant for the owner of pages with that word.
    #[inline]
    pub(crate) fn is_for(&self, word: u32) -> bool {
        (self.word ^ word) >> HEAP_SHIFT == 0
    }

    /// Whether an object of `class` fills it.
    #[inline]
    pub(crate) fn is_filled_by(&self, class: SizeClass) -> bool {
        self.nr as usize + 1 >= MESSAGE_OBJECTS
            || self.bytes as usize + class.size() >= MESSAGE_BYTES
    }

    /// Adds an object of `class`. There is room, since a full message is posted at once.
    #[inline]
    pub(crate) fn add(&mut self, object: *mut u8, class: SizeClass) {
        self.objects[self.nr as usize] = object;
        self.nr += 1;
        self.bytes += class.size() as u32;
    }
}

impl Message {
    /// Adds an object of `size` bytes; false, and nothing done, if it would fill the message.
    #[inline(always)]
    pub(crate) fn try_add(&mut self, object: *mut u8, size: usize) -> bool {
        let (nr, bytes) = (self.nr as usize, self.bytes as usize + size);
        if nr + 1 >= MESSAGE_OBJECTS || bytes >= MESSAGE_BYTES {
            return false;
        }
        self.objects[nr] = object;
        self.nr = nr as u32 + 1;
        self.bytes = bytes as u32;
        true
    }
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
