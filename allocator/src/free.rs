//! The slow side of `free`: whose is this pointer, and what becomes of it.
//!
//! A bin that did not take a pointer leaves it to these, from the shortest way to the one that always ends:
//!
//! | way                      | takes                                 | looks for misuse       | gate, calls          |
//! |--------------------------|---------------------------------------|------------------------|----------------------|
//! | [`Heap::send_to_open`]   | an object of another heap, for which  | none but where it      | owner's, unnoted     |
//! |                          | a message is open and has room, or    | begins                 | until it is sent     |
//! |                          | for which its bin would have room     |                        |                      |
//! |                          | once others left it                   |                        |                      |
//! | [`Heap::free_to_open`]   | the same, of an address               | and whether it is the  | the same             |
//! |                          |                                       | newest in its bin      |                      |
//! | [`Heap::free_opening`]   | the same, also where its message has  | [`Heap::check`]        | owner's; may post    |
//! |                          | to be opened, and there is one, or    |                        |                      |
//! |                          | posted                                |                        |                      |
//! | [`Heap::free`]           | anything                              | all that shows without | any; system calls    |
//! |                          |                                       | the bitmap, and tells  |                      |
//!
//! The first three answer false, and have changed nothing but that bins were opened and a use was counted, where they
//! do not take it. [`Heap::free`] finds large blocks by their word, own objects a place in the bin, which it spills,
//! or in the slab, and others a message; what nothing takes, for want of memory or since a visitor is in the heap, it
//! puts aside or defers ([`crate::deferred`]). Older double frees show in the bitmap, as the bin spills or the
//! message is opened.

use core::ptr::NonNull;

use crate::class::{MAX_SMALL, SizeClass, Slicing};
use crate::heap::{Heap, HeapId, Inner};
use crate::hot::{Found, HeapHot};
use crate::misuse::{BadKind, BadPointer};
use crate::remote::outbox::OUTBOX_BYTES;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Kind, PageWord};

/// What may be an object of another heap, or a large block, freed by this one.
#[derive(Clone, Copy, Debug)]
pub struct Remote {
    object: *mut u8,
    word: PageWord,
}

impl Remote {
    #[inline(always)]
    pub(crate) fn object(self) -> *mut u8 {
        self.object
    }

    #[inline(always)]
    pub(crate) fn word(self) -> PageWord {
        self.word
    }

    #[cfg(test)]
    pub(crate) fn new(object: *mut u8, word: PageWord) -> Remote {
        Remote { object, word }
    }

    /// Whether it starts or lies in something else than a slab, or nowhere.
    #[inline(always)]
    pub fn is_no_object(&self) -> bool {
        !self.word.is_slab()
    }

    /// Whether it has the class that a request of `size` bytes would get.
    #[inline]
    pub fn is_of_class_for(&self, size: usize) -> bool {
        // SAFETY: not above that.
        size <= MAX_SMALL && self.word.has_class_offset(unsafe { SizeClass::offset_of(size) })
    }
}

impl Heap {
    /// Frees any block of the instance, of this heap or not.
    ///
    /// # Errors
    /// A [`BadPointer`] when `object` is no live block; nothing is changed then.
    ///
    /// # Safety
    /// The calling thread owns this heap; a live `object` is not used any more.
    pub unsafe fn free(&self, object: NonNull<u8>) -> Result<(), BadPointer> {
        self.mm().run_deferred(self);
        // SAFETY: the caller's promise.
        unsafe { self.free_now(object) }
    }

    /// [`Heap::free`] of this block and no other.
    ///
    /// # Errors
    /// As for [`Heap::free`].
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub(crate) unsafe fn free_now(&self, object: NonNull<u8>) -> Result<(), BadPointer> {
        if self.mm().is_checked() { self.free_checked(object) } else { self.free_plain(object) }
    }

    /// [`Heap::free_now`] without any checks of the block's content.
    pub(crate) fn free_plain(&self, object: NonNull<u8>) -> Result<(), BadPointer> {
        let mm = self.mm();
        let addr = object.addr().get();
        let map = &mm.pages().map;
        let Some(pfn) = map.pfn_of(addr) else {
            return mm.free_outside(addr);
        };
        // Relaxed: the thread that handed the block out made its word visible with the pointer.
        let word = PageWord::from_raw(map.word(pfn).load(Relaxed));
        match word.kind() {
            Kind::Slab if word.is_nothing() => Err(BadPointer::new(addr, mm.kind_of_nothing(pfn))),
            Kind::Slab => self.free_small(object, word),
            Kind::Large => {
                // The next one takes the short way.
                self.sync_hot();
                mm.free_large(self, pfn, addr)
            }
            Kind::Buddy | Kind::Pcp | Kind::Isolated => {
                Err(BadPointer::new(addr, BadKind::NotAllocated))
            }
        }
    }

    /// Adds an object of another heap to the open message for its owner; false, and nothing changed, when it is none,
    /// or there is no such message, or the object would be the last one there. Makes no system call.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub unsafe fn free_to_open(&self, object: NonNull<u8>) -> bool {
        // SAFETY: the caller's promise.
        let Some(word) = (unsafe { HeapHot::word_of(self.hot(), object.as_ptr()) }) else {
            return false;
        };
        let is_twice = word.as_slab().is_some_and(|(_, class)| self.is_newest(class, object));
        // SAFETY: the caller's promise.
        !is_twice && unsafe { self.send_to_open(Remote { object: object.as_ptr(), word }) }
    }

    /// `object` as one that may be another heap's, after a push that missed.
    #[inline(always)]
    pub fn remote(object: *mut u8, found: Found) -> Remote {
        Remote { object, word: found.word() }
    }

    /// [`Heap::free_to_open`] of what a push has found, and not in its bin.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    #[inline(always)]
    pub unsafe fn send_to_open(&self, Remote { object, word }: Remote) -> bool {
        if self.bin_shares(word) {
            // SAFETY: the caller's promise.
            return unsafe { self.push_full_at_once(object, word) };
        }
        let Some(mut inner) = self.try_enter_unnoted() else { return false };
        inner.add_to_open(self, object, word)
    }

    /// Sends an object of another heap where its message is to be opened, for which there is one, or posted; false, and
    /// nothing changed, in every other case. Makes no system call.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub unsafe fn free_opening(&self, object: NonNull<u8>) -> bool {
        // SAFETY: the caller's promise.
        let Some(word) = (unsafe { HeapHot::word_of(self.hot(), object.as_ptr()) }) else {
            return false;
        };
        let is_own = word.as_slab().is_some_and(|(owner, _)| owner == self.id());
        if is_own || self.mm().is_checked() {
            return false;
        }
        let Ok((_, class)) = self.check(object, word) else { return false };
        let Some(mut inner) = self.try_enter() else { return false };
        // Which may take asking the system, or more than one message.
        let may_take = self.bin_shares(word)
            && (inner.classes[class.index()].slots > 0 || inner.may_deepen(self, class));
        if may_take {
            return false;
        }
        // SAFETY: open messages belong to this heap, and we are inside its gate.
        let open = unsafe { (*inner.outbox.slot(word.raw())).as_ref() };
        let has_message =
            open.is_some_and(|m| m.is_for(word.raw())) || !inner.outbox.spare.is_null();
        // Who keeps what it has to send may need memory for that.
        has_message && !inner.reuse.is_crowded && inner.send(self, object, class, word)
    }

    /// Whose object that is and of which class, on a page with this word; what is wrong with it, as far as that shows
    /// without a look at its slab. Owner only.
    fn check(
        &self,
        object: NonNull<u8>,
        word: PageWord,
    ) -> Result<(HeapId, SizeClass), BadPointer> {
        let mm = self.mm();
        let bad = |kind| Err(BadPointer::new(object.addr().get(), kind));
        let Some((owner, class)) = word.as_slab() else { return bad(BadKind::NotAllocated) };
        let offset = Slicing::of(class).offset_of(object.addr().get());
        if mm.object_at(class, offset).is_none() {
            bad(BadKind::Interior)
        } else if self.is_newest(class, object) {
            bad(BadKind::DoubleFree)
        } else if owner != self.id() && mm.heap(owner).is_none() {
            bad(BadKind::NotAllocated)
        } else {
            Ok((owner, class))
        }
    }

    fn free_small(&self, object: NonNull<u8>, word: PageWord) -> Result<(), BadPointer> {
        self.sync_hot();
        let (owner, class) = self.check(object, word)?;
        if owner == self.id() {
            self.free_own(object, class);
        } else {
            self.free_remote(object, class, word);
        }
        Ok(())
    }

    /// Takes an object of this heap back: into its bin, which may have to be spilled.
    fn free_own(&self, object: NonNull<u8>, class: SizeClass) {
        if !self.claim_bins() {
            return self.put_aside_or_defer(object, class);
        }
        // SAFETY: the caller owns the heap and gave the object away.
        let push = || unsafe { HeapHot::push(self.hot(), object.as_ptr()) };
        if push() {
            return;
        }
        self.spill(class);
        if push() {
            return;
        }
        // No memory for the bin's array: straight back to the slab.
        match self.try_enter() {
            Some(mut inner) => inner.put_object(self, class, object.as_ptr()),
            None => self.put_aside_or_defer(object, class),
        }
    }

    /// Whether it is the object of its class that was freed last, of whatever heap. Owner only; what it cannot
    /// see for a visitor shows when the object comes to its slab.
    fn is_newest(&self, class: SizeClass, object: NonNull<u8>) -> bool {
        // SAFETY: the caller owns the heap, and has its bins.
        self.claim_bins() && unsafe { HeapHot::is_newest(self.hot(), class, object.as_ptr()) }
    }

    /// Collects an object for its owner and posts the message when it is full.
    fn free_remote(&self, object: NonNull<u8>, class: SizeClass, word: PageWord) {
        if self.bin_shares(word) && self.claim_bins() && self.push_full(object, class) {
            return;
        }
        let Some(mut inner) = self.try_enter() else {
            return self.put_aside_or_defer(object, class);
        };
        if !inner.send(self, object, class, word) {
            drop(inner);
            self.defer(object);
        }
    }

    /// What becomes of an object that is freed while a visitor is in the heap.
    #[cold]
    fn put_aside_or_defer(&self, object: NonNull<u8>, class: SizeClass) {
        if !self.put_aside(object, class) {
            self.defer(object);
        }
    }

    /// No memory for a message: the slow way that needs none.
    #[cold]
    pub(crate) fn defer(&self, object: NonNull<u8>) {
        if self.mm().is_checked() {
            self.seal_again(object);
        }
        self.mm().defer(object);
    }
}

impl Inner {
    /// Adds an object that may be another heap's, on a page with that word, to the open message for its owner; false,
    /// and nothing done, where [`Heap::send_to_open`] does nothing.
    #[inline(always)]
    pub(crate) fn add_to_open(&mut self, heap: &Heap, object: *mut u8, word: PageWord) -> bool {
        let outbox = &mut self.outbox;
        let message = *outbox.slot(word.raw());
        // SAFETY: open messages belong to this heap, and the caller is inside its gate.
        let Some(m) = (unsafe { message.as_mut() }) else { return false };
        // Messages are for heaps that others own, so the slab is one's of these. What belongs to no slab may have
        // anything in the place of a heap's number.
        if !word.is_slab() || !m.is_for(word.raw()) {
            return false;
        }
        let slicing = word.slicing();
        let is_start = slicing.is_start(object.addr());
        let bytes = outbox.bytes + slicing.size();
        // What makes anything full is left to `send`, which posts.
        if !is_start || bytes >= OUTBOX_BYTES || !m.try_add(object, slicing.size()) {
            return false;
        }
        outbox.bytes = bytes;
        heap.note_use();
        true
    }
}
