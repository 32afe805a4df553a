//! The slow side of `free`: whose is this pointer, and what becomes of it.

use core::ptr::NonNull;

use crate::hot::{Found, HeapHot};
use crate::class::{MAX_SMALL, SizeClass, Slicing};
use crate::heap::{Heap, HeapId};
use crate::misuse::{BadKind, BadPointer};
use crate::outbox::OUTBOX_BYTES;
use crate::pfn::Pfn;
use crate::slab::Slab;
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
        size <= MAX_SMALL && self.word.has_class_offset(SizeClass::offset_of(size))
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
            Kind::Slab => self.free_small(object, pfn, word),
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

    /// The common case of a remote free: the open message for its owner has room.
    /// False, and nothing changed, in every other case. Makes no system call.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub unsafe fn try_free_remote(&self, object: NonNull<u8>) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            HeapHot::word_of(self.hot(), object.as_ptr())
                .filter(|word| {
                    !word.as_slab().is_some_and(|(_, class)| self.is_newest(class, object))
                })
                .is_some_and(|word| self.try_send(Remote { object: object.as_ptr(), word }))
        }
    }

    /// `object` as one that may be another heap's, after a push that missed.
    #[inline(always)]
    pub fn remote(object: *mut u8, found: Found) -> Remote {
        Remote { object, word: found.word() }
    }

    /// Adds the object to the open message for its owner; false, and nothing changed, when there is
    /// none or it would be the last one there.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    #[inline(always)]
    pub unsafe fn try_send(&self, Remote { object, word }: Remote) -> bool {
        let Some(mut inner) = self.try_enter_unnoted() else { return false };
        let outbox = &mut inner.outbox;
        let message = *outbox.slot(word.raw());
        // SAFETY: open messages belong to this heap, and we are inside its gate.
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
        self.note_use();
        true
    }

    /// The less common case: its message is to be opened, or posted. False, and nothing changed, in
    /// every other case. Makes no system call.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub unsafe fn try_free_remote_at_end(&self, object: NonNull<u8>) -> bool {
        let mm = self.mm();
        // SAFETY: the caller's promise.
        let Some(word) = (unsafe { HeapHot::word_of(self.hot(), object.as_ptr()) }) else {
            return false;
        };
        let Some((owner, class)) = word.as_slab() else { return false };
        let offset = Slicing::of(class).offset_of(object.addr().get());
        if owner == self.id()
            || self.is_newest(class, object)
            || mm.object_at(class, offset).is_none()
            || mm.heap(owner).is_none()
            || mm.is_checked()
        {
            return false;
        }
        let Some(mut inner) = self.try_enter() else { return false };
        // SAFETY: open messages belong to this heap, and we are inside its gate.
        let open = unsafe { (*inner.outbox.slot(word.raw())).as_ref() };
        let has_message =
            open.is_some_and(|m| m.is_for(word.raw())) || !inner.outbox.spare.is_null();
        // Who keeps what it has to send may need memory for that.
        has_message && !inner.reuse.is_crowded && inner.send(self, object, class, word)
    }

    fn free_small(&self, object: NonNull<u8>, pfn: Pfn, word: PageWord) -> Result<(), BadPointer> {
        let addr = object.addr().get();
        let mm = self.mm();
        let map = &mm.pages().map;
        let Some((owner, class)) = word.as_slab() else {
            return Err(BadPointer::new(addr, BadKind::NotAllocated));
        };
        if mm.object_at(class, Slab::offset_of(map, pfn, class, addr)).is_none() {
            return Err(BadPointer::new(addr, BadKind::Interior));
        }
        self.sync_hot();
        if self.is_newest(class, object) {
            return Err(BadPointer::new(addr, BadKind::DoubleFree));
        }
        if owner != self.id() {
            return self.free_remote(object, owner, class, word);
        }
        if !self.claim_bins() {
            self.put_aside_or_defer(object, class);
            return Ok(());
        }
        // SAFETY: the caller owns the heap and gave the object away.
        if unsafe { !HeapHot::push(self.hot(), object.as_ptr()) } {
            self.spill(class);
            // SAFETY: as above.
            if unsafe { !HeapHot::push(self.hot(), object.as_ptr()) } {
                // No memory for the bin's array: straight back to the slab.
                match self.try_enter() {
                    Some(mut inner) => inner.put_object(self, class, object.as_ptr()),
                    None => self.put_aside_or_defer(object, class),
                }
            }
        }
        Ok(())
    }

    /// Whether it is the object of its class that was freed last, of whatever heap. Owner only; what it cannot
    /// see for a visitor shows when the object comes to its slab.
    fn is_newest(&self, class: SizeClass, object: NonNull<u8>) -> bool {
        // SAFETY: the caller owns the heap, and has its bins.
        self.claim_bins() && unsafe { HeapHot::is_newest(self.hot(), class, object.as_ptr()) }
    }

    /// Collects an object for its owner and posts the message when it is full.
    fn free_remote(
        &self,
        object: NonNull<u8>,
        owner: HeapId,
        class: SizeClass,
        word: PageWord,
    ) -> Result<(), BadPointer> {
        if self.mm().heap(owner).is_none() {
            return Err(BadPointer::new(object.addr().get(), BadKind::NotAllocated));
        }
        match self.try_enter() {
            Some(mut inner) => {
                if !inner.send(self, object, class, word) {
                    drop(inner);
                    self.defer(object);
                }
            }
            None => self.put_aside_or_defer(object, class),
        }
        Ok(())
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
