//! Large blocks: page runs handed out as one object, from 32 KiB to 4 MiB, and the first of some smaller
//! classes ([`crate::misuse::fence`]).
//!
//! The page word of the head says `Large` with the number of pages, so that everything about the
//! block is found with one load. Freeing swaps the word to nothing: of two frees of one block only
//! one sees it.

use core::ptr::NonNull;

use zonal_numa::{PAGE_SHIFT, PAGE_SIZE};

use crate::error::AllocError;
use crate::heap::Heap;
use crate::large::cache;
use crate::large::kept_runs;
use crate::misuse::{BadKind, BadPointer};
use crate::mm::{Attempt, Block, Mm, Request};
use crate::order::{Order, PAGEBLOCK_BYTES};
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Kind, Migratetype, PageWord};

/// The largest block of the buddy core, in bytes.
pub(crate) const MAX_LARGE: usize = PAGE_SIZE << 10;

/// A block that grows gets one part in so many more than asked for.
pub(crate) const GROWTH_PART: usize = 8;

/// Pages of a run for `size` bytes.
fn pages_for(size: usize) -> usize {
    let nr_pages = size.div_ceil(PAGE_SIZE).max(1);
    LENGTHS.get(nr_pages).map_or(nr_pages, |&length| length.into())
}

/// The same where the thread may keep it, in fewer instructions.
#[inline(always)]
pub(crate) fn kept_pages_for(size: usize) -> usize {
    debug_assert!(size <= kept_runs::MAX_PAGES * PAGE_SIZE);
    LENGTHS[((size + (PAGE_SIZE - 1)) >> PAGE_SHIFT) % LENGTHS.len()].into()
}

/// How long runs are that threads may keep, by the pages that are asked for, none first: in steps as those of the
/// largest size classes, twice as long above 128 KiB, so that runs fit again.
static LENGTHS: [u8; 2 * kept_runs::MAX_PAGES] = {
    const HALF: usize = kept_runs::MAX_PAGES / 2;
    let mut lengths = [0; 2 * kept_runs::MAX_PAGES];
    let mut nr_pages = 0;
    while nr_pages < lengths.len() {
        let last = match nr_pages {
            0..=HALF => 1,
            _ if nr_pages <= kept_runs::MAX_PAGES => 3,
            _ => 0,
        };
        lengths[nr_pages] = ((nr_pages + last) & !last) as u8;
        nr_pages += 1;
    }
    lengths
};

/// The largest slack of a kept block, which its page word has to hold: of the least size in the longest run that serves.
pub(crate) const MOST_SLACK: usize = {
    let mut most = 0;
    let mut nr_pages = 1;
    while nr_pages <= kept_runs::MAX_PAGES {
        let length = LENGTHS[nr_pages] as usize;
        let longer = length + length / kept_runs::FIT_PART;
        let longest = if longer < kept_runs::MAX_PAGES { longer } else { kept_runs::MAX_PAGES };
        let slack = (longest - (nr_pages - 1)) * PAGE_SIZE - 1;
        most = if slack > most { slack } else { most };
        nr_pages += 1;
    }
    most
};
const _: () = assert!(MOST_SLACK <= u16::MAX as usize);

impl Mm {
    /// A run of at least `size` bytes for the owner of `heap`.
    pub(crate) fn alloc_large(
        &self,
        heap: &Heap,
        request: Request,
        from: Attempt,
    ) -> Result<Block, AllocError> {
        let Request { size, align, grows, .. } = request;
        let longest = if grows { cache::MAX_SHARED } else { kept_runs::MAX_PAGES };
        // What was moved once goes on growing, and is copied less often.
        let roomy = if grows { (size + size / GROWTH_PART).min(MAX_LARGE) } else { size };
        self.publish_large(self.run_for(heap, (roomy, align), longest, from)?, size)
    }

    /// The same for an object of a class, with slack behind it.
    pub(crate) fn alloc_roomy(
        &self,
        heap: &Heap,
        size: usize,
        from: Attempt,
    ) -> Result<Block, AllocError> {
        heap.read_policy();
        let run = self.run_for(heap, (size + 1, 1), cache::MAX_SHARED, from)?;
        self.note_taken(heap, from.node, run.nr_pages());
        self.publish_large(run, size)
    }

    /// A run of up to `longest` pages may be one that the heap keeps.
    fn run_for(
        &self,
        heap: &Heap,
        (size, align): (usize, usize),
        longest: usize,
        from: Attempt,
    ) -> Result<PageRun, AllocError> {
        let nr_pages = pages_for(size);
        let align_pages = (align >> PAGE_SHIFT).max(1);
        let align_order = Order::holding(align_pages).ok_or(AllocError::TooLarge)?;
        let pages = self.pages();
        let may_be_kept =
            align_order == Order::ZERO && nr_pages <= longest && from.node == heap.node();
        if may_be_kept
            && let Some(mut inner) = heap.try_enter()
            && let Some(run) = inner.large().find(pages, heap.node(), nr_pages)
        {
            return Ok(run);
        }
        // First, so that it need not grow.
        pages.node_cache(from.node).note_miss(pages, nr_pages);
        if may_be_kept && let Some(mut inner) = heap.try_enter() {
            inner.large().make_way(pages, nr_pages);
        }
        let run =
            pages.alloc_run(from.node, nr_pages, align_order, Migratetype::Large, from.level)?;
        if nr_pages <= kept_runs::MAX_PAGES
            && let Some(mut inner) = heap.try_enter()
        {
            inner.large().note_miss(pages, nr_pages, may_be_kept);
        }
        Ok(run)
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
            return heap.alloc_checked(
                Request { size, align: PAGE_SIZE, zeroed: false, grows: false },
                from,
            );
        }
        if !urgent
            && nr_pages <= cache::MAX_SHARED
            && from.node == heap.node()
            && let Some(mut inner) = heap.try_enter()
        {
            let mut kept = inner.large();
            let run = kept.runs.take(nr_pages).or_else(|| kept.fetch(pages, from.node, nr_pages));
            let refill = || {
                pages.node_cache(from.node).note_miss(pages, nr_pages);
                kept.refill(pages, nr_pages, from)
            };
            if let Some(run) = run.or_else(refill) {
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

    /// The same where all of them are resident; a block that `grows` is better off in a mapping, which can
    /// be moved without being copied, and zeros are, as long as nobody touches them.
    pub(crate) fn alloc_warm_row(&self, request: Request, from: Attempt) -> Option<Block> {
        let Request { size, align, zeroed, grows } = request;
        let may_be = self.is_one_node() && !zeroed && !grows && align <= PAGEBLOCK_BYTES;
        if !may_be || self.huge().keeps(size) {
            return None;
        }
        let run = self.pages().alloc_warm_row(from.node, size.div_ceil(PAGE_SIZE), from.level)?;
        self.publish_large(run, size).ok()
    }

    /// Makes the run a live block of `size` bytes.
    pub(crate) fn publish_large(&self, run: PageRun, size: usize) -> Result<Block, AllocError> {
        let pages = self.pages();
        let nr_pages = run.nr_pages();
        let known_zero = run.known_zero();
        let head = run.into_head();
        self.set_large(head, nr_pages, size, known_zero);
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
        if word.kind() != Kind::Large || !pages.map.claim(pfn, word, PageWord::NOTHING) {
            return Err(BadPointer::new(addr, BadKind::DoubleFree));
        }
        let nr_pages = word.large_pages();
        if self.size_before_slack(pfn, word).is_none() {
            // For the report.
            pages.map.word(pfn).store(word.raw(), Relaxed);
            return Err(BadPointer::new(addr, BadKind::Overrun));
        }
        // SAFETY: the word said that a live run of that length starts here, and now it is ours.
        let run = unsafe { pages.run_from_head(pfn, nr_pages) };
        // SAFETY: as above; at level 2, where guard pages are, nothing is looked at.
        unsafe { pages.density.note_freed_run(pages.map.addr_of(pfn), nr_pages) };
        match heap.try_enter() {
            Some(mut inner) => inner.large().put(pages, heap.node(), run),
            None => pages.free_run(run),
        }
        self.doorbell().ring();
        Ok(())
    }

    /// Makes the run at `pfn` shorter or longer in place, for `size` bytes; false when it cannot hold
    /// them here. It keeps what room it has to grow.
    pub(crate) fn resize_large(&self, pfn: Pfn, size: usize) -> bool {
        let pages = self.pages();
        let word = PageWord::from_raw(pages.map.word(pfn).load(Relaxed));
        let have = word.large_pages();
        let want = size.div_ceil(PAGE_SIZE).max(1);
        if word.kind() != Kind::Large {
            return false;
        }
        if want > have {
            if size > MAX_LARGE || !pages.extend_run(pfn, have, want) {
                return false;
            }
            self.set_large(pfn, want, size, false);
        } else if want < have - have / GROWTH_PART {
            // SAFETY: the live run belongs to the caller of realloc.
            let mut run = unsafe { pages.run_from_head(pfn, have) };
            let tail = run.split_tail(want);
            self.set_large(run.into_head(), want, size, false);
            pages.free_run(tail);
        } else {
            self.set_large(pfn, have, size, false);
        }
        true
    }
}
