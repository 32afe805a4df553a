//! A node: its zone behind the zone lock, and what is read without it.

use core::ops::{Deref, DerefMut};

use crossbeam_utils::CachePadded;
use zonal_numa::NodeId;

use crate::charge::{Budget, UNLIMITED};
use crate::figures::numastat::Numastat;
use crate::lock::{FutexLock, Mutex, MutexGuard};
use crate::order::{NR_ORDERS, Order};
use crate::policy::bound::FullMark;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use crate::watermark::WatermarkFactors;
use crate::word::{Migratetype, NR_MIGRATETYPES};
use crate::zone::Zone;

/// One node's memory. All zeros while the node is not in use.
#[derive(Debug)]
pub(crate) struct Node {
    zone: CachePadded<Mutex<Zone>>,
    pub(crate) budget: Budget,
    /// How often the zone grew, or got a section to grow in. A thread that waited for the window's lock sees
    /// from it that another one did its work.
    grown: AtomicU32,
    /// A policy binds memory to this node: it gives no more than it has.
    bound: AtomicBool,
    /// The kernel binds all memory of a thread to this node, and kills who finds it full.
    shared: AtomicBool,
    /// Memory policies that the OS refused: statistic only.
    pub(crate) nr_bind_fail: AtomicU32,
    pub(crate) numastat: Numastat,
    /// Pages of one slab for each class that a heap of the node has slabs of.
    pub(crate) nr_first: AtomicUsize,
    pub(crate) full: FullMark,
    /// Pages that may get memory before somebody looks at the node's room again; written under the
    /// zone lock and by those who look. Counts only where memory is bound to the node.
    pub(crate) allowance: AtomicUsize,
    /// The node was far from full when somebody last looked. Counts only where memory is bound to it.
    pub(crate) ample: AtomicBool,
    /// A thread is in `node_reclaim` here.
    pub(crate) reclaiming: AtomicBool,
}

impl Node {
    pub(crate) fn new(id: NodeId, limit: usize, factors: WatermarkFactors) -> Node {
        Node {
            zone: CachePadded::new(Mutex::new(Zone::new(id))),
            budget: Budget::new(limit, factors),
            grown: AtomicU32::new(0),
            bound: AtomicBool::new(false),
            shared: AtomicBool::new(false),
            nr_bind_fail: AtomicU32::new(0),
            numastat: Numastat::default(),
            nr_first: AtomicUsize::new(0),
            full: FullMark::default(),
            allowance: AtomicUsize::new(0),
            ample: AtomicBool::new(false),
            reclaiming: AtomicBool::new(false),
        }
    }

    /// Takes the zone lock.
    pub(crate) fn lock(&self) -> ZoneGuard<'_> {
        let mut guard = ZoneGuard(self.zone.lock());
        guard.events.zone_lock += 1;
        #[cfg(zonal_holds)]
        guard.holds.begin();
        guard
    }

    /// The zone lock itself, for fork.
    pub(crate) fn raw_lock(&self) -> &FutexLock {
        // SAFETY: only `pages/fork.rs` uses it, and pairs every acquire with a release or a reinit.
        unsafe { self.zone.raw() }
    }

    pub(crate) fn grown(&self) -> u32 {
        self.grown.load(Relaxed)
    }

    pub(crate) fn note_growth(&self) {
        self.grown.fetch_add(1, Relaxed);
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.bound.load(Relaxed)
    }

    /// From now on the zone grows only while the node has room.
    pub(crate) fn note_bound(&self) {
        // Relaxed: a growth under way may still miss it.
        self.bound.store(true, Relaxed);
    }

    /// Whether something must be left for memory that is not zonal's.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Relaxed)
    }

    /// From now on so much is left.
    pub(crate) fn note_shared(&self) {
        // Relaxed: as above.
        self.shared.store(true, Relaxed);
    }

    /// The figures of the zone; what heaps and surveys know is left at zero.
    pub(crate) fn stats(&self) -> zonal_stats::Node {
        let zone = self.lock();
        let mut free_area = [[[0; 2]; NR_MIGRATETYPES]; NR_ORDERS];
        for (order, area) in Order::ZERO.and_up().zip(&mut free_area) {
            for (mt, blocks) in Migratetype::ALL.into_iter().zip(area) {
                *blocks = [false, true].map(|warm| zone.buddy.list(order, mt, warm).len() as u64);
            }
        }
        let mut events = zone.events;
        #[cfg(zonal_holds)]
        zone.holds.print();
        events.buddy_split = zone.buddy.splits;
        events.buddy_merge = zone.buddy.merges;
        events.bind_fail = u64::from(self.nr_bind_fail.load(Relaxed));
        let marks = self.budget.marks();
        let limit = self.budget.limit();
        zonal_stats::Node {
            id: zone.node.index() as u64,
            zone: zonal_stats::Zone {
                nr_free: zone.nr_free as u64,
                min: marks.min as u64,
                low: marks.low as u64,
                high: marks.high as u64,
                boost: self.budget.boost() as u64,
                nr_managed: zone.nr_managed as u64,
                nr_out: zone.nr_out as u64,
                nr_free_resident: zone.nr_free_resident as u64,
                nr_active: zone.nr_free_resident as u64,
                nr_inactive: 0,
                nr_isolated: zone.nr_isolated as u64,
                nr_huge: zone.nr_huge as u64,
                nr_holes: zone.nr_holes as u64,
                nr_highatomic: zone.nr_highatomic as u64,
                nr_charged: self.budget.charged() as u64,
                limit: if limit == UNLIMITED { 0 } else { limit as u64 },
                usable: 0,
            },
            events,
            numastat: self.numastat.read(),
            free_area,
            ..zonal_stats::Node::default()
        }
    }
}

/// The zone, locked.
#[derive(Debug)]
pub(crate) struct ZoneGuard<'a>(MutexGuard<'a, Zone>);

impl Deref for ZoneGuard<'_> {
    type Target = Zone;
    fn deref(&self) -> &Zone {
        &self.0
    }
}

impl DerefMut for ZoneGuard<'_> {
    fn deref_mut(&mut self) -> &mut Zone {
        &mut self.0
    }
}

#[cfg(zonal_holds)]
impl Drop for ZoneGuard<'_> {
    fn drop(&mut self) {
        self.holds.end();
    }
}
