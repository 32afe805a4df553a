//! A zone: the free pages of one node, and who gets which.
//!
//! ```text
//!   alloc -> find: a block, by stages -> cut: the run out of it -> charging: enters the counts
//!            row: blocks side by side
//!   highatomic: a reserve for urgent requests
//!   isolate: blocks off the lists while something is done to them without the lock
//!   grow: new memory, before it is on the lists
//! ```
//!
//! Everything here runs under the zone lock, calls nothing that sleeps, and changes nothing when
//! it fails.

mod charging;
mod cut;
mod find;
mod grow;
mod highatomic;
mod isolate;
mod row;

use zonal_numa::{NodeId, probe};
use zonal_stats::ZoneEvents;

use crate::buddy::{BlockList, Buddy};
use crate::charge::Levels;
use crate::order::Order;
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::purge::Reclaimer;
use crate::run::PageRun;
use crate::sync::atomic::AtomicUsize;
use crate::thp::Thp;
use crate::watermark::WatermarkLevel;
use crate::word::Migratetype;
use grow::Claims;

/// What a zone works on: shared by all zones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env<'a> {
    pub(crate) map: &'a PageMap,
    pub(crate) levels: Levels<'a>,
    /// Now, in the clock of the reclaimer.
    pub(crate) generation: u32,
    /// The OS page: residency in base sections comes in units of it.
    pub(crate) os_page: Order,
    pub(crate) thp: Thp,
    /// Pages of one slab for each class that a heap of the node has slabs of.
    pub(crate) nr_first: usize,
    /// Whether most of what large blocks hold is used.
    pub(crate) large_is_dense: bool,
    /// Pages that may get memory by being handed out before somebody looks whether the node has
    /// room: none where nothing is bound to it.
    pub(crate) allowance: Option<&'a AtomicUsize>,
}

/// One request for a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) nr_pages: usize,
    /// Order of the block that the run is cut from.
    pub(crate) order: Order,
    pub(crate) mt: Migratetype,
    pub(crate) level: WatermarkLevel,
    pub(crate) may_grow: bool,
    /// What it begins at a multiple of.
    pub(crate) align: Order,
}

impl Request {
    /// Whether it may begin only where some block does.
    fn is_aligned(&self) -> bool {
        self.align > Order::ZERO
    }

    /// Whether it leaves a tail of the block that serves it, and so does better next to others.
    fn packs(&self) -> bool {
        !self.is_aligned() && !self.nr_pages.is_power_of_two()
    }
}

/// Why a zone could not serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// More memory of that kind would help, and the budget has room for it.
    Grow { huge: bool },
    /// Nothing would help but reclaim.
    Exhausted,
}

/// The state under the zone lock.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) node: NodeId,
    pub(crate) buddy: Buddy,
    pub(crate) isolated: BlockList,
    pub(crate) claims: Claims,
    /// Committed pages.
    pub(crate) nr_managed: usize,
    pub(crate) nr_free: usize,
    pub(crate) nr_free_resident: usize,
    pub(crate) nr_isolated: usize,
    /// Handed out.
    pub(crate) nr_out: usize,
    /// Charged for huge blocks, which have no pages here.
    pub(crate) nr_huge: usize,
    /// Handed out, but purged while their slab does not use them.
    pub(crate) nr_holes: usize,
    /// Not claimed for growth yet, in sections that are holed.
    pub(crate) nr_holed_rest: usize,
    /// Pageblocks in the high-atomic reserve.
    pub(crate) nr_highatomic: usize,
    /// Where the search for purgeable holes goes on, in (section, pageblock).
    pub(crate) purge_cursor: (u32, u32),
    /// Splits and merges are counted by the buddy core.
    pub(crate) events: ZoneEvents,
    #[cfg(zonal_holds)]
    pub(crate) holds: crate::holds::Holds,
}

impl Zone {
    pub(crate) fn new(node: NodeId) -> Zone {
        Zone {
            node,
            buddy: Buddy::new(),
            isolated: BlockList::EMPTY,
            claims: Claims::new(),
            nr_managed: 0,
            nr_free: 0,
            nr_free_resident: 0,
            nr_isolated: 0,
            nr_out: 0,
            nr_huge: 0,
            nr_holes: 0,
            nr_holed_rest: 0,
            nr_highatomic: 0,
            purge_cursor: (0, 0),
            events: ZoneEvents::default(),
            #[cfg(zonal_holds)]
            holds: crate::holds::Holds::new(),
        }
    }

    /// Counts pages that `by` looked at.
    pub(crate) fn note_scan(&mut self, by: Reclaimer, nr_pages: usize) {
        match by {
            Reclaimer::Kswapd => self.events.pgscan_kswapd += nr_pages as u64,
            Reclaimer::Direct => self.events.pgscan_direct += nr_pages as u64,
        }
    }

    /// Counts pages that `by` gave back.
    pub(crate) fn note_steal(&mut self, by: Reclaimer, nr_pages: usize) {
        self.events.pgsteal += nr_pages as u64;
        match by {
            Reclaimer::Kswapd => self.events.pgsteal_kswapd += nr_pages as u64,
            Reclaimer::Direct => self.events.pgsteal_direct += nr_pages as u64,
        }
    }

    /// Hands out a run, or says what would help.
    pub(crate) fn alloc(&mut self, env: &Env<'_>, req: &Request) -> Result<PageRun, Shortage> {
        if req.mt == Migratetype::HighAtomic {
            self.alloc_highatomic(env, req)
        } else {
            self.alloc_from(env, req)
        }
    }

    /// Takes a run back. Its head has no word any more.
    pub(crate) fn free(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize) {
        self.take_back(env, head, nr_pages, nr_pages);
    }

    /// The same for one that was purged.
    pub(crate) fn free_purged(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize) {
        let pieces = env.map.pieces(head, nr_pages);
        let gone = pieces.map(|(chunk, lo, hi)| chunk.note_purged(lo, hi)).sum();
        env.levels.uncharge(gone);
        self.take_back(env, head, nr_pages, nr_pages - gone);
    }

    /// The same for one of which the pages at `holes`, by place, were purged and are not charged.
    pub(crate) fn free_holed(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize, holes: u16) {
        let pages = (0..nr_pages).filter(|at| holes & 1 << at != 0).map(|at| head.add(at));
        let gone: usize = pages
            .map(|pfn| {
                let at = pfn.in_pageblock();
                env.map.chunk(pfn).note_purged(at, at + 1)
            })
            .sum();
        self.take_back(env, head, nr_pages, nr_pages - gone);
    }

    fn take_back(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize, nr_resident: usize) {
        debug_assert!(env.map.word_at(head).is_nothing());
        debug_assert!(nr_pages <= self.nr_out);
        self.nr_out -= nr_pages;
        self.events.pgfree += nr_pages as u64;
        probe::mm_page_free(env.map.addr_of(head).addr(), nr_pages, self.node.index());
        self.add_free(env, head, nr_pages, nr_resident);
        self.free_blocks(env.map, head, nr_pages);
    }

    fn add_free(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize, nr_resident: usize) {
        for (chunk, lo, hi) in env.map.pieces(head, nr_pages) {
            let here = match nr_resident {
                0 => 0,
                all if all == nr_pages => hi - lo,
                _ => chunk.resident.count(lo, hi),
            };
            if here > 0 {
                if chunk.nr_free_resident() == 0 {
                    chunk.stamp(env.generation);
                }
                chunk.set_freed_at(env.generation);
            }
            chunk.adjust((hi - lo) as isize, here as isize);
        }
        self.nr_free += nr_pages;
        self.nr_free_resident += nr_resident;
    }

    fn free_blocks(&mut self, map: &PageMap, mut pfn: Pfn, mut nr_pages: usize) {
        while nr_pages > 0 {
            let order = pfn.largest_block(nr_pages);
            self.buddy.free(map, pfn, order);
            pfn = pfn.add(order.nr_pages());
            nr_pages -= order.nr_pages();
        }
    }
}
