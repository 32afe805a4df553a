//! Choosing a block for a request.
//!
//! The order in which blocks are tried:
//!
//! 1. for runs that leave a tail, rows of warm blocks, the first that fits well or else the best of a
//!    few, so that what runs of many sizes leave between them serves before a larger block is cut
//!    (`row`): where address space is short, even a bad fit saves more than it breaks;
//! 2. warm blocks of the own migratetype, smallest first: they cost nothing;
//! 3. warm whole pageblocks of other migratetypes, then the largest warm parts of those that are
//!    half free: a program that goes from small blocks to large ones need not grow for them;
//! 4. where much is warm and none of that did, a longer search for a row, then what is warm in
//!    any pageblock of other migratetypes, largest first;
//! 5. cold blocks of the own migratetype, cold whole pageblocks of others, cold rows;
//! 6. the caller commits more memory (`Shortage::Grow`) and asks again;
//! 7. cold pageblocks of the other kind (base or huge), then parts of other migratetypes'
//!    pageblocks, warm before cold, and rows there.
//!
//! What serves another migratetype is stolen, and its pageblock claimed where that is worth it:
//! the kernel's fallback stealing.

use zonal_numa::probe;

use super::row::Rows;
use super::{Env, Request, Shortage, Zone};
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::thp::Thp;
use crate::word::Migratetype;

/// From so many pages on, first slabs not counted, a dense heap takes huge pages.
const HUGE_FROM_PAGES: usize = (3 << 20) / zonal_numa::PAGE_SIZE;
/// And at least so many times as much as those first slabs.
const HUGE_FROM_FIRSTS: usize = 3;
/// No new memory for them where so many times what is handed out lies idle in small ones.
const IDLE_PART: usize = 2;

/// Free pages that are resident are many from one in so many pages handed out on.
const SLACK_PART: usize = 8;
/// Blocks that a search for a row looks at: when it is one way of many, when much is free all the
/// same, and when nothing else is left.
const FEW: usize = 8;
const MORE: usize = 64;
const MOST: usize = 256;

/// Zones of fewer pageblocks have no boosted marks.
const BOOST_FROM_PAGEBLOCKS: usize = 4;

/// Where to look, in the order of the module doc.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Warm,
    WarmPageblock,
    WarmClaim,
    Cold(bool),
    ColdPageblock(bool),
    Steal { warm: bool },
    Row { own: bool, rows: Rows, looks: usize },
}

/// What was found.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A block that the run fits into.
    Block(Pfn),
    /// Blocks in a row from here on.
    Row(Pfn),
}

impl Zone {
    /// Hands out a run of the request's migratetype, or says what would help.
    pub(super) fn alloc_from(&mut self, env: &Env<'_>, req: &Request) -> Result<PageRun, Shortage> {
        // As many as the first touch makes resident: what cannot be charged is not worth growing for.
        let own_pages = req.nr_pages.next_multiple_of(env.os_page.nr_pages());
        let huge_pages = req.nr_pages.next_multiple_of(PAGEBLOCK_PAGES);
        let has_room = |nr_pages| env.levels.have_room(nr_pages, req.level);
        let row = |own, rows, looks| Stage::Row { own, rows, looks };
        let easy =
            [row(true, Rows::Warm, FEW), Stage::Warm, Stage::WarmPageblock, Stage::WarmClaim];
        // A block of its own size leaves nothing beside it.
        let skipped = usize::from(!req.packs());
        if let Some(run) = self.try_stages(env, req, &easy[skipped..]) {
            return Ok(run);
        }
        if self.nr_free_resident > self.nr_out / SLACK_PART {
            let slack = [row(true, Rows::Warm, MORE), Stage::Steal { warm: true }];
            if let Some(run) = self.try_stages(env, req, &slack) {
                return Ok(run);
            }
        }
        let mut huge = self.wants_huge(env, req) && has_room(huge_pages);
        let cold =
            |huge| [Stage::Cold(huge), Stage::ColdPageblock(huge), row(true, Rows::Cold, FEW)];
        if let Some(run) = self.try_stages(env, req, &cold(huge)) {
            return Ok(run);
        }
        if huge && self.has_enough_small(env) {
            huge = false;
            if let Some(run) = self.try_stages(env, req, &cold(huge)) {
                return Ok(run);
            }
        }
        if req.may_grow && has_room(if huge { huge_pages } else { own_pages }) {
            return Err(Shortage::Grow { huge });
        }
        let rest = [
            Stage::Cold(!huge),
            Stage::ColdPageblock(!huge),
            row(true, Rows::PartlyWarm, MOST),
            row(true, Rows::Cold, MOST),
            Stage::Steal { warm: true },
            Stage::Steal { warm: false },
            row(false, Rows::PartlyWarm, MOST),
            row(false, Rows::Cold, MOST),
        ];
        self.try_stages(env, req, &rest).ok_or(Shortage::Exhausted)
    }

    fn try_stages(&mut self, env: &Env<'_>, req: &Request, stages: &[Stage]) -> Option<PageRun> {
        stages.iter().find_map(|&stage| match self.find(env.map, req, stage)? {
            Place::Block(block) => self.take(env, req, block),
            Place::Row(head) => {
                let from = env.map.chunk(head).migratetype();
                let run = self.take_row(env, head, req.nr_pages, req.level)?;
                if from != req.mt {
                    self.note_fallback(env, head, Order::ZERO, (from, req.mt));
                }
                Some(run)
            }
        })
    }

    /// A heap of some size that uses most of what it holds is better off with huge pages; a small
    /// or sparse one would hold far more resident than it uses. Of the first slab of a class in a
    /// heap nobody knows how much will be used, and many threads have many of these; the next one is
    /// asked for because that one is full, or lies in a cache: there must be several times as many. Large
    /// blocks tell when they are freed ([`crate::thp`]); one that fills a pageblock shares it with nobody.
    fn wants_huge(&self, env: &Env<'_>, req: &Request) -> bool {
        match env.thp {
            Thp::Always => true,
            Thp::Never => false,
            Thp::Auto if req.mt == Migratetype::Large && !env.large_is_dense => false,
            Thp::Auto if req.mt == Migratetype::Large && req.nr_pages >= PAGEBLOCK_PAGES => true,
            Thp::Auto => {
                let nr_dense = self.nr_out.saturating_sub(env.nr_first);
                let least = HUGE_FROM_PAGES.max(HUGE_FROM_FIRSTS * env.nr_first);
                nr_dense >= least && self.nr_out / 3 >= self.nr_free_resident
            }
        }
    }

    /// Whether the zone has more than enough that is not resident, none of it whole huge pages: free, or the
    /// rest of holed sections. One that grew for huge pages all the same would do so for ever where each
    /// section is holed soon, as in a program that often trims.
    fn has_enough_small(&self, env: &Env<'_>) -> bool {
        let nr_idle = self.nr_free - self.nr_free_resident + self.nr_holed_rest;
        env.thp == Thp::Auto && nr_idle > IDLE_PART * self.nr_out
    }

    fn find(&self, map: &PageMap, req: &Request, stage: Stage) -> Option<Place> {
        let pageblock_up = req.order.max(Order::PAGEBLOCK);
        let block = match stage {
            Stage::Warm => {
                let order = self.buddy.smallest(req.order, req.mt, true)?;
                self.buddy.list(order, req.mt, true).head()
            }
            Stage::WarmPageblock => others(req.mt).find_map(|mt| {
                let order = self.buddy.smallest(pageblock_up, mt, true)?;
                self.buddy.list(order, mt, true).head()
            }),
            Stage::WarmClaim => self.largest_of_others(req, true, |pfn| is_claimed(map, pfn)),
            Stage::Cold(huge) => {
                let order = self.buddy.smallest(req.order, req.mt, false)?;
                if order < Order::PAGEBLOCK {
                    self.buddy.list(order, req.mt, false).head()
                } else {
                    self.cold_pageblock(map, pageblock_up, req.mt, huge)
                }
            }
            Stage::ColdPageblock(huge) => {
                others(req.mt).find_map(|mt| self.cold_pageblock(map, pageblock_up, mt, huge))
            }
            Stage::Steal { warm } => self.largest_of_others(req, warm, |_| true),
            Stage::Row { own, rows, looks } => {
                let row = |mt| self.find_row(map, req, (mt, rows), looks);
                let start = if own { row(req.mt) } else { others(req.mt).find_map(row) };
                return start.map(Place::Row);
            }
        };
        block.map(Place::Block)
    }

    /// The first of the largest blocks of other migratetypes, if it is one of those asked for; else of
    /// the next smaller ones that serve the request.
    fn largest_of_others(
        &self,
        req: &Request,
        warm: bool,
        is_wanted: impl Fn(Pfn) -> bool,
    ) -> Option<Pfn> {
        req.order.and_up().rev().find_map(|order| {
            let mut blocks =
                others(req.mt).filter_map(|mt| self.buddy.list(order, mt, warm).head());
            blocks.find(|&pfn| is_wanted(pfn))
        })
    }

    /// A cold block of whole pageblocks of that kind: base ones stand in front, huge ones behind.
    fn cold_pageblock(
        &self,
        map: &PageMap,
        order: Order,
        mt: Migratetype,
        huge: bool,
    ) -> Option<Pfn> {
        order.and_up().find_map(|order| {
            let list = self.buddy.list(order, mt, false);
            let block = if huge { list.tail() } else { list.head() };
            block.filter(|&pfn| map.chunk(pfn).is_whole() == huge)
        })
    }

    /// Serving `mt` from a pageblock of another migratetype: claims the pageblock when at least
    /// half of it is there to be used, so that the next request finds it.
    pub(super) fn steal(&mut self, env: &Env<'_>, block: Pfn, order: Order, mt: Migratetype) {
        let from = env.map.chunk(block).migratetype();
        if from == Migratetype::HighAtomic {
            return;
        }
        self.note_fallback(env, block, order, (from, mt));
        if order >= Order::PAGEBLOCK || is_claimed(env.map, block) {
            self.buddy.retype(env.map, block, mt);
            self.events.fallback_claim += 1;
        }
    }

    /// A block of one migratetype serves another. Where it is not a whole pageblock the two mix in one:
    /// the marks are raised, unless the zone is too small for that to help.
    fn note_fallback(
        &mut self,
        env: &Env<'_>,
        block: Pfn,
        order: Order,
        (from, to): (Migratetype, Migratetype),
    ) {
        let addr = env.map.addr_of(block).addr();
        probe::mm_page_alloc_extfrag(addr, order.index(), from as usize, to as usize);
        self.events.fallback_steal += 1;
        if order < Order::PAGEBLOCK && self.nr_managed >= BOOST_FROM_PAGEBLOCKS * PAGEBLOCK_PAGES {
            env.levels.raise();
        }
    }
}

/// Whether so much of the block's pageblock is free that stealing from it claims it.
fn is_claimed(map: &PageMap, block: Pfn) -> bool {
    map.chunk(block).nr_free() >= PAGEBLOCK_PAGES / 2
}

/// The migratetypes that may serve requests of `mt` besides itself: never the reserve.
fn others(mt: Migratetype) -> impl Iterator<Item = Migratetype> {
    [Migratetype::Slab, Migratetype::Large].into_iter().filter(move |&other| other != mt)
}
