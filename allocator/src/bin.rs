//! Bins: what a `malloc` or `free` touches when nothing is missing.
//!
//! A bin is a stack of object pointers, one per size class. The object freed last is handed out
//! next, whichever slab it came from, and whichever heap of the same group ([`crate::remote::group`]), so it
//! is still in the cache. A hit writes nothing into an object.
//!
//! ```text
//!   array -> slot 0: null | oldest | .. | newest |     | ..
//!                                                ^top        ^limit
//! ```
//!
//! Slot 0 of every array holds null: popping an empty bin reads it and misses, which saves a
//! comparison. Every change of a bin has one committing store, that of `top`: whoever looks at a
//! bin whose owner was stopped for ever (a forked child) finds either the state before or after.

use core::ptr;

use crate::class::CLASS_SHIFT;

/// A stack of pointers to free objects of one class. Half a cache line: a hit needs no other.
#[derive(Debug)]
#[repr(C, align(32))]
pub(crate) struct Bin {
    /// One above the newest object.
    pub(crate) top: *mut *mut u8,
    /// One above the last slot.
    pub(crate) limit: *mut *mut u8,
    /// The low half of the words of pages whose objects it takes; 0, which no such page has, for none.
    pub(crate) takes: u16,
}

const _: () = assert!(size_of::<Bin>() == 1 << CLASS_SHIFT);

/// The null slot of all bins that have no array yet. Never written.
#[repr(transparent)]
struct Floor(*mut u8);
// SAFETY: it is never written.
unsafe impl Sync for Floor {}
static FLOOR: Floor = Floor(ptr::null_mut());

impl Bin {
    /// A bin without an array: always empty and always full.
    pub(crate) const EMPTY: Bin = {
        let floor = (&raw const FLOOR.0).cast_mut();
        // SAFETY: one past the single slot.
        let top = unsafe { floor.add(1) };
        Bin { top, limit: top, takes: 0 }
    };

    /// Whether it has an array.
    #[inline]
    pub(crate) fn has_array(&self) -> bool {
        self.limit != Self::EMPTY.limit
    }

    /// Whether there is a free slot.
    #[cfg(test)]
    pub(crate) fn has_room(&self) -> bool {
        self.top < self.limit
    }

    /// The object that was put there last; null when the bin is empty.
    ///
    /// # Safety
    /// The caller has the bin: its thread owns the heap and has marked it, or is alone with it; or it is that of the
    /// static empty heap, which stays as it is.
    #[inline(always)]
    pub(crate) unsafe fn newest(bin: *mut Bin) -> *mut u8 {
        // SAFETY: the caller's promise. Slot 0 below `top` always exists and holds null.
        unsafe { *(*bin).top.sub(1) }
    }

    /// Takes the newest object; null when the bin is empty.
    ///
    /// # Safety
    /// As for [`Bin::newest`].
    #[inline(always)]
    pub(crate) unsafe fn pop(bin: *mut Bin) -> *mut u8 {
        // SAFETY: as in `newest`.
        unsafe {
            let slot = (*bin).top.sub(1);
            let object = *slot;
            if !object.is_null() {
                (*bin).top = slot;
            }
            object
        }
    }

    /// Lays `object` on top.
    ///
    /// # Safety
    /// As for [`Bin::newest`], and the bin has room.
    #[inline(always)]
    pub(crate) unsafe fn put(bin: *mut Bin, object: *mut u8) {
        // SAFETY: the caller's promise: a slot below `limit` is writable.
        unsafe {
            let top = (*bin).top;
            *top = object;
            (*bin).top = top.add(1);
        }
    }
}
