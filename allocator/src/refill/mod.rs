//! Bins against slabs: refill when a bin is empty, spill when it is full.
//!
//! Both run inside the owner gate. A refill takes, in this order, what another thread's bin had too much of
//! ([`crate::remote::barn`]), what others have sent back,
//! free objects of partly used slabs, its own, or such as many threads share for their first objects of a
//! class (`young`), or of ended threads, where much is in flight an object of another heap
//! ([`crate::remote::reuse`]), and a new slab. A spill returns the older half of the bin to
//! the slabs' bitmaps, those of other heaps into messages to these; the younger half is still warm in
//! the cache.

mod depth;
mod home;
mod inbox;
mod left;
mod objects;
mod slabs;
mod young;

use core::ptr::NonNull;
use core::sync::atomic::compiler_fence;

use crate::bin::Bin;
use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::{Entered, Heap, Inner};
use crate::mm::Attempt;
use crate::sync::atomic::Ordering::Release;

pub(crate) use self::slabs::Drained;
pub(crate) use self::young::MIN_THREADS as MIN_THREADS_TO_SHARE;

/// What a refill came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refilled {
    /// There is something in the bin.
    Bin,
    /// This object of another heap is handed out: [`crate::remote::reuse`].
    Object(NonNull<u8>),
}

impl Heap {
    /// Puts at least one object of `class` into its bin, for a request of `size` bytes, or hands one of
    /// another heap out. Owner only. None, and nothing done, while a visitor is in the heap.
    pub(crate) fn refill(
        &self,
        class: SizeClass,
        size: usize,
        from: Attempt,
    ) -> Result<Option<Refilled>, AllocError> {
        let Some(inner) = self.try_enter() else { return Ok(None) };
        self.fill_bin(inner, class, size, from).map(Some)
    }

    /// The same for an owner that is inside.
    pub(crate) fn fill_bin(
        &self,
        mut inner: Entered<'_>,
        class: SizeClass,
        size: usize,
        from: Attempt,
    ) -> Result<Refilled, AllocError> {
        inner.classes[class.index()].sample(size);
        inner.events.bin_refill += 1;
        self.sync_hot();
        inner.prepare_bin(self, class)?;
        inner.receive(self, class);
        if !inner.has_in_bin(self, class) {
            inner.take_left(self, class);
        }
        if !inner.has_in_bin(self, class) {
            return inner.take_from_slabs(self, class, from);
        }
        Ok(Refilled::Bin)
    }

    /// Makes room in the bin of `class`, unless a visitor is in the heap. Owner only.
    pub(crate) fn spill(&self, class: SizeClass) {
        self.mm().doorbell().ring();
        let Some(mut inner) = self.try_enter() else { return };
        inner.events.bin_spill += 1;
        inner.classes[class.index()].spilled = true;
        if inner.grow_bin(self, class, false) {
            return;
        }
        if inner.classes[class.index()].array.is_null() {
            return;
        }
        inner.spill_half(self, class);
    }

    /// Refreshes the heap's copy of what the page map covers. Owner only.
    pub(crate) fn sync_hot(&self) {
        let map = &self.mm().pages().map;
        let hot = self.hot();
        // First: the bases are those of what it covers.
        let covered = map.covered();
        // SAFETY: the owner's own fields, and no hit is under way.
        unsafe {
            (*hot).base = map.base();
            (*hot).words = map.words();
            // A handler of a signal of this thread's looks at them without taking the heap
            // (`HeapHot::word_of`): when it sees something covered, it has to see where the words are.
            compiler_fence(Release);
            (*hot).covered = covered;
        }
    }

    fn bin(&self, class: SizeClass) -> *mut Bin {
        // SAFETY: only the address is computed.
        unsafe { &raw mut (*self.hot()).bins[class.index()] }
    }
}

impl Inner {
    pub(crate) fn has_in_bin(&self, heap: &Heap, class: SizeClass) -> bool {
        // SAFETY: the caller has the bins; slot 0 below `top` always exists.
        unsafe { !(*(*heap.bin(class)).top.sub(1)).is_null() }
    }

    /// Returns the older half of the bin to the slabs.
    fn spill_half(&mut self, heap: &Heap, class: SizeClass) {
        self.spill_down_to(heap, class, self.bin_len(heap, class) / 2);
    }

    /// Returns the oldest objects of the bin to the slabs, until so many are left.
    pub(super) fn spill_down_to(&mut self, heap: &Heap, class: SizeClass, left: usize) {
        let bin = heap.bin(class);
        let array = self.classes[class.index()].array;
        let used = self.bin_len(heap, class);
        let nr = used.saturating_sub(left);
        // SAFETY: `array..top` are the bin's slots; slot 0 is the null floor. The objects leave
        // the slots before they enter the bitmaps only in the view of others, who see `top` last.
        unsafe {
            self.put_objects(heap, class, core::slice::from_raw_parts(array.add(1), nr));
            array.add(1).copy_from(array.add(1 + nr), used - nr);
            (*bin).top = array.add(1 + used - nr);
        }
    }

    /// Objects in the bin of `class`, which has an array.
    fn bin_len(&self, heap: &Heap, class: SizeClass) -> usize {
        heap.bin_len(class, &self.classes[class.index()])
    }

    /// Empties the bin of `class` into the slabs. Only when no owner can be on the hit path: [`crate::mark`].
    pub(crate) fn flush_bin(&mut self, heap: &Heap, class: SizeClass) {
        self.flush_newest(heap, class, usize::MAX);
    }

    /// The same for so many of them.
    pub(crate) fn flush_newest(&mut self, heap: &Heap, class: SizeClass, most: usize) {
        let array = self.classes[class.index()].array;
        if array.is_null() {
            return;
        }
        let bin = heap.bin(class);
        // SAFETY: as in `spill_half`.
        unsafe {
            let used = (*bin).top.offset_from_unsigned(array) - 1;
            let nr = used.min(most);
            let first = array.add(1 + used - nr);
            (*bin).top = first;
            self.put_objects(heap, class, core::slice::from_raw_parts(first, nr));
        }
    }
}
