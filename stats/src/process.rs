//! Figures of the process as a whole.

use crate::figure::figures;

figures! {
    /// The state of the process outside the nodes.
    pub struct Process {
        /// Pages charged: handed out, or free and still resident.
        nr_charged: Gauge Pages,
        /// Pages that may be charged by the user's limit; 0 for no limit.
        limit: Gauge Pages,
        /// Pages from which on the soft limit makes requests reclaim; 0 for no soft limit.
        soft_limit: Gauge Pages,
        /// Pages that the soft limit or what the control group has left allow for now; 0 for no
        /// such bound.
        cap: Gauge Pages,
        /// Rounds for a watermark in a row in which kswapd gained nothing.
        kswapd_failures: Gauge Count,
        /// Headroom under the limit below which requests reclaim for themselves.
        min: Gauge Pages,
        /// Headroom under the limit below which kswapd works.
        low: Gauge Pages,
        /// Headroom under the limit at which kswapd rests.
        high: Gauge Pages,
        /// By so much fragmentation has raised the low and the high mark for now.
        boost: Gauge Pages,
        /// Age at which free memory goes for now, unless it is kept; 0 before kswapd first looked.
        cold_age_ns: Gauge Nanoseconds,
        /// Age at which it goes where it is kept because it was wanted again soon, and that is not paid for; 0 while
        /// nothing is.
        min_ttl_ns: Gauge Nanoseconds,
        /// Heaps made.
        nr_heaps: Gauge Count,
        /// Heaps that wait for a thread.
        nr_dead_heaps: Gauge Count,
        /// Blocks with a mapping of their own that are in use.
        nr_huge_blocks: Gauge Count,
        /// Metadata mapped for heaps, messages and bitmaps.
        meta_mapped_bytes: Gauge Bytes,
        /// Metadata for heaps, messages and bitmaps that is in use.
        meta_used_bytes: Gauge Bytes,
        /// Metadata mapped for the page map: page words, bitmaps and headers of pageblocks.
        map_mapped_bytes: Gauge Bytes,
        /// Metadata of all kinds that is resident.
        meta_resident_bytes: Gauge Bytes,
        /// Places of live small objects that are fenced.
        fenced_bytes: Gauge Bytes,
        /// Small objects that other threads freed and sent to their heaps, which have not taken them in yet;
        /// nearly, and in `used_small_bytes`.
        in_flight_bytes: Gauge Bytes,
    }
}

figures! {
    /// Events of all heaps, or of one.
    pub struct HeapEvents {
        /// Bins filled.
        bin_refill: Counter Count,
        /// Bins spilled.
        bin_spill: Counter Count,
        /// Objects that other threads sent back.
        remote_free: Counter Count,
        /// Messages sent to other heaps.
        remote_post: Counter Count,
        /// Objects of other heaps that were handed out while what was in flight was much.
        remote_reuse: Counter Count,
        /// Slabs made.
        slab_alloc: Counter Count,
        /// Slabs given back to the page cache, with holes to the zone.
        slab_free: Counter Count,
        /// Page runs that page caches took from their zone.
        pcp_refill: Counter Count,
        /// Page runs that page caches gave back to their zone.
        pcp_spill: Counter Count,
    }
}

figures! {
    /// Events that belong to no node and no heap.
    pub struct ProcessEvents {
        /// Heaps that a visitor could not enter in time, or found in a hit of a large block.
        drain_skipped: Counter Count,
        /// Blocks freed with a size that they do not have.
        size_mismatch: Counter Count,
        /// Times kswapd worked for a watermark.
        pageoutrun: Counter Count,
        /// Times a request below the low mark woke kswapd.
        kswapd_wakeups: Counter Count,
        /// Times it worked for marks that fragmentation had raised.
        pageoutrun_boost: Counter Count,
        /// Pages that were wanted again soon after they were purged.
        workingset_refault: Counter Pages,
        /// Purged pages that were wanted again soon, and that a longer age would have kept.
        workingset_activate: Counter Pages,
        /// Waits that zonal itself caused: for kswapd's progress, or for another
        /// thread at work in the own heap.
        throttled: Counter Count,
        /// Time that zonal itself kept threads asleep.
        blocked_ns: Counter Nanoseconds,
        /// The longest of these times.
        longest_block_ns: Gauge Nanoseconds,
        /// Objects that another heap served while a visitor was in the thread's own.
        visited_alloc: Counter Count,
        /// Freed objects that were put aside for the same reason.
        visited_free: Counter Count,
        /// Times that the bins of a thread that slept were emptied.
        bins_emptied: Counter Count,
        /// Times that a thread slept for a lock of zonal's.
        lock_waits: Counter Count,
        /// For how long, until it had the lock.
        lock_wait_ns: Counter Nanoseconds,
        /// The longest of these times.
        longest_lock_wait_ns: Gauge Nanoseconds,
        /// Time in which at least one thread was in direct reclaim.
        stall_some_ns: Counter Nanoseconds,
        /// Time in which every thread that has a heap was in direct reclaim.
        stall_full_ns: Counter Nanoseconds,
    }
}

impl Process {
    /// Threads with a heap.
    pub fn nr_threads(&self) -> u64 {
        self.nr_heaps.saturating_sub(self.nr_dead_heaps)
    }
}
