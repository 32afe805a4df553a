//! A zone: the free pages of one node, and who gets which.
//!
//! Everything here runs under the zone lock, calls nothing that sleeps, and changes nothing when
//! it fails. The order in which blocks are tried:
//!
//! 1. warm blocks of the own migratetype, smallest first: they cost nothing;
//! 2. warm whole pageblocks of other migratetypes;
//! 3. cold blocks of the own migratetype, then cold whole pageblocks of others;
//! 4. the caller commits more memory (`Shortage::Grow`) and asks again;
//! 5. cold pageblocks of the other kind (base or huge), then parts of other migratetypes'
//!    pageblocks, largest first, warm before cold.

use zonal_numa::{NodeId, probe};
use zonal_stats::ZoneEvents;

use crate::buddy::{BlockList, Buddy, choose};
use crate::charge::Budget;
use crate::chunk::Chunk;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::purge::{Isolated, Reclaimer, refused_at};
use crate::run::PageRun;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::WatermarkLevel;
use crate::word::{Migratetype, PageWord};

/// What a zone works on: shared by all zones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env<'a> {
    pub(crate) map: &'a PageMap,
    pub(crate) process: &'a Budget,
    pub(crate) node: &'a Budget,
    /// Now, in the clock of the reclaimer.
    pub(crate) generation: u32,
    /// The OS page: residency in base sections comes in units of it.
    pub(crate) os_page: Order,
    pub(crate) thp: Thp,
    pub(crate) nr_threads: usize,
    /// Pages that may get memory by being handed out before somebody looks whether the node has
    /// room: none where nothing is bound to it.
    pub(crate) allowance: Option<&'a AtomicUsize>,
}

/// When new pageblocks come from sections of huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thp {
    /// Once the heap of the node is large and dense.
    #[default]
    Auto,
    /// From the first page.
    Always,
    /// Not at all.
    Never,
}

/// From so many pages handed out for each thread on, a dense heap takes huge pages: each thread has
/// a partly used slab in every class that it uses.
const HUGE_PER_THREAD_PAGES: usize = (4 << 20) / zonal_numa::PAGE_SIZE;
/// The reserve takes one pageblock, and none in zones that hold fewer than this.
const RESERVE_FROM_PAGEBLOCKS: usize = 16;

/// One request for a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) nr_pages: usize,
    /// Order of the block that the run is cut from.
    pub(crate) order: Order,
    pub(crate) mt: Migratetype,
    pub(crate) level: WatermarkLevel,
    pub(crate) may_grow: bool,
    /// It may begin in free pages in front of the block that serves it.
    pub(crate) packs: bool,
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
    /// Pageblocks in the high-atomic reserve.
    pub(crate) nr_highatomic: usize,
    /// Where the search for purgeable holes goes on, in (section, pageblock).
    pub(crate) purge_cursor: (u32, u32),
    /// Splits and merges are counted by the buddy core.
    pub(crate) events: ZoneEvents,
}

impl Zone {
    pub(crate) fn new(node: NodeId) -> Zone {
        Zone {
            node,
            buddy: Buddy::new(),
            isolated: BlockList::EMPTY,
            nr_managed: 0,
            nr_free: 0,
            nr_free_resident: 0,
            nr_isolated: 0,
            nr_out: 0,
            nr_huge: 0,
            nr_holes: 0,
            nr_highatomic: 0,
            purge_cursor: (0, 0),
            events: ZoneEvents::default(),
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
        if req.mt != Migratetype::HighAtomic {
            return self.alloc_from(env, req);
        }
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

    /// Takes a run back. Its head has no word any more.
    pub(crate) fn free(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize) {
        self.take_back(env, head, nr_pages, nr_pages);
    }

    /// The same for one that was purged.
    pub(crate) fn free_purged(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize) {
        let mut gone = 0;
        for (chunk, lo, hi) in env.map.pieces(head, nr_pages) {
            chunk.dirty.clear(lo, hi);
            gone += chunk.resident.clear(lo, hi);
        }
        env.process.uncharge(gone);
        env.node.uncharge(gone);
        self.take_back(env, head, nr_pages, 0);
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

    /// Takes newly committed memory into service, which is resident already or not.
    pub(crate) fn online(
        &mut self,
        env: &Env<'_>,
        (section, huge): (u16, bool),
        (start, nr_pages): (Pfn, usize),
        resident: bool,
        mt: Migratetype,
    ) {
        for (chunk, lo, hi) in env.map.pieces(start, nr_pages) {
            chunk.online(self.node, section, huge, mt);
            if resident {
                chunk.resident.set(lo, hi);
            }
        }
        self.nr_managed += nr_pages;
        let nr_resident = if resident { nr_pages } else { 0 };
        env.process.charge(nr_resident);
        env.node.charge(nr_resident);
        self.add_free(env, start, nr_pages, nr_resident);
        // From the top down: lists are taken from the end that was filled last, so that zones grow
        // upwards and runs meet the tail that the one before left.
        for i in (0..nr_pages / PAGEBLOCK_PAGES).rev() {
            self.buddy.free(env.map, start.add(i * PAGEBLOCK_PAGES), Order::PAGEBLOCK);
        }
    }

    /// Takes a free block off the lists, for a purge outside the lock. Returns its pages and how
    /// many of them are resident.
    pub(crate) fn isolate(&mut self, map: &PageMap, pfn: Pfn) -> (usize, usize) {
        let (order, mt, _) = self.buddy.remove(map, pfn);
        map.set_word(pfn, PageWord::isolated(order, mt));
        self.isolated.push_back(map, pfn);
        let mut resident = 0;
        for (chunk, lo, hi) in map.pieces(pfn, order.nr_pages()) {
            let here = chunk.resident.count(lo, hi);
            chunk.adjust(-((hi - lo) as isize), -(here as isize));
            resident += here;
        }
        self.nr_isolated += order.nr_pages();
        self.nr_free -= order.nr_pages();
        self.nr_free_resident -= resident;
        (order.nr_pages(), resident)
    }

    /// Isolates a free block with pages that have no memory, if there is one.
    pub(crate) fn isolate_unfilled(&mut self, map: &PageMap) -> Option<(Pfn, Order)> {
        if self.nr_free == self.nr_free_resident {
            return None;
        }
        let lists = Order::ZERO.and_up().flat_map(|order| {
            let warmths = Migratetype::ALL.into_iter().flat_map(|mt| [(mt, false), (mt, true)]);
            warmths.map(move |(mt, warm)| (order, mt, warm))
        });
        for (order, mt, warm) in lists {
            let mut next = self.buddy.list(order, mt, warm).tail();
            while let Some(pfn) = next {
                next = BlockList::prev(map, pfn);
                let pieces = map.pieces(pfn, order.nr_pages());
                let resident: usize =
                    pieces.map(|(chunk, lo, hi)| chunk.resident.count(lo, hi)).sum();
                if resident < order.nr_pages() {
                    self.isolate(map, pfn);
                    return Some((pfn, order));
                }
            }
        }
        None
    }

    /// The pages of an isolated block that had no memory have got some.
    pub(crate) fn note_filled(&mut self, env: &Env<'_>, pfn: Pfn, order: Order) {
        let pieces = env.map.pieces(pfn, order.nr_pages());
        let fresh = pieces.map(|(chunk, lo, hi)| chunk.resident.set(lo, hi)).sum();
        env.process.charge(fresh);
        env.node.charge(fresh);
    }

    /// Puts an isolated block back. Returns how many of its pages were resident.
    pub(crate) fn putback(&mut self, env: &Env<'_>, pfn: Pfn, state: Isolated) -> usize {
        let isolated = env.map.word_at(pfn).as_isolated();
        debug_assert!(isolated.is_some(), "{pfn:?} is not isolated");
        let Some((order, _)) = isolated else { return 0 };
        self.isolated.unlink(env.map, pfn);
        env.map.set_word(pfn, PageWord::NOTHING);
        let mut resident = 0;
        for (chunk, lo, hi) in env.map.pieces(pfn, order.nr_pages()) {
            let len = (hi - lo) as isize;
            if state == Isolated::Refused {
                chunk.stamp(refused_at(env.generation));
            }
            let here = if matches!(state, Isolated::Purged(_)) {
                chunk.dirty.clear(lo, hi);
                let here = chunk.resident.clear(lo, hi);
                chunk.adjust(len, 0);
                here
            } else {
                let here = chunk.resident.count(lo, hi);
                chunk.adjust(len, here as isize);
                self.nr_free_resident += here;
                here
            };
            resident += here;
        }
        self.nr_isolated -= order.nr_pages();
        self.nr_free += order.nr_pages();
        match state {
            Isolated::Purged(by) => {
                env.process.uncharge(resident);
                env.node.uncharge(resident);
                self.note_steal(by, resident);
            }
            Isolated::Refused => self.events.purge_fail += resident as u64,
            Isolated::Kept => {}
        }
        self.buddy.free(env.map, pfn, order);
        resident
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

    fn alloc_from(&mut self, env: &Env<'_>, req: &Request) -> Result<PageRun, Shortage> {
        let huge_pages = req.nr_pages.next_multiple_of(PAGEBLOCK_PAGES);
        let has_room = |nr_pages| {
            env.process.has_room(nr_pages, req.level) && env.node.has_room(nr_pages, req.level)
        };
        let huge = self.wants_huge(env, req) && has_room(huge_pages);
        let easy =
            [Stage::Warm, Stage::WarmPageblock, Stage::Cold(huge), Stage::ColdPageblock(huge)];
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

    /// Cuts the run out of the listed block `block`, unless the budgets forbid it.
    fn take(&mut self, env: &Env<'_>, req: &Request, block: Pfn) -> Option<PageRun> {
        let (from, mt, _) = env.map.word_at(block).as_buddy()?;
        let head = choose(env.map, block, from, req.order);
        let start = if req.packs { reach_back(env.map, head, req.nr_pages) } else { head };
        let fresh = charge(env, start, req.nr_pages, req.level)?;
        if mt != req.mt {
            self.steal(env.map, block, from, req.mt);
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

    /// Takes `nr_pages` pages from `head` on, which free blocks of whole pageblocks cover.
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
        let home = env.map.chunk(head);
        let mut end = start;
        while ((end.get() - start.get()) as usize) < more {
            let Some(order) = free_kin(env.map, end, home) else { return false };
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

    /// Enters pages that leave the free lists into all counts; whether they are known zero.
    fn hand_out(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize, fresh: usize) -> bool {
        let mut known_zero = true;
        for (chunk, lo, hi) in env.map.pieces(head, nr_pages) {
            known_zero &= !chunk.dirty.any(lo, hi);
            chunk.dirty.set(lo, hi);
            let (unit_lo, unit_hi) = residency_units(env, chunk.is_whole(), lo, hi);
            let newly = chunk.resident.set(unit_lo, unit_hi) as isize;
            let len = (hi - lo) as isize;
            chunk.adjust(-len, newly - len);
            chunk.stamp(env.generation);
        }
        self.nr_free -= nr_pages;
        self.nr_free_resident = self.nr_free_resident + fresh - nr_pages;
        self.nr_out += nr_pages;
        self.events.pgalloc += nr_pages as u64;
        probe::mm_page_alloc(env.map.addr_of(head).addr(), nr_pages, self.node.index());
        self.events.pgfault += fresh as u64;
        known_zero
    }

    /// Serving `mt` from a pageblock of another migratetype: claims the pageblock when at least
    /// half of it is there to be used, so that the next request finds it.
    fn steal(&mut self, map: &PageMap, block: Pfn, order: Order, mt: Migratetype) {
        let from = map.chunk(block).migratetype();
        if from == Migratetype::HighAtomic {
            return;
        }
        let addr = map.addr_of(block).addr();
        probe::mm_page_alloc_extfrag(addr, order.index(), from as usize, mt as usize);
        self.events.fallback_steal += 1;
        if order >= Order::PAGEBLOCK || map.chunk(block).nr_free() >= PAGEBLOCK_PAGES / 2 {
            self.buddy.retype(map, block, mt);
            self.events.fallback_claim += 1;
        }
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

    fn add_free(&mut self, env: &Env<'_>, head: Pfn, nr_pages: usize, nr_resident: usize) {
        debug_assert!(nr_resident == 0 || nr_resident == nr_pages);
        for (chunk, lo, hi) in env.map.pieces(head, nr_pages) {
            let len = (hi - lo) as isize;
            if nr_resident == 0 {
                chunk.adjust(len, 0);
                continue;
            }
            if chunk.nr_free_resident() == 0 {
                chunk.stamp(env.generation);
            }
            chunk.adjust(len, len);
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

/// Where to look, in the order of the module doc.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Warm,
    WarmPageblock,
    Cold(bool),
    ColdPageblock(bool),
    Steal { warm: bool },
}

/// The migratetypes that may serve requests of `mt` besides itself: never the reserve.
fn others(mt: Migratetype) -> impl Iterator<Item = Migratetype> {
    [Migratetype::Slab, Migratetype::Large].into_iter().filter(move |&other| other != mt)
}

/// Where a run of `nr_pages` pages that would fit into the free block at `head` can begin: at the
/// first of the free blocks directly before it, as many as it takes to do without the block. So
/// runs of one odd size pack tightly: the tail that one leaves is the front of the next.
fn reach_back(map: &PageMap, head: Pfn, nr_pages: usize) -> Pfn {
    let home = map.chunk(head);
    let mut start = head;
    'back: loop {
        for order in Order::ZERO.and_up() {
            let size = order.nr_pages();
            let reached = (head.get() - start.get()) as usize;
            if reached >= nr_pages || start.index() < size || !start.is_aligned(order) {
                return start;
            }
            let before = Pfn::new(start.get() - size as u32);
            if free_kin(map, before, home) == Some(order) {
                start = before;
                continue 'back;
            }
        }
        return start;
    }
}

/// The order of the free block that begins at `pfn`, if it is of the section and the migratetype
/// of `home`.
fn free_kin(map: &PageMap, pfn: Pfn, home: &Chunk) -> Option<Order> {
    if !map.covers(pfn) {
        return None;
    }
    let (order, ..) = map.word_at(pfn).as_buddy()?;
    let chunk = map.chunk(pfn);
    let is_kin = chunk.section() == home.section()
        && chunk.node() == home.node()
        && chunk.migratetype() == home.migratetype();
    is_kin.then_some(order)
}

/// Charges what becomes resident when these pages are handed out, and says how much that is; none
/// when a budget forbids it.
fn charge(env: &Env<'_>, head: Pfn, nr_pages: usize, level: WatermarkLevel) -> Option<usize> {
    let fresh = nr_fresh(env, head, nr_pages);
    let left = env.allowance.map_or(usize::MAX, |allowance| allowance.load(Relaxed));
    if fresh > left {
        return None;
    }
    if !env.node.try_charge(fresh, level) {
        return None;
    }
    if !env.process.try_charge(fresh, level) {
        env.node.uncharge(fresh);
        return None;
    }
    if let Some(allowance) = env.allowance {
        allowance.store(left - fresh, Relaxed);
    }
    Some(fresh)
}

/// How many pages become resident when these are handed out.
fn nr_fresh(env: &Env<'_>, head: Pfn, nr_pages: usize) -> usize {
    let pieces = env.map.pieces(head, nr_pages);
    pieces
        .map(|(chunk, lo, hi)| {
            let (lo, hi) = residency_units(env, chunk.is_whole(), lo, hi);
            (hi - lo) - chunk.resident.count(lo, hi)
        })
        .sum()
}

/// Touching a page makes its whole OS page resident, in a whole huge page its whole pageblock.
fn residency_units(env: &Env<'_>, whole: bool, lo: usize, hi: usize) -> (usize, usize) {
    if whole {
        return (0, PAGEBLOCK_PAGES);
    }
    let unit = env.os_page.nr_pages();
    (lo & !(unit - 1), hi.next_multiple_of(unit))
}
