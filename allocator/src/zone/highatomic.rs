//! The high-atomic reserve: a pageblock that only urgent requests may take from.

use super::{Env, Request, Shortage, Zone};
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::word::Migratetype;

/// The reserve takes one pageblock, and none in zones that hold fewer than this.
const RESERVE_FROM_PAGEBLOCKS: usize = 16;

impl Zone {
    /// Serves an urgent request: from the reserve, or else like any other, and what served it becomes
    /// the reserve.
    pub(super) fn alloc_highatomic(
        &mut self,
        env: &Env<'_>,
        req: &Request,
    ) -> Result<PageRun, Shortage> {
        for warm in [true, false] {
            if let Some(order) = self.buddy.smallest(req.order, req.mt, warm)
                && let Some(block) = self.buddy.list(order, req.mt, warm).head()
                && let Some(run) = self.take(env, req, block)
            {
                return Ok(run);
            }
        }
        let run = self.alloc_from(env, &Request { mt: Migratetype::Slab, ..*req })?;
        self.reserve(env.map, run.head());
        Ok(run)
    }

    /// Gives one pageblock of the high-atomic reserve back to ordinary requests.
    pub(crate) fn unreserve(&mut self, map: &PageMap) -> bool {
        let mt = Migratetype::HighAtomic;
        let block = [true, false].into_iter().find_map(|warm| {
            let order = self.buddy.smallest(Order::ZERO, mt, warm)?;
            self.buddy.list(order, mt, warm).head()
        });
        let Some(pfn) = block else { return false };
        let (order, ..) = map.word_at(pfn).as_buddy().unwrap_or((Order::ZERO, mt, false));
        self.buddy.retype(map, pfn, Migratetype::Slab);
        self.nr_highatomic -= order.nr_pages().div_ceil(PAGEBLOCK_PAGES);
        true
    }

    /// Makes the pageblock that just served an urgent request the reserve for such requests.
    fn reserve(&mut self, map: &PageMap, head: Pfn) {
        let large_enough = self.nr_managed >= RESERVE_FROM_PAGEBLOCKS * PAGEBLOCK_PAGES;
        let whole = map.word_at(head.block(Order::PAGEBLOCK)).as_buddy();
        let shared = whole.is_none_or(|(order, ..)| order < Order::PAGEBLOCK);
        if large_enough && shared && self.nr_highatomic == 0 {
            self.buddy.retype(map, head, Migratetype::HighAtomic);
            self.nr_highatomic += 1;
        }
    }
}
