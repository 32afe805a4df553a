//! Cutting runs out of free blocks.
//!
//! A run is taken at any length out of a block, together with free pages in front of it, out of a
//! row of whole blocks, or behind a live run that grows. What is left of the blocks is free at once.

use super::charging::charge;
use super::{Env, Request, Zone};
use crate::buddy::choose;
use crate::order::Order;
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::watermark::WatermarkLevel;

impl Zone {
    /// Cuts the run out of the listed block `block`, unless the budgets forbid it.
    pub(super) fn take(&mut self, env: &Env<'_>, req: &Request, block: Pfn) -> Option<PageRun> {
        let (from, mt, warm) = env.map.word_at(block).as_buddy()?;
        let head = choose(env.map, block, from, req.order);
        let start = if req.packs() { reach_back(env.map, head, req.nr_pages, warm) } else { head };
        let fresh = charge(env, start, req.nr_pages, req.level)?;
        if mt != req.mt {
            self.steal(env, block, from, req.mt);
        }
        let mut at = start;
        while at != head {
            let (order, ..) = self.buddy.remove(env.map, at);
            at = at.add(order.nr_pages());
        }
        let known_zero = self.hand_out(env, start, req.nr_pages, fresh);
        let end = start.add(req.nr_pages);
        let mut taken = head;
        if taken < end {
            self.buddy.carve(env.map, block, head, req.order);
            taken = head.add(req.order.nr_pages());
        }
        // What was taken may be larger than the run: its tail is free at once.
        self.free_blocks(env.map, end, (taken.get() - end.get()) as usize);
        Some(PageRun::new(start, req.nr_pages, known_zero))
    }

    /// Takes `nr_pages` pages from the free block `head` on, which it and those behind it cover.
    pub(crate) fn take_row(
        &mut self,
        env: &Env<'_>,
        head: Pfn,
        nr_pages: usize,
        level: WatermarkLevel,
    ) -> Option<PageRun> {
        let fresh = charge(env, head, nr_pages, level)?;
        let mut end = head;
        while end.get() < head.add(nr_pages).get() {
            let (order, ..) = self.buddy.remove(env.map, end);
            end = end.add(order.nr_pages());
        }
        let known_zero = self.hand_out(env, head, nr_pages, fresh);
        let run_end = head.add(nr_pages);
        self.free_blocks(env.map, run_end, (end.get() - run_end.get()) as usize);
        Some(PageRun::new(head, nr_pages, known_zero))
    }

    /// Adds the free pages behind a live run to it, until it has `want` pages; false when they are
    /// not all free, of the run's section and migratetype, or a budget forbids it.
    pub(crate) fn extend(&mut self, env: &Env<'_>, head: Pfn, have: usize, want: usize) -> bool {
        let (start, more) = (head.add(have), want - have);
        let mut end = start;
        while ((end.get() - start.get()) as usize) < more {
            let Some(order) = free_kin(env.map, end, head, false) else { return false };
            end = end.add(order.nr_pages());
        }
        let Some(fresh) = charge(env, start, more, WatermarkLevel::Low) else { return false };
        let mut at = start;
        while at != end {
            at = at.add(self.buddy.remove(env.map, at).0.nr_pages());
        }
        self.hand_out(env, start, more, fresh);
        let after = head.add(want);
        self.free_blocks(env.map, after, (end.get() - after.get()) as usize);
        true
    }
}

/// Where a run of `nr_pages` pages that would fit into the free block at `head` can begin: at the
/// first of the free blocks directly before it, as many as it takes to do without the block. So
/// runs of one odd size pack tightly: the tail that one leaves is the front of the next. From a `warm`
/// block on they are warm.
fn reach_back(map: &PageMap, head: Pfn, nr_pages: usize, warm: bool) -> Pfn {
    let mut start = head;
    while ((head.get() - start.get()) as usize) < nr_pages
        && let Some(before) = free_before(map, start, head, warm)
    {
        start = before;
    }
    start
}

/// The free block that ends where `pfn` begins, if it is of the section and the migratetype of `home`,
/// and warm where it must be.
pub(super) fn free_before(map: &PageMap, pfn: Pfn, home: Pfn, must_be_warm: bool) -> Option<Pfn> {
    let aligned = pfn.get().trailing_zeros().min(u32::from(Order::MAX.get()));
    // Inside a free block all words are nothing, so the first that is not is its head's, or no block's.
    let before = (0..=aligned).map_while(|order| pfn.get().checked_sub(1 << order));
    let before = before.map(Pfn::new).find(|&before| !map.word_at(before).is_nothing())?;
    let order = free_kin(map, before, home, must_be_warm)?;
    (before.add(order.nr_pages()) == pfn).then_some(before)
}

/// The order of the free block that begins at `pfn`, if it is of the section and the migratetype
/// of `home`, and warm where it must be.
pub(super) fn free_kin(map: &PageMap, pfn: Pfn, home: Pfn, must_be_warm: bool) -> Option<Order> {
    // Mostly it is in the same pageblock.
    let is_near = pfn.pageblock() == home.pageblock();
    if !is_near && !map.covers(pfn) {
        return None;
    }
    let (order, _, warm) = map.word_at(pfn).as_buddy()?;
    let is_kin = || {
        let (chunk, home) = (map.chunk(pfn), map.chunk(home));
        chunk.section() == home.section()
            && chunk.node() == home.node()
            && chunk.migratetype() == home.migratetype()
    };
    ((warm || !must_be_warm) && (is_near || is_kin())).then_some(order)
}
