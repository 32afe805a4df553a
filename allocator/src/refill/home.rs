//! Objects on their way from a bin into the bitmaps of their slabs.
//!
//! Where many objects are dropped, most of the time goes here. They lie side by side, near each other, or anywhere:
//! eight at a time it is looked which, and then nothing is guessed about each. What needs the heap besides its slabs,
//! as a slab that has to be listed, stops the way, so that no call stands in it.

use core::marker::PhantomData;
use core::ptr::NonNull;

use zonal_numa::PAGE_SHIFT;

use crate::class::{SizeClass, Slicing};
use crate::heap::Heap;
use crate::misuse::BadKind;
use crate::order::Order;
use crate::pagemap::ColdPlaces;
use crate::slab::{AT_ONCE, Slab};
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// The slabs of one class of a heap: all about them that does not depend on the object.
#[derive(Debug)]
pub(super) struct Home<'a> {
    /// The map has words for what is in bins.
    base: usize,
    words: *const AtomicU32,
    cold: ColdPlaces,
    /// Of the pages of these slabs.
    word: u32,
    generation: u32,
    slicing: Slicing,
    order: Order,
    heap: PhantomData<&'a Heap>,
}

impl Home<'_> {
    pub(super) fn of(heap: &Heap, class: SizeClass) -> Home<'_> {
        let pages = heap.mm().pages();
        Home {
            base: pages.map.base(),
            words: pages.map.words(),
            cold: pages.map.cold_places(),
            word: heap.slab_word(class).raw(),
            generation: pages.generation(),
            slicing: Slicing::of(class),
            order: class.slab_order(),
            heap: PhantomData,
        }
    }

    /// Whether the page of `object`, which was in a bin, is one of these slabs'.
    #[inline(always)]
    pub(super) fn has(&self, object: *mut u8) -> bool {
        let pfn = (object.addr() - self.base) >> PAGE_SHIFT;
        // SAFETY: what is in bins lies in pages that the map covers, whatever they are by now.
        let word = unsafe { &*self.words.add(pfn) };
        // Relaxed: pages of this heap's slabs change their word inside this gate only.
        word.load(Relaxed) == self.word
    }

    /// The slab of an object, of which [`Home::has`] the page.
    #[inline(always)]
    fn slab_of(&self, object: *mut u8) -> *mut Slab {
        self.cold.at(object.addr() - self.base, self.order).cast()
    }

    /// Puts some objects from the front of `objects`, of which there is one, back. Returns how many, and the slab of
    /// the last one where the lists have to know of it: none, and no slab, where the first does not come back.
    ///
    /// # Safety
    /// The caller is inside the gate of the heap, and the objects were in a bin.
    pub(super) unsafe fn put(&self, objects: &[*mut u8]) -> (usize, Option<NonNull<Slab>>) {
        // SAFETY: the caller's promise.
        unsafe {
            match objects.first_chunk() {
                Some(few) if self.is_cluster(few) => self.put_cluster(objects),
                Some(few) => self.put_scattered(few),
                None => self.put_scattered(objects),
            }
        }
    }

    /// Why an object, of which [`Home::has`] the page, does not come back. If it does after all, it did now.
    ///
    /// # Safety
    /// As for [`Home::put`].
    #[cold]
    pub(super) unsafe fn kind_of(&self, object: *mut u8) -> Option<BadKind> {
        // SAFETY: a live slab's header, of a heap inside whose gate we are.
        let slab = unsafe { &mut *self.slab_of(object) };
        slab.put_one(self.slicing, self.offset_of(object)).err()
    }

    /// Whether so many lie in one slab, by a look at three of them.
    #[inline(always)]
    fn is_cluster(&self, few: &[*mut u8; AT_ONCE]) -> bool {
        let is_near = |nr: usize| self.slicing.is_same_slab(few[0].addr(), few[nr].addr());
        is_near(AT_ONCE / 2 - 1) & is_near(AT_ONCE - 1)
    }

    /// Puts those at the front back that lie in the slab of the first.
    ///
    /// # Safety
    /// As for [`Home::put`].
    #[inline(always)]
    unsafe fn put_cluster(&self, objects: &[*mut u8]) -> (usize, Option<NonNull<Slab>>) {
        let first = objects[0];
        if !self.has(first) {
            return (0, None);
        }
        // SAFETY: as in `kind_of`.
        let slab = unsafe { &mut *self.slab_of(first) };
        let nr = slab.put(self.slicing, first.addr() - self.offset_of(first), objects);
        (nr, (nr > 0).then(|| self.note_put(slab)).flatten())
    }

    /// Puts objects back that lie wherever they do.
    ///
    /// # Safety
    /// As for [`Home::put`].
    #[inline(always)]
    unsafe fn put_scattered(&self, objects: &[*mut u8]) -> (usize, Option<NonNull<Slab>>) {
        for (nr, &object) in objects.iter().enumerate() {
            if !self.has(object) {
                return (nr, None);
            }
            // SAFETY: as in `kind_of`.
            let slab = unsafe { &mut *self.slab_of(object) };
            if slab.put_one(self.slicing, self.offset_of(object)).is_err() {
                return (nr, None);
            }
            if let Some(slab) = self.note_put(slab) {
                return (nr + 1, Some(slab));
            }
        }
        (objects.len(), None)
    }

    /// Notes that objects came back into `slab`, which it answers if it has to be listed now, or is empty.
    #[inline(always)]
    fn note_put(&self, slab: &mut Slab) -> Option<NonNull<Slab>> {
        slab.touch(self.generation);
        slab.is_to_list().then(|| NonNull::from(slab))
    }

    #[inline(always)]
    fn offset_of(&self, object: *mut u8) -> usize {
        self.slicing.offset_of(object.addr())
    }
}
