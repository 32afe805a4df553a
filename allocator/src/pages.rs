//! The page allocator of all nodes.
//!
//! ```text
//!   alloc_run ----> zone lock: Zone::alloc ----> PageRun
//!                        | Shortage::Grow
//!                        v (zone unlocked)
//!                   window lock: commit the section's next step, or add a section
//!                        | zone lock: Zone::online
//!                        '---> again
//!   free_run -----> zone lock: Zone::free        purge -> purge.rs       fork -> fork.rs
//! ```
//!
//! Lock order: window -> zones by node number. No system call under a zone lock.
//!
//! Every operation is all-or-nothing: on an error all counters and lists are as before (memory
//! committed on the way stays, free and cold).

use core::ptr;

use zonal_numa::{Errno, MAX_NODES, Machine, NodeId, NodeMask};

use crate::charge::{Budget, Cap};
use crate::error::AllocError;
use crate::lock::Mutex;
use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::purge::{Reclaimer, is_past};
use crate::room::NodeReclaimMode;
use crate::run::PageRun;
use crate::section::Sections;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use crate::watermark::{WatermarkLevel, Watermarks};
use crate::window::Window;
use crate::word::Migratetype;
use crate::zone::{Env, Request, Shortage, Thp};

pub use crate::charge::UNLIMITED;

/// What the OS is told about where a section's memory shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On the section's node while that has room.
    #[default]
    Prefer,
    /// On the section's node, then on others of these: the kernel kills the process when all of them
    /// are full.
    Strict(NodeMask),
    /// Nothing: the kernel decides.
    Kernel,
}

/// What can be set about the page layer.
#[derive(Clone, Copy, Debug)]
pub struct PageConfig {
    /// Most pages that may be charged, [`UNLIMITED`] for no limit.
    pub limit: usize,
    /// From this many charged pages on requests reclaim before they take more; a bound that gives
    /// way. [`UNLIMITED`] for none.
    pub soft_limit: usize,
    /// The limit by node.
    pub node_limits: [usize; MAX_NODES],
    /// When to use huge pages.
    pub thp: Thp,
    /// Where memory shall be.
    pub placement: Placement,
    /// What is reclaimed on a node before others are asked.
    pub node_reclaim: NodeReclaimMode,
    /// Distance of the watermarks, in ten-thousandths of the limit.
    pub watermark_scale: u32,
}

impl Default for PageConfig {
    fn default() -> PageConfig {
        PageConfig {
            limit: UNLIMITED,
            soft_limit: UNLIMITED,
            node_limits: [UNLIMITED; MAX_NODES],
            thp: Thp::default(),
            placement: Placement::default(),
            node_reclaim: NodeReclaimMode::default(),
            watermark_scale: 10,
        }
    }
}

/// Free resident pages of a node.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Lruvec {
    /// On the free lists.
    pub nr_pages: usize,
    /// Taken out for purges under way.
    pub nr_isolated: usize,
    /// Pageblocks of the node.
    pub nr_pageblocks: usize,
}

/// All page caches together hold at most one page in so many.
const PCP_PART: usize = 64;
/// What all page caches together may hold of each order in any case, in pages.
const PCP_LEAST: usize = (4 << 20) / zonal_numa::PAGE_SIZE;
/// Pageblocks that an estimate looks at.
const SAMPLED: usize = 512;
/// How often a request waits for growth that others use up before it takes what there is.
const GROWTH_TRIES: u32 = 8;
/// And of runs for which a bound node has no memory.
const SECURE_TRIES: u32 = 8;

/// The page allocator.
///
/// Large and mostly untouched: made in place by [`Pages::init`], in zeroed memory. The fields
/// stand in an order that lets a small process touch few pages of it.
#[derive(Debug)]
#[repr(C)]
pub struct Pages {
    pub(crate) sections: Sections,
    /// From addresses to metadata.
    pub map: PageMap,
    /// The OS below.
    pub machine: Machine,
    pub(crate) thp: Thp,
    pub(crate) placement: Placement,
    pub(crate) node_reclaim: NodeReclaimMode,
    pub(crate) os_page: Order,
    pub(crate) online: NodeMask,
    /// Bits of the nodes that the process may use, as last read.
    allowed: AtomicU64,
    pub(crate) budget: Budget,
    soft_cap: Cap,
    generation: AtomicU32,
    nr_threads: AtomicUsize,
    pub(crate) window: Mutex<Window>,
    pub(crate) nodes: [Node; MAX_NODES],
}

impl Pages {
    /// Makes a page allocator at `at`. Maps nothing: the first request does.
    ///
    /// # Errors
    /// `EINVAL` when the OS page is larger than a pageblock.
    ///
    /// # Safety
    /// `at` is valid for writes of a `Pages`, aligned, and all zeros, and nobody else looks at it
    /// before this returns.
    pub unsafe fn init(at: *mut Pages, machine: Machine, config: &PageConfig) -> Result<(), Errno> {
        let os_pages = machine.page_size() / zonal_numa::PAGE_SIZE;
        let os_page = Order::holding(os_pages).filter(|&order| order <= Order::PAGEBLOCK);
        let os_page = os_page.ok_or(Errno::EINVAL)?;
        // A huge page of the OS is one pageblock only where its page is ours.
        let thp = if os_page == Order::ZERO { config.thp } else { Thp::Never };
        let topology = machine.topology();
        let with_memory = topology.nodes_with_memory();
        let online = if with_memory.is_empty() { topology.nodes_online() } else { with_memory };
        let scale = config.watermark_scale;
        // Field by field, since a `Pages` is too large for the stack. What is left out (the
        // sections, the nodes not online) is valid as zeros.
        // SAFETY: each write goes to a field of `*at`, which is valid for writes and unshared.
        unsafe {
            for node in online.iter() {
                let slot = &raw mut (*at).nodes[node.index()];
                slot.write(Node::new(node, config.node_limits[node.index()], scale));
            }
            (&raw mut (*at).map).write(PageMap::unplaced());
            let allowed = machine.allowed_nodes().bits();
            (&raw mut (*at).allowed).write(AtomicU64::new(allowed));
            (&raw mut (*at).machine).write(machine);
            (&raw mut (*at).thp).write(thp);
            (&raw mut (*at).placement).write(config.placement);
            (&raw mut (*at).node_reclaim).write(config.node_reclaim);
            (&raw mut (*at).os_page).write(os_page);
            (&raw mut (*at).online).write(online);
            let budget = Budget::new(config.limit, scale);
            let soft_cap = Cap::of_soft_limit(config.soft_limit, scale);
            budget.set_cap(soft_cap);
            (&raw mut (*at).budget).write(budget);
            (&raw mut (*at).soft_cap).write(soft_cap);
            (&raw mut (*at).generation).write(AtomicU32::new(0));
            (&raw mut (*at).nr_threads).write(AtomicUsize::new(0));
            (&raw mut (*at).window).write(Mutex::new(Window::new()));
        }
        Ok(())
    }

    /// The nodes that have a zone.
    pub fn online(&self) -> NodeMask {
        self.online
    }

    /// The nodes of them that the process may use, as last read: cpusets change.
    pub(crate) fn allowed(&self) -> NodeMask {
        // Relaxed: as good as read a moment ago.
        NodeMask::from_bits(self.allowed.load(Relaxed))
    }

    /// Reads them again.
    pub(crate) fn refresh_allowed(&self) {
        if self.online.count() > 1 {
            self.allowed.store(self.machine.allowed_nodes().bits(), Relaxed);
        }
    }

    /// Takes a run of exactly `nr_pages` pages (1 to 1024) from `node`, its address aligned to
    /// blocks of `align`.
    ///
    /// # Errors
    /// [`AllocError::Exhausted`] when the node has no such run and cannot get one within `level`;
    /// [`AllocError::TooLarge`] above 1024 pages.
    pub fn alloc_run(
        &self,
        node: NodeId,
        nr_pages: usize,
        align: Order,
        mt: Migratetype,
        level: WatermarkLevel,
    ) -> Result<PageRun, AllocError> {
        let order = Order::holding(nr_pages).ok_or(AllocError::TooLarge)?.max(align);
        // A block of its own size leaves nothing beside it; one that must be aligned cannot move.
        let packs = align == Order::ZERO && !nr_pages.is_power_of_two();
        let mut req = Request { nr_pages, order, mt, level, may_grow: true, packs };
        let exhausted = AllocError::Exhausted { node, order: order.get() };
        let home = self.node(node).ok_or(exhausted)?;
        for tries in 1.. {
            let seen = home.grown();
            let found = home.lock().alloc(&self.env(home), &req);
            match found.map(|run| self.secure(home, node, run)) {
                Ok(Some(run)) => return Ok(run),
                // What had no memory is not found again.
                Ok(None) if tries < SECURE_TRIES => {}
                Ok(None) | Err(Shortage::Exhausted) => break,
                Err(Shortage::Grow { huge }) => {
                    req.may_grow = self.grow(node, huge, &req, seen) && tries < GROWTH_TRIES;
                }
            }
        }
        Err(exhausted)
    }

    /// Takes up to `out.len()` blocks of `order` from `node` with the zone locked once; fills
    /// `out` from the front and returns how many there are: zero when the node is exhausted.
    pub fn alloc_bulk(
        &self,
        node: NodeId,
        order: Order,
        mt: Migratetype,
        level: WatermarkLevel,
        out: &mut [Option<PageRun>],
    ) -> usize {
        let Some(home) = self.node(node) else { return 0 };
        let may_grow = true;
        let nr_pages = order.nr_pages();
        let req = Request { nr_pages, order, mt, level, may_grow, packs: false };
        let mut taken = 0;
        let mut zone = home.lock();
        // Short of growing: what is there now is better than waiting for more.
        for slot in out.iter_mut() {
            let Ok(run) = zone.alloc(&self.env(home), &req) else { break };
            *slot = Some(run);
            taken += 1;
        }
        drop(zone);
        taken = self.secure_bulk((home, node), out, taken);
        if let (0, Some(first)) = (taken, out.first_mut()) {
            *first = self.alloc_run(node, order.nr_pages(), order, mt, level).ok();
            return usize::from(first.is_some());
        }
        taken
    }

    /// Takes a run back, to the zone its memory belongs to. The page words of the run are zero.
    pub fn free_run(&self, run: PageRun) {
        self.free_bulk(core::iter::once(run));
    }

    /// Takes runs back, locking a zone once for each stretch of runs of the same node.
    pub fn free_bulk(&self, runs: impl Iterator<Item = PageRun>) {
        let mut runs = runs.peekable();
        while let Some(first) = runs.peek() {
            let home = self.home(first.head());
            let env = self.env(home);
            let mut zone = home.lock();
            while let Some(run) = runs.next_if(|run| ptr::eq(self.home(run.head()), home)) {
                let nr_pages = run.nr_pages();
                zone.free(&env, run.into_head(), nr_pages);
            }
        }
    }

    /// Gives all but the first `nr_pages` pages of the run back.
    pub fn shrink_run(&self, run: &mut PageRun, nr_pages: usize) {
        if nr_pages < run.nr_pages() {
            self.free_run(run.split_tail(nr_pages));
        }
    }

    /// Takes the free pages behind the live run of `have` pages at `head`, so that it has `want`;
    /// false, and nothing changed, when they are not free or not to be had. Owner of the run only.
    pub(crate) fn extend_run(&self, head: Pfn, have: usize, want: usize) -> bool {
        let home = self.home(head);
        if !home.lock().extend(&self.env(home), head, have, want) {
            return false;
        }
        let more = PageRun::new(head.add(have), want - have, false);
        self.secure(home, self.node_of(head), more).map(PageRun::into_head).is_some()
    }

    /// Charges `nr_pages` of a mapping that is not made of the node's pages; false when the
    /// limits do not allow it.
    pub(crate) fn charge_huge(&self, node: NodeId, nr_pages: usize, level: WatermarkLevel) -> bool {
        let Some(home) = self.node(node) else { return true };
        let mut zone = home.lock();
        if !self.budget.try_charge(nr_pages, level) {
            return false;
        }
        if !home.budget.try_charge(nr_pages, level) {
            self.budget.uncharge(nr_pages);
            return false;
        }
        zone.nr_huge += nr_pages;
        zone.events.pgfault += nr_pages as u64;
        true
    }

    /// Takes off what [`Pages::charge_huge`] charged.
    pub(crate) fn uncharge_huge(&self, node: NodeId, nr_pages: usize) {
        let Some(home) = self.node(node) else { return };
        let mut zone = home.lock();
        self.budget.uncharge(nr_pages);
        home.budget.uncharge(nr_pages);
        zone.nr_huge -= nr_pages;
    }

    /// Takes pages of a live run, now empty, off the accounts.
    pub(crate) fn note_holes(&self, pfn: Pfn, nr_pages: usize, by: Reclaimer) {
        let home = self.home(pfn);
        let mut zone = home.lock();
        self.budget.uncharge(nr_pages);
        home.budget.uncharge(nr_pages);
        zone.nr_holes += nr_pages;
        self.map.chunk(pfn).adjust_holes(nr_pages as isize);
        zone.note_scan(by, nr_pages);
        zone.note_steal(by, nr_pages);
    }

    /// Charges what [`Pages::note_holes`] took off, since the pages of these bits are about to be
    /// used; false when the limits, or the node that they are bound to, do not allow it.
    pub(crate) fn fill_holes(&self, pfn: Pfn, holes: u16, level: WatermarkLevel) -> bool {
        let nr_pages = holes.count_ones() as usize;
        let home = self.home(pfn);
        let mut zone = home.lock();
        if !self.budget.try_charge(nr_pages, level) {
            return false;
        }
        if !home.budget.try_charge(nr_pages, level) {
            self.budget.uncharge(nr_pages);
            return false;
        }
        zone.nr_holes -= nr_pages;
        self.map.chunk(pfn).adjust_holes(-(nr_pages as isize));
        zone.events.pgfault += nr_pages as u64;
        if home.spend(nr_pages) {
            return true;
        }
        drop(zone);
        if self.secure_holes(home, pfn, holes, level) {
            return true;
        }
        let mut zone = home.lock();
        self.budget.uncharge(nr_pages);
        home.budget.uncharge(nr_pages);
        zone.nr_holes += nr_pages;
        self.map.chunk(pfn).adjust_holes(nr_pages as isize);
        zone.events.pgfault -= nr_pages as u64;
        false
    }

    /// The same for a slab that is given back, whatever the limits say.
    pub(crate) fn drop_holes(&self, pfn: Pfn, nr_pages: usize) {
        let home = self.home(pfn);
        let mut zone = home.lock();
        self.budget.charge(nr_pages);
        home.budget.charge(nr_pages);
        zone.nr_holes -= nr_pages;
        self.map.chunk(pfn).adjust_holes(-(nr_pages as isize));
    }

    /// Makes the token of a run again from metadata that stood for it.
    ///
    /// # Safety
    /// The caller owns exactly these pages, and no other token for them exists or will be made.
    pub unsafe fn run_from_head(&self, head: Pfn, nr_pages: usize) -> PageRun {
        PageRun::new(head, nr_pages, false)
    }

    /// Free resident pages of a node at this moment.
    pub fn lruvec(&self, node: NodeId) -> Lruvec {
        let Some(zone) = self.node(node).map(Node::lock) else { return Lruvec::default() };
        Lruvec {
            nr_pages: zone.nr_free_resident,
            nr_isolated: zone.nr_isolated,
            nr_pageblocks: zone.nr_managed / PAGEBLOCK_PAGES,
        }
    }

    /// How many free resident pages of a node were not used after each of these generations; none
    /// stands for now. An estimate from every so manieth of its `nr_pageblocks` pageblocks, made
    /// without the zone's lock.
    pub fn nr_inactive<const N: usize>(
        &self,
        node: NodeId,
        nr_pageblocks: usize,
        borders: [Option<u32>; N],
    ) -> [usize; N] {
        let mut counts = [0; N];
        let stride = nr_pageblocks.div_ceil(SAMPLED).max(1);
        // Pageblocks to pass over before the next one of the sample.
        let mut skip = 0;
        for (_, section) in self.sections.iter().filter(|(_, s)| s.node() == node.index()) {
            let nr = section.nr_committed() / PAGEBLOCK_PAGES;
            while skip < nr {
                let chunk = self.map.chunk(section.start().add(skip * PAGEBLOCK_PAGES));
                let (generation, nr_pages) = (chunk.generation(), chunk.nr_free_resident());
                for (count, border) in counts.iter_mut().zip(borders) {
                    if border.is_none_or(|border| is_past(generation, border)) {
                        *count += nr_pages * stride;
                    }
                }
                skip += stride;
            }
            skip -= nr;
        }
        counts
    }

    /// The system refused to take pages inside a slab.
    pub(crate) fn note_purge_fail(&self, pfn: Pfn, nr_pages: usize) {
        self.home(pfn).lock().events.purge_fail += nr_pages as u64;
    }

    /// A request went into direct reclaim on a node.
    pub fn note_allocstall(&self, node: NodeId) {
        if let Some(home) = self.node(node) {
            home.lock().events.allocstall += 1;
        }
    }

    /// Reclaim under pressure counts so many pages as inactive that are not cold.
    pub fn note_refill(&self, node: NodeId, nr_pages: usize) {
        if let Some(home) = self.node(node) {
            home.lock().events.pgrefill += nr_pages as u64;
        }
    }

    /// Threads that have a heap.
    pub fn nr_threads(&self) -> usize {
        self.nr_threads.load(Relaxed)
    }

    /// The node whose zone a page belongs to.
    #[inline]
    pub fn node_of(&self, pfn: Pfn) -> NodeId {
        self.map.chunk(pfn).node().unwrap_or(NodeId::ZERO)
    }

    /// The figures of a node's zone, if the node has one; what heaps and surveys know is left at
    /// zero.
    pub fn zone_stats(&self, node: NodeId) -> Option<zonal_stats::Node> {
        self.node(node).map(Node::stats)
    }

    /// Pages charged to the process, handed out or free and resident.
    pub fn charged(&self) -> usize {
        self.budget.charged()
    }

    /// Free pages of all nodes that are still resident.
    pub fn nr_free_resident(&self) -> usize {
        self.online.iter().filter_map(|n| self.node(n)).map(|n| n.lock().nr_free_resident).sum()
    }

    /// The limit of the process in pages, [`UNLIMITED`] for none.
    pub fn limit(&self) -> usize {
        self.budget.limit()
    }

    /// The marks of the process's limit.
    pub fn watermarks(&self) -> Watermarks {
        self.budget.marks()
    }

    /// The bound that the soft limit sets.
    pub fn soft_cap(&self) -> Cap {
        self.soft_cap
    }

    /// Bounds what the process shall have charged.
    pub fn set_cap(&self, cap: Cap) {
        self.budget.set_cap(cap);
    }

    /// Bounds what shall be charged to a node.
    pub fn set_node_cap(&self, node: NodeId, cap: Cap) {
        if let Some(home) = self.node(node) {
            home.budget.set_cap(cap);
        }
    }

    /// The bound of the process.
    pub fn cap(&self) -> Cap {
        self.budget.cap()
    }

    /// Pages charged to a node.
    pub fn charged_to(&self, node: NodeId) -> usize {
        self.node(node).map_or(0, |home| home.budget.charged())
    }

    /// Pages to reclaim anywhere for the process to have its high mark, if it is below the low one.
    pub fn shortfall(&self) -> usize {
        self.budget.shortfall()
    }

    /// The same for a node.
    pub fn node_shortfall(&self, node: NodeId) -> usize {
        self.node(node).map_or(0, |home| home.budget.shortfall())
    }

    /// Whether `nr_pages` more on `node` are refused by a bound that gives way, and by no limit.
    pub fn is_capped(&self, node: NodeId, nr_pages: usize) -> bool {
        let of_node = self.node(node).is_some_and(|home| home.budget.is_capped(nr_pages));
        of_node || self.budget.is_capped(nr_pages)
    }

    /// Whether `nr_pages` more on `node` are more than the control group or the node has left.
    pub fn is_spent(&self, node: NodeId, nr_pages: usize) -> bool {
        let of_node = self.node(node).is_some_and(|home| home.budget.is_spent(nr_pages));
        // The soft limit is a wish.
        let of_group = self.cap() != self.soft_cap && self.budget.is_spent(nr_pages);
        of_node || of_group
    }

    /// Lets `nr_pages` pass the bounds that give way, since there is nothing to reclaim.
    pub fn yield_caps(&self, node: NodeId, nr_pages: usize) {
        self.budget.yield_cap(nr_pages);
        if let Some(home) = self.node(node) {
            home.budget.yield_cap(nr_pages);
        }
    }

    /// Gives one pageblock of the node's high-atomic reserve to ordinary requests, if it has one.
    pub fn unreserve_highatomic(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|home| home.lock().unreserve(&self.map))
    }

    /// The reclaimer's clock, which chunks are stamped with.
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Sets the clock of the reclaimer. Relaxed: a stamp may be one tick late.
    pub fn set_generation(&self, generation: u32) {
        self.generation.store(generation, Relaxed);
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<&Node> {
        self.online.contains(node).then(|| &self.nodes[node.index()])
    }

    pub(crate) fn env<'a>(&'a self, node: &'a Node) -> Env<'a> {
        Env {
            map: &self.map,
            process: &self.budget,
            node: &node.budget,
            generation: self.generation(),
            os_page: self.os_page,
            thp: self.thp,
            nr_threads: self.nr_threads(),
            allowance: node.allowance(),
        }
    }

    /// Runs of that order that one page cache may hold: the caches of all threads together get
    /// 1/64 of the charged memory and 4 MiB in any case, each at least two runs.
    pub(crate) fn pcp_share(&self, order: Order) -> usize {
        let all = (self.charged() / PCP_PART).max(PCP_LEAST);
        (all / self.nr_threads().max(1) / order.nr_pages()).max(2)
    }

    /// Tells how many threads have a heap.
    pub(crate) fn set_threads(&self, nr: usize) {
        // Relaxed: a matter of taste only.
        self.nr_threads.store(nr, Relaxed);
    }

    fn home(&self, pfn: Pfn) -> &Node {
        &self.nodes[self.node_of(pfn).index()]
    }
}
