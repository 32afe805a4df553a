//! Whole pages for Rust programs, with the kernel's flags.
//!
//! ```
//! use zonal::pages::{self, PageFlags};
//!
//! let flags = PageFlags { zero: true, no_retry: true, ..PageFlags::default() };
//! let buffer = pages::alloc(16, flags).expect("64 KiB");
//! // SAFETY: 16 pages, ours until they are freed.
//! unsafe {
//!     assert_eq!(buffer.add(65_535).read(), 0);
//!     pages::free(buffer);
//! }
//! ```

use core::ptr::NonNull;

pub use zonal_numa::NodeId;
pub use zonal_reclaim::PageFlags;

use crate::foreign::Alone;
use crate::{hot, slow};

/// The largest request, in pages of 4 KiB.
pub const MAX_PAGES: usize = 1024;

/// `nr_pages` pages (1 to [`MAX_PAGES`]) from where the thread's policy says; none as the flags say,
/// and in a signal handler that interrupted zonal.
pub fn alloc(nr_pages: usize, flags: PageFlags) -> Option<NonNull<u8>> {
    slow::pages(None, nr_pages, flags)
}

/// The same from a node: with [`PageFlags::this_node`] from it alone, else from it first.
pub fn alloc_on(node: NodeId, nr_pages: usize, flags: PageFlags) -> Option<NonNull<u8>> {
    slow::pages(Some(node), nr_pages, flags)
}

/// Gives pages back.
///
/// # Safety
/// They came from this module, and are not used any more.
pub unsafe fn free(pages: NonNull<u8>) {
    // SAFETY: the caller's promise: a live block.
    unsafe { hot::free::<Alone>(pages.as_ptr()) };
}
