//! Runs of many pageblocks, for huge blocks when the system has no address space left.
//!
//! What small objects once used lies in sections that stay mapped. Under a limit on address space
//! nothing else may be left, so a huge request that the system refuses is looked for here: free
//! pageblocks in a row, also across sections that stand side by side. The search is linear in the
//! number of pageblocks; it runs only after `mmap` has failed. The kernel's `alloc_contig_pages`.

use zonal_numa::NodeId;

use crate::error::AllocError;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::watermark::WatermarkLevel;

impl Pages {
    /// A run of `nr_pages` pages of `node` made of free pageblocks.
    ///
    /// # Errors
    /// `Exhausted` when no such row exists, or the limits forbid it.
    pub(crate) fn alloc_contig(
        &self,
        node: NodeId,
        nr_pages: usize,
        level: WatermarkLevel,
    ) -> Result<PageRun, AllocError> {
        let exhausted = AllocError::Exhausted { node, order: Order::MAX.get() };
        let home = self.node(node).ok_or(exhausted)?;
        let mut zone = home.lock();
        let head = self.find_row(node, nr_pages).ok_or(exhausted)?;
        let run = zone.take_row(&self.env(home), head, nr_pages, level).ok_or(exhausted)?;
        drop(zone);
        self.secure(home, node, run).ok_or(exhausted)
    }

    /// The first page of free blocks of `node` that cover `nr_pages` pages in a row. The zone is
    /// locked.
    fn find_row(&self, node: NodeId, nr_pages: usize) -> Option<Pfn> {
        let end = self.map.covered() / zonal_numa::PAGE_SIZE;
        let (mut start, mut at) = (0, 0);
        while at < end {
            let pfn = Pfn::new(at as u32);
            let free = self.map.word_at(pfn).as_buddy().map(|(order, ..)| order);
            match free.filter(|&order| order >= Order::PAGEBLOCK) {
                Some(order) if self.map.chunk(pfn).node() == Some(node) => {
                    at += order.nr_pages();
                    if at - start >= nr_pages {
                        return Some(Pfn::new(start as u32));
                    }
                }
                _ => {
                    at += PAGEBLOCK_PAGES;
                    start = at;
                }
            }
        }
        None
    }
}
