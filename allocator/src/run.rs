//! The token of a page run.

use crate::pfn::Pfn;

/// Pages that belong to the holder of this value: contiguous, of one node, in no list.
///
/// Neither `Copy` nor `Clone`: giving it to `free_run` ends the ownership. A holder that keeps
/// its pages by metadata only (a page word, a slab record) forgets the token with
/// [`PageRun::into_head`] and rebuilds it with `Pages::run_from_head`.
#[must_use = "dropping the token leaks the pages"]
#[derive(Debug, PartialEq, Eq)]
pub struct PageRun {
    head: Pfn,
    nr_pages: u32,
    known_zero: bool,
}

impl PageRun {
    #[inline]
    pub(crate) const fn new(head: Pfn, nr_pages: usize, known_zero: bool) -> PageRun {
        PageRun { head, nr_pages: nr_pages as u32, known_zero }
    }

    /// The first page.
    #[inline]
    pub const fn head(&self) -> Pfn {
        self.head
    }

    /// How many pages.
    #[inline]
    pub const fn nr_pages(&self) -> usize {
        self.nr_pages as usize
    }

    /// Whether every byte was zero when the run was handed out.
    #[inline]
    pub const fn known_zero(&self) -> bool {
        self.known_zero
    }

    /// Ends the token; the metadata now says whose the pages are.
    #[inline]
    pub const fn into_head(self) -> Pfn {
        self.head
    }

    /// Cuts off all but the first `nr_pages` pages (at least 1, fewer than there are).
    pub fn split_tail(&mut self, nr_pages: usize) -> PageRun {
        debug_assert!(nr_pages > 0 && nr_pages < self.nr_pages());
        let tail =
            PageRun::new(self.head.add(nr_pages), self.nr_pages() - nr_pages, self.known_zero);
        self.nr_pages = nr_pages as u32;
        tail
    }
}
