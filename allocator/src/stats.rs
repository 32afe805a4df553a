//! Figures, as plain values.
//!
//! Counters stand beside what they count and are summed when somebody asks; the hit path counts
//! nothing.

use zonal_numa::{MAX_NODES, NodeId};

use crate::class::NR_CLASSES;
use crate::huge::HugeStats;
use crate::node::ZoneStats;
use crate::pcp::PcpStats;
use crate::vmstat::ReclaimStats;

/// Events of one heap.
#[derive(Clone, Copy, Default, Debug)]
pub struct HeapStats {
    /// Bins filled.
    pub refills: u64,
    /// Bins spilled.
    pub spills: u64,
    /// Objects that other threads sent back.
    pub remote_frees: u64,
    /// Messages sent to other heaps.
    pub remote_posts: u64,
    /// Slabs made.
    pub slabs_made: u64,
    /// Slabs given back to the page cache.
    pub slabs_released: u64,
}

impl HeapStats {
    pub(crate) fn add(&mut self, other: &HeapStats) {
        self.refills += other.refills;
        self.spills += other.spills;
        self.remote_frees += other.remote_frees;
        self.remote_posts += other.remote_posts;
        self.slabs_made += other.slabs_made;
        self.slabs_released += other.slabs_released;
    }
}

/// One size class over all heaps.
#[derive(Clone, Copy, Default, Debug)]
pub struct ClassStats {
    /// Bytes in an object.
    pub size: usize,
    /// Slabs.
    pub nr_slabs: usize,
    /// Objects in all slabs.
    pub nr_objects: usize,
    /// Of these, free in their slab.
    pub nr_free: usize,
    /// Of these, free in a bin or on their way back to their owner.
    pub nr_cached: usize,
}

/// A snapshot of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Zones of the nodes in use.
    pub zones: [Option<(NodeId, ZoneStats)>; MAX_NODES],
    /// Size classes.
    pub classes: [ClassStats; NR_CLASSES],
    /// Events of all heaps.
    pub heaps: HeapStats,
    /// Page caches of all heaps.
    pub pcp: PcpStats,
    /// Pages in page caches.
    pub pcp_pages: usize,
    /// Heaps made.
    pub nr_heaps: usize,
    /// Heaps without a thread.
    pub nr_dead_heaps: usize,
    /// What reclaim did and cost, outside the zones.
    pub reclaim: ReclaimStats,
    /// Heaps that a visitor could not enter in time.
    pub drain_skipped: u64,
    /// Huge blocks.
    pub huge: HugeStats,
    /// Metadata: bytes mapped for heaps, messages and bitmaps.
    pub meta_mapped: usize,
    /// Of these, in use.
    pub meta_used: usize,
}

impl Stats {
    /// Bytes in live small objects.
    pub fn small_bytes(&self) -> usize {
        self.classes
            .iter()
            .map(|c| c.nr_objects.saturating_sub(c.nr_free + c.nr_cached) * c.size)
            .sum()
    }
}
