//! Large blocks: page runs handed out as one object, from 32 KiB to 4 MiB.
//!
//! The page word of the head says `Large` with the number of pages, so that everything about the
//! block is found with one load. Freeing swaps the word to nothing: of two frees of one block only
//! one sees it.

use core::ptr::NonNull;

use zonal_numa::{PAGE_SHIFT, PAGE_SIZE};

use crate::error::AllocError;
use crate::heap::Heap;
use crate::large_cache;
use crate::misuse::{BadKind, BadPointer};
use crate::mm::{Attempt, Block, Mm, Request};
use crate::order::Order;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Kind, Migratetype, PageWord};

/// The largest block of the buddy core, in bytes.
pub(crate) const MAX_LARGE: usize = PAGE_SIZE << 10;

impl Mm {
    /// A run of at least `size` bytes for the owner of `heap`.
    pub(crate) fn alloc_large(
        &self,
        heap: &Heap,
        size: usize,
        align: usize,
        from: Attempt,
    ) -> Result<Block, AllocError> {
        let mut nr_pages = size.div_ceil(PAGE_SIZE).max(1);
        if nr_pages <= large_cache::MAX_PAGES {
            // Steps as those of the largest size classes: so runs fit again.
            nr_pages = nr_pages.next_multiple_of(2);
        }
        let align_pages = (align >> PAGE_SHIFT).max(1);
        let align_order = Order::holding(align_pages).ok_or(AllocError::TooLarge)?;
        let pages = self.pages();
        if align_order == Order::ZERO
            && nr_pages <= large_cache::MAX_PAGES
            && from.node == heap.node()
            && let Some(run) = heap.enter().large.take(pages, nr_pages)
        {
            return self.publish_large(run, size);
        }
        let run =
            pages.alloc_run(from.node, nr_pages, align_order, Migratetype::Large, from.level)?;
        self.publish_large(run, size)
    }

    /// `nr_pages` pages, or slightly more, for the owner of `heap`. An `urgent` request may use the
    /// pageblocks kept for such ones.
    ///
    /// # Errors
    /// `Exhausted` changes nothing; `TooLarge` for none or too many pages.
    ///
    /// # Safety
    /// The calling thread owns `heap`.
    pub unsafe fn alloc_pages(
        &self,
        heap: &Heap,
        nr_pages: usize,
        from: Attempt,
        urgent: bool,
    ) -> Result<Block, AllocError> {
        if nr_pages == 0 {
            return Err(AllocError::TooLarge);
        }
        let pages = self.pages();
        // What `free` gets back must carry a seal then, as every block does.
        if self.is_checked() {
            let size = nr_pages.checked_mul(PAGE_SIZE).ok_or(AllocError::TooLarge)?;
            return heap.alloc_checked(Request { size, align: PAGE_SIZE, zeroed: false }, from);
        }
        if !urgent && nr_pages <= large_cache::MAX_PAGES && from.node == heap.node() {
            let mut inner = heap.enter();
            let run = inner.large.take(pages, nr_pages);
            if let Some(run) = run.or_else(|| inner.large.refill(pages, nr_pages, from)) {
                drop(inner);
                return self.publish_large(run, nr_pages * PAGE_SIZE);
            }
        }
        let mt = if urgent { Migratetype::HighAtomic } else { Migratetype::Large };
        let run = pages.alloc_run(from.node, nr_pages, Order::ZERO, mt, from.level)?;
        self.publish_large(run, nr_pages * PAGE_SIZE)
    }

    /// A huge block made of free pageblocks, when the system gave no mapping.
    pub(crate) fn alloc_row(&self, size: usize, from: Attempt) -> Result<Block, AllocError> {
        let nr_pages = size.div_ceil(PAGE_SIZE);
        self.publish_large(self.pages().alloc_contig(from.node, nr_pages, from.level)?, size)
    }

    fn publish_large(&self, run: PageRun, size: usize) -> Result<Block, AllocError> {
        let pages = self.pages();
        let nr_pages = run.nr_pages();
        let known_zero = run.known_zero();
        let head = run.into_head();
        pages.map.word(head).store(PageWord::large(nr_pages as u32).raw(), Relaxed);
        self.fill_slack(head, nr_pages, size, known_zero);
        NonNull::new(pages.map.addr_of(head))
            .map(|start| Block { start, known_zero })
            .ok_or(AllocError::TooLarge)
    }

    /// Frees the run that starts at `pfn`, of which `addr` must be the first byte.
    pub(crate) fn free_large(&self, heap: &Heap, pfn: Pfn, addr: usize) -> Result<(), BadPointer> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(BadPointer::new(addr, BadKind::Interior));
        }
        let pages = self.pages();
        let word = pages.map.word_at(pfn);
        // Relaxed: the run's contents pass on under the zone lock.
        let claimed = word.kind() == Kind::Large
            && pages
                .map
                .word(pfn)
                .compare_exchange(word.raw(), PageWord::NOTHING.raw(), Relaxed, Relaxed)
                .is_ok();
        if !claimed {
            return Err(BadPointer::new(addr, BadKind::DoubleFree));
        }
        let nr_pages = word.payload() as usize;
        if self.size_before_slack(pfn, nr_pages).is_none() {
            // For the report.
            pages.map.word(pfn).store(word.raw(), Relaxed);
            return Err(BadPointer::new(addr, BadKind::Overrun));
        }
        // SAFETY: the word said that a live run of that length starts here, and now it is ours.
        let run = unsafe { pages.run_from_head(pfn, nr_pages) };
        heap.enter().large.put(pages, heap.node(), run);
        self.doorbell().ring();
        Ok(())
    }

    /// Makes the run at `pfn` shorter or longer in place, for `size` bytes; false when it cannot hold
    /// them here.
    pub(crate) fn resize_large(&self, pfn: Pfn, size: usize) -> bool {
        let pages = self.pages();
        let word = PageWord::from_raw(pages.map.word(pfn).load(Relaxed));
        let have = word.payload() as usize;
        let want = size.div_ceil(PAGE_SIZE).max(1);
        if word.kind() != Kind::Large {
            return false;
        }
        if want > have {
            if size > MAX_LARGE || !pages.extend_run(pfn, have, want) {
                return false;
            }
            pages.map.word(pfn).store(PageWord::large(want as u32).raw(), Relaxed);
        } else if want < have {
            // SAFETY: the live run belongs to the caller of realloc.
            let mut run = unsafe { pages.run_from_head(pfn, have) };
            let tail = run.split_tail(want);
            pages.map.word(pfn).store(PageWord::large(want as u32).raw(), Relaxed);
            let _ = run.into_head();
            pages.free_run(tail);
        }
        self.fill_slack(pfn, want, size, false);
        true
    }
}
