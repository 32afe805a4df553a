//! Figures of a node.

use crate::figure::figures;

/// Orders of free blocks, 0 to 10.
pub const NR_ORDERS: usize = 11;
/// Migratetypes of pageblocks.
pub const NR_MIGRATETYPES: usize = 3;
/// Their names, as in `/proc/pagetypeinfo`.
pub const MIGRATETYPES: [&str; NR_MIGRATETYPES] = ["Slab", "Large", "HighAtomic"];
/// Free blocks with no resident page, and those with one.
pub const WARMTHS: [&str; 2] = ["cold", "warm"];

figures! {
    /// The zone of a node.
    pub struct Zone {
        /// Pages in free blocks.
        nr_free: Gauge Pages,
        /// Headroom under the node's limit below which requests reclaim for themselves.
        min: Gauge Pages,
        /// Headroom under the node's limit below which kswapd works.
        low: Gauge Pages,
        /// Headroom under the node's limit at which kswapd rests.
        high: Gauge Pages,
        /// By so much fragmentation has raised the low and the high mark for now.
        boost: Gauge Pages,
        /// Pages committed.
        nr_managed: Gauge Pages,
        /// Pages handed out: to slabs, as large blocks, to page caches.
        nr_out: Gauge Pages,
        /// Pages in free blocks that are still resident: what a purge gives back.
        nr_free_resident: Gauge Pages,
        /// Of those that are resident, pages that were used within the age of cold memory: an estimate where there
        /// are many.
        nr_active: Gauge Pages,
        /// Of those that are resident, pages that are cold.
        nr_inactive: Gauge Pages,
        /// Pages taken out for a purge that is under way.
        nr_isolated: Gauge Pages,
        /// Pages charged for huge blocks, live or kept for reuse.
        nr_huge: Gauge Pages,
        /// Pages inside partly used slabs that were purged.
        nr_holes: Gauge Pages,
        /// Pageblocks in the reserve for urgent requests.
        nr_highatomic: Gauge Count,
        /// Pages charged: resident by zonal's accounts.
        nr_charged: Gauge Pages,
        /// Pages that may be charged by the user's limit; 0 for no limit.
        limit: Gauge Pages,
        /// 1 while the process may have memory of this node; 0 while its cpuset leaves the node out,
        /// or the node's memory is offline.
        usable: Gauge Count,
    }
}

figures! {
    /// The page caches of the threads on a node.
    pub struct Pcp {
        /// Pages in the caches.
        count: Gauge Pages,
        /// Pages that the caches may hold.
        high: Gauge Pages,
        /// Pages that the next refills will take.
        batch: Gauge Pages,
    }
}

figures! {
    /// Where a node's memory is. Resident is the sum of all before it that are not marked
    /// as taken off, less holes and untouched.
    pub struct Memory {
        /// Live small objects.
        used_small_bytes: Gauge Bytes,
        /// Live large blocks.
        used_large_bytes: Gauge Bytes,
        /// Live huge blocks.
        used_huge_bytes: Gauge Bytes,
        /// Free objects in bins, and in messages that wait at a heap.
        cached_bytes: Gauge Bytes,
        /// Free objects in slabs.
        slab_free_bytes: Gauge Bytes,
        /// Ends of slabs that hold no object.
        slab_tail_bytes: Gauge Bytes,
        /// What lies in the page caches of threads, and large blocks that they left for each other.
        pcp_bytes: Gauge Bytes,
        /// Free blocks that are still resident.
        free_resident_bytes: Gauge Bytes,
        /// Freed huge blocks kept for reuse.
        huge_cached_bytes: Gauge Bytes,
        /// Taken off: purged pages inside slabs.
        holes_bytes: Gauge Bytes,
        /// Taken off: counted above, but never touched by the program, or swapped out.
        untouched_bytes: Gauge Bytes,
        /// What the kernel holds in memory on this node for all sections and huge blocks; on
        /// machines with one node, or where it does not say, for those of this node.
        resident_bytes: Gauge Bytes,
        /// What the kernel holds on other nodes for this node's sections and huge blocks.
        misplaced_bytes: Gauge Bytes,
    }
}

figures! {
    /// Whose pages were taken where, named as in `numastat`; zeros on machines with one node.
    pub struct Numastat {
        /// Pages taken on this node as intended.
        numa_hit: Counter Pages,
        /// Pages taken on this node that were intended for another one.
        numa_miss: Counter Pages,
        /// Pages intended for this node that were taken on another one.
        numa_foreign: Counter Pages,
        /// Pages taken on this node because it was its turn.
        interleave_hit: Counter Pages,
        /// Pages taken on this node by threads that ran on it.
        local_node: Counter Pages,
        /// Pages taken on this node by threads that ran elsewhere.
        other_node: Counter Pages,
        /// Objects freed by other threads that came home to heaps of this node.
        remote_frees: Counter Count,
        /// Threads that took a heap of this node because they had come here.
        migrations: Counter Count,
        /// Pages bound to this node that the kernel had put elsewhere and moved here when asked.
        pages_migrated: Counter Pages,
        /// Pages bound to this node that the kernel put elsewhere and that stayed there.
        bind_miss: Counter Pages,
        /// Requests that found this node full for memory that is bound to it.
        bind_full: Counter Count,
        /// Times reclaim here before others were asked gained what was wanted.
        zone_reclaim_success: Counter Count,
        /// Times it gained less.
        zone_reclaim_failed: Counter Count,
    }
}

figures! {
    /// Events of a zone, named as in `/proc/vmstat`.
    pub struct ZoneEvents {
        /// Pages handed out.
        pgalloc: Counter Pages,
        /// Pages taken back.
        pgfree: Counter Pages,
        /// Pages that became resident by being handed out.
        pgfault: Counter Pages,
        /// Pages given back to the OS, by anybody.
        pgsteal: Counter Pages,
        /// Free resident pages that kswapd looked at.
        pgscan_kswapd: Counter Pages,
        /// Free resident pages that requests in need looked at.
        pgscan_direct: Counter Pages,
        /// Pages that kswapd gave back.
        pgsteal_kswapd: Counter Pages,
        /// Pages that requests in need gave back.
        pgsteal_direct: Counter Pages,
        /// Pages that reclaim under pressure counted as inactive before they were cold.
        pgrefill: Counter Pages,
        /// Requests that went into direct reclaim.
        allocstall: Counter Count,
        /// Pages whose purge the OS refused.
        purge_fail: Counter Pages,
        /// Requests served from another migratetype.
        fallback_steal: Counter Count,
        /// Pageblocks claimed from another migratetype.
        fallback_claim: Counter Count,
        /// Blocks split in two.
        buddy_split: Counter Count,
        /// Buddies merged.
        buddy_merge: Counter Count,
        /// Times the zone lock was taken.
        zone_lock: Counter Count,
        /// Sections and huge blocks whose memory policy the OS refused.
        bind_fail: Counter Count,
    }
}

impl Memory {
    /// What is resident by zonal's own accounts.
    pub fn held_bytes(&self) -> u64 {
        let in_use = self.used_small_bytes + self.used_large_bytes + self.used_huge_bytes;
        let in_slabs = self.cached_bytes + self.slab_free_bytes + self.slab_tail_bytes;
        let free = self.pcp_bytes + self.free_resident_bytes + self.huge_cached_bytes;
        (in_use + in_slabs + free).saturating_sub(self.holes_bytes)
    }

    /// Once all other figures stand: what they count and the kernel does not hold was never
    /// touched, or was swapped out.
    pub fn settle(&mut self) {
        let in_memory = self.resident_bytes + self.misplaced_bytes;
        self.untouched_bytes = self.held_bytes().saturating_sub(in_memory);
    }
}

/// A node.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Node {
    /// The kernel's number.
    pub id: u64,
    /// Its zone.
    pub zone: Zone,
    /// The page caches in front of it.
    pub pcp: Pcp,
    /// Where its memory is.
    pub memory: Memory,
    /// What happened in its zone.
    pub events: ZoneEvents,
    /// Where its pages went.
    pub numastat: Numastat,
    /// Free blocks by order, migratetype, and warmth (see [`WARMTHS`]).
    pub free_area: [[[u64; 2]; NR_MIGRATETYPES]; NR_ORDERS],
}

impl Node {
    /// Free blocks of an order.
    pub fn free_blocks(&self, order: usize) -> u64 {
        self.free_area[order].iter().flatten().sum()
    }

    /// How much a failed request of that order would be due to fragmentation, as the kernel's
    /// `extfrag_index` has it, in thousandths: towards 0 for lack of memory, towards 1000 for
    /// fragmentation, -1000 when it would not fail.
    pub fn extfrag_index(&self, order: usize) -> i64 {
        let blocks = (0..NR_ORDERS).map(|order| self.free_blocks(order));
        let total: u64 = blocks.clone().sum();
        if total == 0 {
            return 0;
        }
        if blocks.clone().skip(order).any(|nr| nr > 0) {
            return -1000;
        }
        let pages: u64 = blocks.enumerate().map(|(order, nr)| nr << order).sum();
        1000 - ((1000 + pages * 1000 / (1 << order)) / total).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragmentation_as_the_kernel_has_it() {
        let mut node = Node::default();
        assert_eq!(node.extfrag_index(3), 0);
        // 100 single pages: a request of order 3 fails, because of fragmentation.
        node.free_area[0][0][1] = 100;
        assert_eq!(node.extfrag_index(0), -1000);
        assert_eq!(node.extfrag_index(3), 1000 - (1000 + 100_000 / 8) / 100);
        // One page: it fails for lack of memory.
        node.free_area[0][0][1] = 1;
        assert_eq!(node.extfrag_index(3), 1000 - (1000 + 125));
        node.free_area[4][1][0] = 1;
        assert_eq!(node.extfrag_index(3), -1000);
    }
}
