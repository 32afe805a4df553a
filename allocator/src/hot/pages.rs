//! What the word of an object's page tells without any lock.

use core::sync::atomic::compiler_fence;

use zonal_numa::PAGE_SHIFT;

use super::HeapHot;
use crate::pfn::Pfn;
use crate::resize::fits;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::word::PageWord;

impl HeapHot {
    /// The word of the page of `object`; none where this heap knows of none. Nothing that this reads is ever torn,
    /// so it needs no mark.
    ///
    /// # Safety
    /// `this` is `EMPTY`, a detour, or a heap that the calling thread owns.
    #[inline(always)]
    pub(crate) unsafe fn word_of(this: *mut HeapHot, object: *mut u8) -> Option<PageWord> {
        // SAFETY: the caller's promise; `words` has a word for every page below `covered`.
        unsafe {
            let offset = object.addr().wrapping_sub((*this).base);
            if offset >= (*this).covered {
                return None;
            }
            // The other side of `sync_hot`, which a signal handler may call at this point.
            compiler_fence(Acquire);
            let word = (*(*this).words.add(offset >> PAGE_SHIFT)).load(Relaxed);
            Some(PageWord::from_raw(word))
        }
    }

    /// The page that lies at `addr`, of which this heap knows the word.
    ///
    /// # Safety
    /// As for [`HeapHot::word_of`].
    #[inline(always)]
    pub(crate) unsafe fn pfn_of(this: *mut HeapHot, addr: usize) -> Pfn {
        // SAFETY: the caller's promise.
        Pfn::new((addr.wrapping_sub(unsafe { (*this).base }) >> PAGE_SHIFT) as u32)
    }

    /// Bytes that `object` can hold, if it lies in a slab and one starts there; none where this heap
    /// knows of no word.
    ///
    /// # Safety
    /// `this` is `EMPTY`, a detour, or a heap that the calling thread owns.
    #[inline(always)]
    pub unsafe fn size_of(this: *mut HeapHot, object: *mut u8) -> Option<usize> {
        // SAFETY: the caller's promise.
        let word = unsafe { Self::word_of(this, object)? };
        let slicing = word.slicing();
        let is_start = slicing.is_start(object.addr());
        (word.is_slab() && is_start).then_some(slicing.size())
    }

    /// Whether `object` may stay where it is for `size` bytes: as far as this heap knows, so no is no
    /// answer.
    ///
    /// # Safety
    /// As for [`HeapHot::size_of`].
    #[inline(always)]
    pub unsafe fn may_stay(this: *mut HeapHot, object: *mut u8, size: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe { Self::size_of(this, object).is_some_and(|usable| fits(size, usable)) }
    }
}
