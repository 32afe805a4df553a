//! How the owner takes its heap for a call and gives it back: by [`Heap::hot`], or by
//! [`Heap::detour`] when all its hits shall miss.

use core::mem::offset_of;
use core::ptr::NonNull;

use super::Heap;
use crate::bin::HeapHot;

impl Heap {
    /// The part that hits touch.
    #[inline]
    pub fn hot(&self) -> *mut HeapHot {
        self.hot.get()
    }

    /// What the owner gives to its hits instead of [`Heap::hot`] to make them all miss.
    #[inline]
    pub fn detour(&self) -> *mut HeapHot {
        self.detour.get()
    }

    /// The heap with that `hot`.
    ///
    /// # Safety
    /// `hot` came from [`Heap::hot`].
    #[inline(always)]
    pub unsafe fn from_hot(hot: *mut HeapHot) -> NonNull<Heap> {
        // SAFETY: the first field of a repr(C) struct.
        unsafe { NonNull::new_unchecked(hot.cast()) }
    }

    /// The heap whose `hot` or `detour` its owner took, as its slow path begins. The mark of the
    /// place on the stack is in `hot` from here on.
    ///
    /// # Safety
    /// `taken` came from [`Heap::hot`] or [`Heap::detour`], and the calling thread owns the heap.
    #[inline]
    pub unsafe fn from_taken(taken: *mut HeapHot) -> NonNull<Heap> {
        // SAFETY: the caller's promise; both are fields of a repr(C) struct, `hot` the first.
        unsafe {
            let Some(heap) = Heap::from_detour(taken) else {
                return NonNull::new_unchecked(taken.cast());
            };
            HeapHot::copy_frame(heap.cast().as_ptr(), taken);
            heap
        }
    }

    /// Whoever has the heap gives it back, whichever way it was taken.
    ///
    /// # Safety
    /// As for [`Heap::from_taken`].
    #[inline]
    pub unsafe fn release(taken: *mut HeapHot) {
        // SAFETY: both are fields of a repr(C) struct, `hot` the first; the caller owns the heap.
        unsafe {
            let detour = if HeapHot::is_detour(taken) {
                taken
            } else {
                taken.byte_add(offset_of!(Heap, detour))
            };
            (*detour).clear_frame();
            (*detour.byte_sub(offset_of!(Heap, detour))).clear_frame();
        }
    }

    /// The heap whose `detour` was taken, if that was one; the mark stays there.
    ///
    /// # Safety
    /// As for [`Heap::from_taken`]; or `taken` is the empty heap.
    #[inline(always)]
    pub unsafe fn from_detour(taken: *mut HeapHot) -> Option<NonNull<Heap>> {
        // SAFETY: the caller's promise; the detour is a field of a repr(C) struct.
        unsafe {
            HeapHot::is_detour(taken)
                .then(|| NonNull::new_unchecked(taken.byte_sub(offset_of!(Heap, detour)).cast()))
        }
    }
}
