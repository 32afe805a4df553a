//! Rows: free blocks side by side that hold a run together, where none of them does by itself.
//!
//! A block is aligned to its size, so a run of `n` pages is sure to be found among the blocks of
//! order `ceil(log2 n)` only where that much lies free at the right place. In what runs of many sizes
//! leave between them it often does not, though there is room. Any `n` free pages in a row hold a
//! block of a quarter of that order's pages, so the lists of the two orders below are walked, and
//! what they hold is extended over its neighbours to both sides. The kernel's `alloc_contig_range`,
//! without the migration.

use super::cut::{free_before, free_kin};
use super::{Request, Zone};
use crate::buddy::BlockList;
use crate::order::Order;
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::word::Migratetype;

/// One with so small a part to spare is good enough.
const FIT_PART: usize = 8;

/// Which rows are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows {
    /// Warm all through.
    Warm,
    /// Those with a large block that is warm.
    PartlyWarm,
    /// Those with a large block that is cold.
    Cold,
}

/// Free blocks side by side.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: Pfn,
    end: Pfn,
}

impl Zone {
    /// Where a row begins that holds the run, grown from one of up to `looks` blocks: the one with the
    /// fewest pages to spare.
    pub(super) fn find_row(
        &self,
        map: &PageMap,
        req: &Request,
        (mt, rows): (Migratetype, Rows),
        mut looks: usize,
    ) -> Option<Pfn> {
        if req.is_aligned() {
            return None;
        }
        let mut best: Option<(usize, Pfn)> = None;
        let enough = req.nr_pages + req.nr_pages / FIT_PART;
        let all_warm = matches!(rows, Rows::Warm);
        let larger = req.order.halved();
        for order in [larger, larger.and_then(Order::halved)].into_iter().flatten() {
            let warm = !matches!(rows, Rows::Cold);
            let mut next = self.buddy.list(order, mt, warm).head();
            while let Some(block) = next.filter(|_| looks > 0) {
                looks -= 1;
                next = BlockList::next(map, block);
                let stretch = Stretch::around(map, block, order, all_warm, enough + 1);
                let Some(spare) = stretch.len().checked_sub(req.nr_pages) else { continue };
                if stretch.len() <= enough {
                    return Some(stretch.start);
                }
                if best.is_none_or(|(least, _)| spare < least) {
                    best = Some((spare, stretch.start));
                }
            }
        }
        best.map(|(_, start)| start)
    }
}

impl Stretch {
    /// The free blocks around `block`, as far as they are of its section and migratetype, and warm
    /// where they must be, and about `enough` pages of them at most.
    fn around(
        map: &PageMap,
        block: Pfn,
        order: Order,
        must_be_warm: bool,
        enough: usize,
    ) -> Stretch {
        let mut found = Stretch { start: block, end: block.add(order.nr_pages()) };
        // The front first, where the run is cut: what would be left there is of little use.
        while found.len() < enough
            && let Some(before) = free_before(map, found.start, block, must_be_warm)
        {
            found.start = before;
        }
        while found.len() < enough
            && let Some(order) = free_kin(map, found.end, block, must_be_warm)
        {
            found.end = found.end.add(order.nr_pages());
        }
        found
    }

    fn len(self) -> usize {
        (self.end.get() - self.start.get()) as usize
    }
}
