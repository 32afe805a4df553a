//! Runs of many pageblocks, for huge blocks: free pageblocks in a row, also across sections that stand
//! side by side. The kernel's `alloc_contig_pages`.
//!
//! Where all of a row is resident it comes before a new mapping: it costs no page fault, and a program
//! that goes from smaller blocks to huge ones needs no more memory for them. A few stretches are tried, each
//! walked once.
//!
//! Under a limit on address space nothing else may be left, since what small objects once used lies in
//! sections that stay mapped. So a huge request that the system refuses is looked for here, too; that
//! search is linear in the number of pageblocks.

use core::ops::Range;

use zonal_numa::NodeId;

use crate::buddy::BlockList;
use crate::error::AllocError;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::watermark::WatermarkLevel;
use crate::word::Migratetype;
use crate::zone::Zone;

/// Stretches of free blocks that a search for a warm row walks.
const LOOKS: usize = 16;

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

    /// A run of `nr_pages` pages of `node` made of free pageblocks that are resident from end to end;
    /// none where there is no such row at hand.
    pub(crate) fn alloc_warm_row(
        &self,
        node: NodeId,
        nr_pages: usize,
        level: WatermarkLevel,
    ) -> Option<PageRun> {
        let home = self.node(node)?;
        let mut zone = home.lock();
        let head = self.find_warm_row(&zone, node, nr_pages)?;
        let run = zone.take_row(&self.env(home), head, nr_pages, level)?;
        drop(zone);
        self.secure(home, node, run)
    }

    /// Where such a row begins.
    fn find_warm_row(&self, zone: &Zone, node: NodeId, nr_pages: usize) -> Option<Pfn> {
        if zone.nr_free_resident < nr_pages {
            return None;
        }
        // Those that were too short.
        let mut walked = [const { Pfn::new(0)..Pfn::new(0) }; LOOKS];
        let mut nr_walked = 0;
        let mut left = zone.nr_free_resident;
        for order in [Order::MAX, Order::PAGEBLOCK] {
            for mt in [Migratetype::Large, Migratetype::Slab] {
                let mut next = zone.buddy.list(order, mt, true).head();
                while let Some(block) = next {
                    next = BlockList::next(&self.map, block);
                    if walked[..nr_walked].iter().any(|stretch| stretch.contains(&block)) {
                        continue;
                    }
                    let stretch = self.stretch_around(node, block, nr_pages);
                    let len = stretch.end.index() - stretch.start.index();
                    if len >= nr_pages {
                        return Some(stretch.start);
                    }
                    // Nothing is as long as what is left to be seen.
                    left = left.saturating_sub(len);
                    if left < nr_pages || nr_walked == LOOKS - 1 {
                        return None;
                    }
                    walked[nr_walked] = stretch;
                    nr_walked += 1;
                }
            }
        }
        None
    }

    /// The warm pages in a row that the free block at `block` is part of: all of them, or `nr_pages` or more
    /// from the first one on.
    fn stretch_around(&self, node: NodeId, block: Pfn, nr_pages: usize) -> Range<Pfn> {
        let mut end = block;
        let mut start = block;
        let len = |start: Pfn, end: Pfn| end.index() - start.index();
        while len(start, end) < nr_pages
            && let Some(order) = self.warm_block(node, end)
        {
            end = end.add(order.nr_pages());
        }
        while start != end
            && len(start, end) < nr_pages
            && let Some(before) = [Order::PAGEBLOCK, Order::MAX].into_iter().find_map(|order| {
                let before = Pfn::new(start.get().checked_sub(order.nr_pages() as u32)?);
                self.warm_block(node, before).filter(|&found| found == order).map(|_| before)
            })
        {
            start = before;
        }
        start..end
    }

    /// The order of the free block at `pfn`, if it is made of pageblocks of `node` all of which is
    /// resident and that are not kept for urgent requests.
    fn warm_block(&self, node: NodeId, pfn: Pfn) -> Option<Order> {
        if !self.map.covers(pfn) {
            return None;
        }
        let (order, mt, _) = self.map.word_at(pfn).as_buddy()?;
        let is_warm = |at| {
            let chunk = self.map.chunk(pfn.add(at));
            chunk.node() == Some(node) && chunk.nr_free_resident() == PAGEBLOCK_PAGES
        };
        let is_right = order >= Order::PAGEBLOCK
            && mt != Migratetype::HighAtomic
            && (0..order.nr_pages()).step_by(PAGEBLOCK_PAGES).all(is_warm);
        is_right.then_some(order)
    }
}
