//! Lists of slabs, linked through their headers.

use core::ptr;

use super::Slab;

/// A doubly linked list of slabs.
#[derive(Debug)]
pub(crate) struct SlabList {
    pub(crate) head: *mut Slab,
}

impl SlabList {
    pub(crate) const EMPTY: SlabList = SlabList { head: ptr::null_mut() };

    /// Puts `slab` first.
    ///
    /// # Safety
    /// `slab` is live, on no list, and the caller is inside the gate of its heap.
    pub(crate) unsafe fn push(&mut self, slab: *mut Slab) {
        // SAFETY: the caller's promise; list members are live.
        unsafe {
            debug_assert!(!(*slab).listed);
            (*slab).next = self.head;
            (*slab).prev = ptr::null_mut();
            (*slab).listed = true;
            if !self.head.is_null() {
                (*self.head).prev = slab;
            }
        }
        self.head = slab;
    }

    /// Takes `slab` out.
    ///
    /// # Safety
    /// `slab` is on this list and the caller is inside the gate of its heap.
    pub(crate) unsafe fn remove(&mut self, slab: *mut Slab) {
        // SAFETY: the caller's promise; list members are live.
        unsafe {
            debug_assert!((*slab).listed);
            let (prev, next) = ((*slab).prev, (*slab).next);
            if prev.is_null() {
                self.head = next;
            } else {
                (*prev).next = next;
            }
            if !next.is_null() {
                (*next).prev = prev;
            }
            (*slab).listed = false;
        }
    }
}
