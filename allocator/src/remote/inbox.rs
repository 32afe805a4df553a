//! Remote frees: objects that a thread frees but another heap owns, and that its bins do not take
//! ([`crate::remote::group`]), have no room for, or give up.
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
//! | `Inbox.own`  | owner (null -> messages,      | owner,  | messages to itself, the newest open |
//! |              | marks them by CAS, swap),     | visitor | and the others full, and the same   |
//! |              | owner or visitor (CAS null)   |         | of their objects                    |
//! |              | owner inside the gate, child  |         |                                     |
//! |              | of a fork (a left mark away)  |         |                                     |
//!
//! `own` is what the owner frees while a visitor is in the heap: it marks the messages, adds to the
//! newest or puts another one before it, and takes the mark away. Nobody takes what is marked, and what
//! was taken is no more the owner's. The messages never leave the word in between, so that a child of a
//! fork in the middle finds them whole, but for the one object that the thread had in hand, as in any
//! free: it takes the marks of all heaps away, since nobody is at work there any more. A mark that a
//! jump out of a signal handler left goes with the next object, at the owner's next miss inside the gate,
//! or when the heap is emptied by who has it then.
//!
//! Push is Release, the swap is Acquire, so that the owner may hand an object to somebody else
//! without racing with the last writes of the thread that freed it. The list is only ever taken
//! whole, so that a popped and re-pushed head (ABA) cannot harm.

use core::ptr::{self, NonNull};
use core::sync::atomic::compiler_fence;

use crate::class::SizeClass;
use crate::fault::{fault, weakened_by};
use crate::sync::atomic::AtomicPtr;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::word::HEAP_SHIFT;

/// Pointers a message can hold: it fills 512 bytes.
pub(crate) const MESSAGE_OBJECTS: usize = 61;
/// In the address in `Inbox.own`: the owner adds to the newest message.
const MARK: usize = 1;
const _: () = assert!(align_of::<Message>() > MARK);
/// A message is posted when it holds this many bytes.
pub(crate) const MESSAGE_BYTES: usize = 64 << 10;

/// A batch of freed objects of one owner.
#[derive(Debug)]
#[repr(C, align(512))]
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
    /// For a page word in what a heap's owner puts aside; no heap has the number 0.
    pub(crate) const TO_ITSELF: u32 = 0;

    /// Makes an empty one in `place`, for the owner of pages with that word.
    ///
    /// # Safety
    /// `place` is valid for a message.
    pub(crate) unsafe fn open(place: NonNull<Message>, word: u32) {
        let message = place.as_ptr();
        // Field by field: what the objects will be is not read before.
        // SAFETY: each write goes to a field of `*place`, which the caller gives.
        unsafe {
            (&raw mut (*message).next).write(ptr::null_mut());
            (&raw mut (*message).word).write(word);
            (&raw mut (*message).nr).write(0);
            (&raw mut (*message).bytes).write(0);
        }
    }

    /// Whether it is meant for the owner of pages with that word.
    #[inline]
    pub(crate) fn is_for(&self, word: u32) -> bool {
        (self.word ^ word) >> HEAP_SHIFT == 0
    }

    /// Whether an object of `size` bytes fills it.
    #[inline]
    pub(crate) fn is_filled_by(&self, size: usize) -> bool {
        self.nr as usize + 1 >= MESSAGE_OBJECTS || self.bytes as usize + size >= MESSAGE_BYTES
    }

    /// Whether it has no place for another object, however small.
    pub(crate) fn is_filled(&self) -> bool {
        self.nr as usize == MESSAGE_OBJECTS
    }

    /// Whether `object` is in it.
    pub(crate) fn has(&self, object: *mut u8) -> bool {
        self.objects[..self.nr as usize].contains(&object)
    }

    /// Whether an object filled it.
    fn is_full(&self) -> bool {
        self.is_filled() || self.bytes as usize >= MESSAGE_BYTES
    }

    /// Adds an object of `size` bytes. There is room, since a full message is posted at once.
    #[inline]
    pub(crate) fn add(&mut self, object: *mut u8, size: usize) {
        self.objects[self.nr as usize] = object;
        self.bytes += size as u32;
        // A forked child may find it here. Of another thread it sees a prefix of what that did.
        compiler_fence(Release);
        self.nr += 1;
    }

    /// The same if that does not fill the message; false, and nothing done, if it does.
    #[inline(always)]
    pub(crate) fn try_add(&mut self, object: *mut u8, size: usize) -> bool {
        let has_room = !self.is_filled_by(size);
        if has_room {
            self.add(object, size);
        }
        has_room
    }
}

/// Where others post messages for a heap.
#[derive(Debug)]
pub(crate) struct Inbox {
    head: AtomicPtr<Message>,
    own: AtomicPtr<Message>,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { head: AtomicPtr::new(ptr::null_mut()), own: AtomicPtr::new(ptr::null_mut()) }
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

    /// Bytes of what was posted and not taken. In a forked child, before anything else goes on.
    pub(crate) fn posted_bytes(&self) -> usize {
        let (mut bytes, mut next) = (0, self.head.load(Relaxed));
        // SAFETY: posted messages are whole, and no other thread is there that could take them.
        while let Some(message) = unsafe { next.as_ref() } {
            bytes += message.bytes as usize;
            next = message.next;
        }
        bytes
    }

    /// Adds an object of `class` to the open message, which `open` makes where there is none with room;
    /// false, and nothing done, where it makes none. Owner only.
    pub(crate) fn put_aside(
        &self,
        object: NonNull<u8>,
        class: SizeClass,
        open: impl FnOnce() -> Option<NonNull<Message>>,
    ) -> bool {
        let own = self.mark_own();
        // SAFETY: null, or marked: the messages are the owner's alone.
        let has_room = unsafe { own.as_ref() }.is_some_and(|newest| !newest.is_full());
        let open = || {
            let message = open()?.as_ptr();
            // SAFETY: a message that nobody else knows.
            unsafe { (*message).next = own };
            Some(message)
        };
        let newest = if has_room { Some(own) } else { open() };
        if let Some(newest) = newest {
            // SAFETY: as above, and it is not full.
            unsafe { &mut *newest }.add(object.as_ptr(), class.size());
        }
        // An exchange as all changes of the word: loom knows no order of a store and the visitor's
        // exchange.
        // ORDERING: Release, pairs with Acquire in `take_own`.
        self.own.swap(newest.unwrap_or(own), weakened_by("inbox_own_relaxed", Release));
        newest.is_some()
    }

    /// Keeps others from taking the messages to itself, and tells which there are. Owner only.
    pub(crate) fn mark_own(&self) -> *mut Message {
        // Relaxed: what is there the owner wrote itself.
        let own = self.own.load(Relaxed);
        let marked = own.map_addr(|addr| addr | MARK);
        if own.is_null() || own == marked || fault("inbox_own_unmarked") {
            return own.map_addr(|addr| addr & !MARK);
        }
        match self.own.compare_exchange(own, marked, Relaxed, Relaxed) {
            Ok(own) => own,
            // A visitor has taken them.
            Err(_) => ptr::null_mut(),
        }
    }

    /// Takes a mark away that was left. Only while nobody is at work on the messages: for the owner
    /// inside its gate, and a forked child, whose only thread is the caller.
    #[inline]
    pub(crate) fn unmark(&self) {
        let own = self.own.load(Relaxed);
        if own.addr() & MARK != 0 {
            self.own.store(own.map_addr(|addr| addr & !MARK), Relaxed);
        }
    }

    /// Whether nothing waits; a hint.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a message missed now is found next time.
        self.head.load(Relaxed).is_null() && self.own.load(Relaxed).is_null()
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
        let posted = self.head.swap(ptr::null_mut(), weakened_by("inbox_take_relaxed", Acquire));
        if self.own.load(Relaxed).is_null() { posted } else { self.take_own(posted) }
    }

    /// Takes the owner's messages to itself, before those that were `posted`.
    #[cold]
    fn take_own(&self, posted: *mut Message) -> *mut Message {
        let own = self.own.load(Relaxed);
        let is_marked = own.addr() & MARK != 0;
        // ORDERING: Acquire, pairs with Release in `put_aside`.
        let order = weakened_by("inbox_own_take_relaxed", Acquire);
        if own.is_null()
            || is_marked
            || self.own.compare_exchange(own, ptr::null_mut(), order, Relaxed).is_err()
        {
            return posted;
        }
        let mut last = own;
        // SAFETY: whoever takes the messages out has them alone; the oldest has no next.
        while let Some(next) = NonNull::new(unsafe { (*last).next }) {
            last = next.as_ptr();
        }
        // SAFETY: as above.
        unsafe { (*last).next = posted };
        own
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;

    fn put_aside(inbox: &Inbox, object: &u64) {
        let open = || {
            let place = NonNull::from(Box::leak(Box::<Message>::new_uninit())).cast();
            // SAFETY: room for a message.
            unsafe { Message::open(place, 0) };
            Some(place)
        };
        assert!(inbox.put_aside(NonNull::from(object).cast(), SizeClass::of(8).unwrap(), open));
    }

    /// The numbers of messages and objects in them, newest first.
    fn take(inbox: &Inbox) -> (usize, usize) {
        let (mut nr, mut nr_objects) = (0, 0);
        let mut next = inbox.take();
        while !next.is_null() {
            // SAFETY: messages here were boxes.
            let message = unsafe { Box::from_raw(next) };
            (nr, nr_objects) = (nr + 1, nr_objects + message.nr as usize);
            next = message.next;
        }
        (nr, nr_objects)
    }

    /// A fork, or a jump, while the owner is at work: what lay there is not lost.
    #[test]
    fn what_was_put_aside_outlives_its_owner_in_the_middle() {
        let inbox = Inbox::new();
        let objects = [0; 2 * MESSAGE_OBJECTS];
        let put_all = || objects.iter().for_each(|object| put_aside(&inbox, object));
        put_all();
        assert!(!inbox.mark_own().is_null());
        assert_eq!(take(&inbox), (0, 0), "nobody takes it from the owner");
        inbox.unmark();
        assert_eq!(take(&inbox), (2, objects.len()));
        assert!(inbox.is_empty());
        put_all();
        inbox.mark_own();
        put_aside(&inbox, &objects[0]);
        assert_eq!(take(&inbox), (3, objects.len() + 1));
    }
}
