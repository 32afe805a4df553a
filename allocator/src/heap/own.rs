//! The calling thread's own heap, as a value that safe functions can be given.

use core::ops::Deref;
use core::ptr::NonNull;

use super::Heap;
use crate::error::AllocError;
use crate::mm::{Attempt, Block, Request};

/// The heap of the calling thread, which is inside none of its operations. It stays with the thread: it is neither
/// `Send` nor `Sync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct OwnHeap(NonNull<Heap>);

impl OwnHeap {
    /// # Safety
    /// For as long as this or a copy of it is used, the calling thread owns `heap`, and is inside none of its
    /// operations whenever it is used.
    #[inline]
    pub unsafe fn new(heap: NonNull<Heap>) -> OwnHeap {
        OwnHeap(heap)
    }

    /// The heap, which outlives its being this thread's.
    #[inline]
    pub fn heap(self) -> &'static Heap {
        // SAFETY: a heap, and heaps are never unmapped.
        unsafe { self.0.as_ref() }
    }

    /// Whether `heap` is the calling thread's `own`, if it has one.
    #[inline]
    pub(crate) fn is(own: Option<OwnHeap>, heap: &Heap) -> bool {
        own.is_some_and(|own| own.0 == NonNull::from(heap))
    }

    /// For those who keep it or give it away.
    #[inline]
    pub fn as_non_null(self) -> NonNull<Heap> {
        self.0
    }

    /// [`Heap::alloc`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn alloc(self, request: Request, from: Attempt) -> Result<Block, AllocError> {
        // SAFETY: the calling thread owns the heap.
        unsafe { self.heap().alloc(request, from) }
    }

    /// [`Mm::alloc_pages`](crate::Mm::alloc_pages).
    ///
    /// # Errors
    /// As there.
    pub fn alloc_pages(
        self,
        nr_pages: usize,
        from: Attempt,
        urgent: bool,
    ) -> Result<Block, AllocError> {
        // SAFETY: the calling thread owns the heap.
        unsafe { self.mm().alloc_pages(self.heap(), nr_pages, from, urgent) }
    }
}

impl Deref for OwnHeap {
    type Target = Heap;

    #[inline]
    fn deref(&self) -> &Heap {
        self.heap()
    }
}
