//! Choosing a block for a request.
//!
//! The order in which blocks are tried:
//!
//! 1. warm blocks of the own migratetype, smallest first: they cost nothing;
//! 2. warm whole pageblocks of other migratetypes, then the largest warm parts of those that are
//!    half free: a program that goes from small blocks to large ones need not grow for them;
//! 3. cold blocks of the own migratetype, then cold whole pageblocks of others;
//! 4. the caller commits more memory (`Shortage::Grow`) and asks again;
//! 5. cold pageblocks of the other kind (base or huge), then parts of other migratetypes'
//!    pageblocks, largest first, warm before cold.
//!
//! What serves another migratetype is stolen, and its pageblock claimed where that is worth it:
//! the kernel's fallback stealing.

use zonal_numa::probe;

use super::{Env, Request, Shortage, Thp, Zone};
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::word::Migratetype;

/// From so many pages handed out for each thread on, a dense heap takes huge pages: each thread has
/// a partly used slab in every class that it uses.
const HUGE_PER_THREAD_PAGES: usize = (4 << 20) / zonal_numa::PAGE_SIZE;

/// Where to look, in the order of the module doc.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Warm,
    WarmPageblock,
    WarmClaim,
    Cold(bool),
    ColdPageblock(bool),
    Steal { warm: bool },
}

impl Zone {
    /// Hands out a run of the request's migratetype, or says what would help.
    pub(super) fn alloc_from(&mut self, env: &Env<'_>, req: &Request) -> Result<PageRun, Shortage> {
        let huge_pages = req.nr_pages.next_multiple_of(PAGEBLOCK_PAGES);
        let has_room = |nr_pages| env.levels.have_room(nr_pages, req.level);
        let huge = self.wants_huge(env, req) && has_room(huge_pages);
        let easy = [
            Stage::Warm,
            Stage::WarmPageblock,
            Stage::WarmClaim,
            Stage::Cold(huge),
            Stage::ColdPageblock(huge),
        ];
        if let Some(run) = self.try_stages(env, req, &easy) {
            return Ok(run);
        }
        if req.may_grow && has_room(if huge { huge_pages } else { req.nr_pages }) {
            return Err(Shortage::Grow { huge });
        }
        let rest = [
            Stage::Cold(!huge),
            Stage::ColdPageblock(!huge),
            Stage::Steal { warm: true },
            Stage::Steal { warm: false },
        ];
        self.try_stages(env, req, &rest).ok_or(Shortage::Exhausted)
    }

    fn try_stages(&mut self, env: &Env<'_>, req: &Request, stages: &[Stage]) -> Option<PageRun> {
        stages.iter().find_map(|&stage| {
            let block = self.find(env.map, req, stage)?;
            self.take(env, req, block)
        })
    }

    /// A heap of some size that uses most of what it holds is better off with huge pages; a small
    /// or sparse one would hold far more resident than it uses. A run that fills a pageblock uses
    /// all of it.
    fn wants_huge(&self, env: &Env<'_>, req: &Request) -> bool {
        match env.thp {
            Thp::Always => true,
            Thp::Never => false,
            Thp::Auto if req.mt == Migratetype::Large && req.nr_pages >= PAGEBLOCK_PAGES => true,
            Thp::Auto => {
                let from = HUGE_PER_THREAD_PAGES * env.nr_threads.max(1);
                self.nr_out >= from && self.nr_out / 3 >= self.nr_free_resident
            }
        }
    }

    fn find(&self, map: &PageMap, req: &Request, stage: Stage) -> Option<Pfn> {
        let pageblock_up = req.order.max(Order::PAGEBLOCK);
        match stage {
            Stage::Warm => {
                let order = self.buddy.smallest(req.order, req.mt, true)?;
                self.buddy.list(order, req.mt, true).head()
            }
            Stage::WarmPageblock => others(req.mt).find_map(|mt| {
                let order = self.buddy.smallest(pageblock_up, mt, true)?;
                self.buddy.list(order, mt, true).head()
            }),
            Stage::WarmClaim => req.order.and_up().rev().find_map(|order| {
                others(req.mt).find_map(|mt| {
                    let block = self.buddy.list(order, mt, true).head();
                    block.filter(|&pfn| is_claimed(map, pfn))
                })
            }),
            Stage::Cold(huge) => {
                let order = self.buddy.smallest(req.order, req.mt, false)?;
                if order < Order::PAGEBLOCK {
                    return self.buddy.list(order, req.mt, false).head();
                }
                self.cold_pageblock(map, pageblock_up, req.mt, huge)
            }
            Stage::ColdPageblock(huge) => {
                others(req.mt).find_map(|mt| self.cold_pageblock(map, pageblock_up, mt, huge))
            }
            Stage::Steal { warm } => req.order.and_up().rev().find_map(|order| {
                others(req.mt).find_map(|mt| self.buddy.list(order, mt, warm).head())
            }),
        }
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
    pub(super) fn steal(&mut self, map: &PageMap, block: Pfn, order: Order, mt: Migratetype) {
        let from = map.chunk(block).migratetype();
        if from == Migratetype::HighAtomic {
            return;
        }
        let addr = map.addr_of(block).addr();
        probe::mm_page_alloc_extfrag(addr, order.index(), from as usize, mt as usize);
        self.events.fallback_steal += 1;
        if order >= Order::PAGEBLOCK || is_claimed(map, block) {
            self.buddy.retype(map, block, mt);
            self.events.fallback_claim += 1;
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
