//! A node: its zone behind the zone lock, and what is read without it.

use core::ops::{Deref, DerefMut};

use crossbeam_utils::CachePadded;
use zonal_numa::NodeId;

use crate::charge::Budget;
use crate::lock::{FutexLock, Mutex, MutexGuard};
use crate::order::NR_ORDERS;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::watermark::Watermarks;
use crate::word::Migratetype;
use crate::zone::{Zone, ZoneEvents};

/// One node's memory. All zeros while the node is not in use.
#[derive(Debug)]
pub(crate) struct Node {
    zone: CachePadded<Mutex<Zone>>,
    pub(crate) budget: Budget,
    /// How often the zone grew; changed under the window lock. A thread that waited for that lock
    /// sees from it that another one did its work.
    grown: AtomicU32,
    /// A policy binds memory to this node: it gives no more than it has.
    bound: AtomicBool,
    /// Sections whose memory policy the OS refused: statistic only.
    pub(crate) nr_bind_fail: AtomicU32,
}

impl Node {
    pub(crate) fn new(id: NodeId, limit: usize, scale: u32) -> Node {
        Node {
            zone: CachePadded::new(Mutex::new(Zone::new(id))),
            budget: Budget::new(limit, scale),
            grown: AtomicU32::new(0),
            bound: AtomicBool::new(false),
            nr_bind_fail: AtomicU32::new(0),
        }
    }

    /// Takes the zone lock.
    pub(crate) fn lock(&self) -> ZoneGuard<'_> {
        let mut guard = ZoneGuard(self.zone.lock());
        guard.events.lock_acquired += 1;
        guard
    }

    /// The zone lock itself, for fork.
    pub(crate) fn raw_lock(&self) -> &FutexLock {
        // SAFETY: only `fork.rs` uses it, and pairs every acquire with a release or a reinit.
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

    pub(crate) fn stats(&self) -> ZoneStats {
        let zone = self.lock();
        let mut nr_free_blocks = [[0; 2]; NR_ORDERS];
        for (order, counts) in crate::order::Order::ZERO.and_up().zip(&mut nr_free_blocks) {
            for mt in Migratetype::ALL {
                counts[0] += zone.buddy.list(order, mt, false).len();
                counts[1] += zone.buddy.list(order, mt, true).len();
            }
        }
        let mut events = zone.events;
        events.splits = zone.buddy.splits;
        events.merges = zone.buddy.merges;
        ZoneStats {
            node: zone.node,
            nr_managed: zone.nr_managed,
            nr_out: zone.nr_out,
            nr_free: zone.nr_free,
            nr_free_resident: zone.nr_free_resident,
            nr_isolated: zone.nr_isolated,
            nr_huge: zone.nr_huge,
            nr_holes: zone.nr_holes,
            nr_highatomic: zone.nr_highatomic,
            nr_free_blocks,
            charged: self.budget.charged(),
            limit: self.budget.limit(),
            watermarks: self.budget.marks(),
            nr_bind_fail: self.nr_bind_fail.load(Relaxed),
            events,
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

/// A zone at one moment, all counts in pages unless named otherwise.
#[derive(Clone, Copy, Debug)]
pub struct ZoneStats {
    /// Whose zone.
    pub node: NodeId,
    /// Committed.
    pub nr_managed: usize,
    /// Handed out.
    pub nr_out: usize,
    /// In free blocks.
    pub nr_free: usize,
    /// In free blocks and resident: what a purge gives back.
    pub nr_free_resident: usize,
    /// Taken out for a purge that is under way.
    pub nr_isolated: usize,
    /// Charged for huge blocks.
    pub nr_huge: usize,
    /// Purged pages inside partly used slabs.
    pub nr_holes: usize,
    /// Pageblocks in the high-atomic reserve.
    pub nr_highatomic: usize,
    /// Free blocks by order: cold, warm.
    pub nr_free_blocks: [[usize; 2]; NR_ORDERS],
    /// Resident by zonal's accounts.
    pub charged: usize,
    /// What the user allows, [`crate::charge::UNLIMITED`] for no limit.
    pub limit: usize,
    /// Marks of the node's budget.
    pub watermarks: Watermarks,
    /// Sections whose memory policy the OS refused.
    pub nr_bind_fail: u32,
    /// Event counts.
    pub events: ZoneEvents,
}
