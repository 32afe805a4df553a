//! The page allocator of all nodes.
//!
//! ```text
//!   alloc_run ----> zone lock: Zone::alloc ----> PageRun                     (rmqueue)
//!                        | Shortage::Grow
//!                        v (zone unlocked)                                  (grow)
//!                   commit the section's next step,                         (commit)
//!                   or add a section (window lock)                          (sections, bind)
//!                        | zone lock: Zone::online
//!                        '---> again
//!   free_run -----> zone lock: Zone::free        purge -> `crate::purge`  fork -> `fork`
//! ```
//!
//! Lock order: node caches -> window -> zones, each by node number. No system call under a zone lock.
//!
//! Every operation is all-or-nothing: on an error all counters and lists are as before (memory
//! committed on the way stays, free and cold).

pub(crate) mod bind;
mod charging;
mod commit;
mod config;
mod fork;
pub(crate) mod grow;
pub(crate) mod growing;
mod holes;
mod lruvec;
mod resident;
mod rmqueue;
mod sections;
mod shares;

pub(crate) use self::resident::is_long;

use core::{ptr, slice};

use crossbeam_utils::CachePadded;
use zonal_numa::{Errno, MAX_NODES, Machine, NodeId, NodeMask};

use crate::charge::{Budget, Cap, Levels};
use crate::large::kept_pool::KeptPool;
use crate::large::node_cache::NodeCache;
use crate::lock::Mutex;
use crate::lookout::Lookout;
use crate::node::Node;
use crate::order::Order;
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::policy::NodeReclaimMode;
use crate::section::Sections;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use crate::thp::{Density, Thp};
use crate::window::Window;
use crate::zone::Env;

pub use crate::charge::UNLIMITED;
pub use charging::Level;
pub use config::{PageConfig, Placement};
pub use lruvec::Lruvec;

/// The page allocator.
///
/// Large and mostly untouched: made in place by [`Pages::init`], in zeroed memory. The fields
/// stand in an order that lets a small process touch few pages of it.
#[derive(Debug)]
#[repr(C)]
pub struct Pages {
    pub(crate) sections: Sections,
    /// From addresses to metadata.
    pub(crate) map: PageMap,
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
    lookout: Lookout,
    generation: AtomicU32,
    /// Time in all that counts for nobody's age.
    asleep_ns: AtomicU64,
    nr_threads: AtomicUsize,
    /// On a line of its own: hits read what stands beside it.
    pub(crate) kept: CachePadded<KeptPool>,
    /// Written to by each free of a large block, on a line of its own.
    pub(crate) density: CachePadded<Density>,
    pub(crate) window: Mutex<Window>,
    pub(crate) nodes: [Node; MAX_NODES],
    /// By node; one where there is one node: programs that lock all their memory lock this, too.
    node_caches: &'static [NodeCache],
}

impl Pages {
    /// Makes a page allocator at `at`. Maps no memory for requests: the first one does.
    ///
    /// # Errors
    /// `EINVAL` when the OS page is larger than a pageblock, `ENOMEM`.
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
        let factors = config.watermarks;
        let nr_caches = if online.bits() == 1 { 1 } else { MAX_NODES };
        let caches = machine.map(nr_caches * size_of::<NodeCache>(), zonal_numa::PAGE_SIZE)?;
        let caches = ptr::with_exposed_provenance::<NodeCache>(caches.addr());
        // SAFETY: that many, nobody else's and never unmapped. Zeros are caches without runs.
        let caches = unsafe { slice::from_raw_parts(caches, nr_caches) };
        // Field by field, since a `Pages` is too large for the stack. What is left out (the
        // sections, the nodes not online) is valid as zeros.
        // SAFETY: each write goes to a field of `*at`, which is valid for writes and unshared.
        unsafe {
            for node in online.iter() {
                let slot = &raw mut (*at).nodes[node.index()];
                slot.write(Node::new(node, config.node_limits[node.index()], factors));
            }
            (&raw mut (*at).node_caches).write(caches);
            (&raw mut (*at).map).write(PageMap::unplaced());
            let allowed = machine.allowed_nodes().bits();
            (&raw mut (*at).allowed).write(AtomicU64::new(allowed));
            (&raw mut (*at).machine).write(machine);
            (&raw mut (*at).thp).write(thp);
            (&raw mut (*at).placement).write(config.placement);
            (&raw mut (*at).node_reclaim).write(config.node_reclaim);
            (&raw mut (*at).os_page).write(os_page);
            (&raw mut (*at).online).write(online);
            let budget = Budget::new(config.limit, factors);
            let soft_cap = Cap::of_soft_limit(config.soft_limit, factors.scale);
            budget.set_cap(soft_cap);
            (&raw mut (*at).budget).write(budget);
            (&raw mut (*at).soft_cap).write(soft_cap);
            (&raw mut (*at).lookout).write(Lookout::new());
            (&raw mut (*at).generation).write(AtomicU32::new(0));
            (&raw mut (*at).asleep_ns).write(AtomicU64::new(0));
            (&raw mut (*at).nr_threads).write(AtomicUsize::new(0));
            (&raw mut (*at).kept).write(CachePadded::new(KeptPool::new()));
            let density = Density::new(thp == Thp::Auto);
            (&raw mut (*at).density).write(CachePadded::new(density));
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

    /// Reads again which nodes the process may use.
    pub fn refresh_allowed(&self) {
        if self.online.count() > 1 {
            self.allowed.store(self.machine.allowed_nodes().bits(), Relaxed);
        }
    }

    /// The node whose zone a page belongs to.
    #[inline]
    pub(crate) fn node_of(&self, pfn: Pfn) -> NodeId {
        self.map.chunk(pfn).node().unwrap_or(NodeId::ZERO)
    }

    /// For tests: the node whose zone the page at `addr` belongs to, and what its pageblock is used for.
    #[cfg(feature = "fake")]
    pub fn page_at(&self, addr: usize) -> Option<(NodeId, crate::word::Migratetype)> {
        let pfn = self.map.pfn_of(addr)?;
        Some((self.node_of(pfn), self.map.chunk(pfn).migratetype()))
    }

    /// Whether a run that starts there may rest in a page cache of `node`: it is at home on it, and not
    /// of the reserve for urgent requests.
    #[inline]
    pub(crate) fn may_rest(&self, pfn: Pfn, node: NodeId) -> bool {
        let chunk = self.map.chunk(pfn);
        chunk.is_of(node) && chunk.may_rest()
    }

    /// The figures of a node's zone, if the node has one; what heaps and surveys know is left at
    /// zero.
    pub fn zone_stats(&self, node: NodeId) -> Option<zonal_stats::Node> {
        self.node(node).map(Node::stats)
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

    /// Gives one pageblock of the node's high-atomic reserve to ordinary requests, if it has one.
    pub fn unreserve_highatomic(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|home| home.lock().unreserve(&self.map))
    }

    /// Threads that have a heap, and handles. What borrows one from the pool for a moment is none.
    pub fn nr_threads(&self) -> usize {
        self.nr_threads.load(Relaxed)
    }

    /// The reclaimer's clock, which chunks are stamped with.
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// So much time passed that counts for nobody's age: the process slept.
    pub fn note_asleep(&self, ns: u64) {
        // Relaxed, as the clock: a stamp may be one pause late.
        self.asleep_ns.fetch_add(ns, Relaxed);
    }

    /// The time without such pauses, in nanoseconds.
    pub(crate) fn awake_ns(&self) -> u64 {
        self.machine.now_ns().saturating_sub(self.asleep_ns.load(Relaxed))
    }

    /// Sets the clock of the reclaimer. Relaxed: a stamp may be one tick late.
    pub fn set_generation(&self, generation: u32) {
        self.generation.store(generation, Relaxed);
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<&Node> {
        self.online.contains(node).then(|| &self.nodes[node.index()])
    }

    /// The nodes' records, in lock order.
    pub(crate) fn online_nodes(&self) -> impl Iterator<Item = &Node> {
        self.online.iter().map(|id| &self.nodes[id.index()])
    }

    /// Large runs that threads of that node left for each other.
    pub(crate) fn node_cache(&self, node: NodeId) -> &NodeCache {
        // A node that came later has no zone, nor runs to leave.
        self.node_caches.get(node.index()).unwrap_or(&self.node_caches[0])
    }

    pub(crate) fn env<'a>(&'a self, node: &'a Node) -> Env<'a> {
        Env {
            map: &self.map,
            levels: self.levels(node),
            generation: self.generation(),
            os_page: self.os_page,
            thp: self.thp,
            nr_first: node.nr_first.load(Relaxed),
            large_is_dense: self.density.is_dense(),
            allowance: node.allowance(),
        }
    }

    /// What pages of that node are charged to.
    pub(crate) fn levels<'a>(&'a self, node: &'a Node) -> Levels<'a> {
        Levels { process: &self.budget, node: &node.budget }
    }

    /// A heap of `node` has its first slab of a class, of so many pages, or gave up its last one.
    pub(crate) fn count_first(&self, node: NodeId, nr_pages: isize) {
        if let Some(home) = self.node(node) {
            // Relaxed: a heuristic reads it, to which one more or less is the same.
            home.nr_first.fetch_add(nr_pages as usize, Relaxed);
        }
    }

    /// A thread has got a heap.
    pub(crate) fn note_thread(&self) {
        // Relaxed: shares of caches are reckoned by it, and carry no data.
        self.nr_threads.fetch_add(1, Relaxed);
    }

    /// It gives it back.
    pub(crate) fn note_thread_end(&self) {
        // Relaxed: as above.
        self.nr_threads.fetch_sub(1, Relaxed);
    }

    /// Tells how many threads have a heap: for a forked child.
    pub(crate) fn set_threads(&self, nr: usize) {
        // Relaxed: as above.
        self.nr_threads.store(nr, Relaxed);
    }

    fn home(&self, pfn: Pfn) -> &Node {
        &self.nodes[self.node_of(pfn).index()]
    }
}
