//! zonal as Rust's allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use crate::foreign::Alone;
use crate::hot;

/// zonal as the allocator of a Rust program: set it as `#[global_allocator]`.
///
/// All values of it are the same allocator, which is made by the first allocation and reads `ZONAL_CONF`
/// then. C code in the program keeps the C library's `malloc`. Without memory the answer is null, which
/// Rust's collections turn into an abort or `TryReserveError`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Zonal;

/// malloc's own alignment for the sizes that Rust asks for: a class of more than 8 bytes has 16.
const MALLOC_ALIGN: usize = 8;

// SAFETY: blocks have the size and alignment of their layout (aligned classes, checked in the
// allocator's tests), stay valid until freed, and nothing unwinds: the end is an abort.
unsafe impl GlobalAlloc for Zonal {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN { hot::malloc(layout.size()) } else { aligned(layout) }
    }

    /// The layout saves nothing: whose the object is stands in the word of its page, and beside that its class. To
    /// compare its size takes five instructions more, as for `operator delete` (`benches/gate.py`), and to believe it
    /// would put an object freed with a wrong layout into the bin of another class.
    #[inline]
    unsafe fn dealloc(&self, object: *mut u8, _: Layout) {
        // SAFETY: the caller gives up an object of ours.
        unsafe { hot::free::<Alone>(object) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            return hot::zalloc(layout.size());
        }
        hot::zalloc_aligned(layout.size(), layout.align())
    }

    #[inline]
    unsafe fn realloc(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: the caller's promise.
            return unsafe { hot::realloc::<Alone>(object, size) };
        }
        // SAFETY: `GlobalAlloc::realloc` demands a size that fits.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: a live object of ours.
        let usable = unsafe { hot::usable_size::<Alone>(object) };
        if size <= usable && size > usable / 2 {
            return object;
        }
        // SAFETY: `size` is not zero.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: both have that many bytes and differ; the caller gives `object` up.
            unsafe {
                ptr::copy_nonoverlapping(object, moved, layout.size().min(size));
                self.dealloc(object, layout);
            }
        }
        moved
    }
}

/// Apart, so that a hit of the usual kind saves no registers: rustc calls the allocator through a function of its own,
/// in which nothing of the layout is known.
#[inline(never)]
fn aligned(layout: Layout) -> *mut u8 {
    hot::aligned(layout.size(), layout.align())
}
