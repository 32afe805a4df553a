//! Names and sums of the figures: what the text and the JSON report have in common.

use zonal_allocator::class::NR_CLASSES;
use zonal_allocator::pcp::PcpStats;
use zonal_allocator::stats::HeapStats;
use zonal_allocator::{Stats, ZoneStats};
use zonal_numa::PAGE_SIZE;

/// A figure and its name.
pub(super) type Figure = (&'static str, u64);

/// Pages of a zone, named as in `/proc/zoneinfo`.
pub(super) fn pages(zone: &ZoneStats) -> [Figure; 9] {
    [
        ("free", zone.nr_free as u64),
        ("min", zone.watermarks.min as u64),
        ("low", zone.watermarks.low as u64),
        ("high", zone.watermarks.high as u64),
        ("managed", zone.nr_managed as u64),
        ("nr_out", zone.nr_out as u64),
        ("nr_free_resident", zone.nr_free_resident as u64),
        ("nr_isolated", zone.nr_isolated as u64),
        ("charged", zone.charged as u64),
    ]
}

/// Events of all zones and heaps, named as in `/proc/vmstat`.
pub(super) fn events(stats: &Stats) -> [Figure; 33] {
    let sum = |field: fn(&ZoneStats) -> u64| zones(stats).map(field).sum();
    let HeapStats { refills, spills, remote_frees, remote_posts, slabs_made, slabs_released } =
        stats.heaps;
    let reclaim = stats.reclaim;
    let PcpStats { pcp_refill, pcp_spill } = stats.pcp;
    [
        ("pgalloc", sum(|zone| zone.events.pgalloc)),
        ("pgfree", sum(|zone| zone.events.pgfree)),
        ("pgfault", sum(|zone| zone.events.pgfault)),
        ("pgsteal", sum(|zone| zone.events.pgsteal)),
        ("pgscan_kswapd", sum(|zone| zone.events.pgscan_kswapd)),
        ("pgscan_direct", sum(|zone| zone.events.pgscan_direct)),
        ("pgsteal_kswapd", sum(|zone| zone.events.pgsteal_kswapd)),
        ("pgsteal_direct", sum(|zone| zone.events.pgsteal_direct)),
        ("pgrefill", sum(|zone| zone.events.pgrefill)),
        ("allocstall", sum(|zone| zone.events.allocstall)),
        ("pageoutrun", reclaim.pageoutrun),
        ("kswapd_wakeups", reclaim.kswapd_wakeups),
        ("workingset_refault", reclaim.workingset_refault),
        ("throttled", reclaim.throttled),
        ("blocked_ns", reclaim.blocked_ns),
        ("longest_block_ns", reclaim.longest_block_ns),
        ("stall_some_ns", reclaim.stall_some_ns),
        ("stall_full_ns", reclaim.stall_full_ns),
        ("purge_fail", sum(|zone| zone.events.purge_fail)),
        ("fallback_steal", sum(|zone| zone.events.steals)),
        ("fallback_claim", sum(|zone| zone.events.claims)),
        ("buddy_split", sum(|zone| zone.events.splits)),
        ("buddy_merge", sum(|zone| zone.events.merges)),
        ("zone_lock", sum(|zone| zone.events.lock_acquired)),
        ("pcp_refill", pcp_refill),
        ("pcp_spill", pcp_spill),
        ("bin_refill", refills),
        ("bin_spill", spills),
        ("remote_free", remote_frees),
        ("remote_post", remote_posts),
        ("slab_alloc", slabs_made),
        ("slab_free", slabs_released),
        ("drain_skipped", stats.drain_skipped),
    ]
}

/// The state of the instance outside the zones.
pub(super) fn totals(stats: &Stats) -> [Figure; 7] {
    [
        ("nr_heaps", stats.nr_heaps as u64),
        ("nr_dead_heaps", stats.nr_dead_heaps as u64),
        ("pcp_pages", stats.pcp_pages as u64),
        ("huge_live_bytes", stats.huge.live_bytes as u64),
        ("huge_cached_bytes", stats.huge.cached_bytes as u64),
        ("meta_mapped_bytes", stats.meta_mapped as u64),
        ("meta_used_bytes", stats.meta_used as u64),
    ]
}

pub(super) fn zones(stats: &Stats) -> impl Iterator<Item = &ZoneStats> {
    stats.zones.iter().flatten().map(|(_, zone)| zone)
}

/// What the C library's own statistics ask for, in bytes.
#[derive(Debug)]
pub struct Usage {
    /// Committed by the zones.
    pub zone_bytes: usize,
    /// Blocks in use in the zones; what bins hold counts as free.
    pub used_bytes: usize,
    /// Committed, but in no block in use.
    pub free_bytes: usize,
    /// Of these, whole pages in free blocks that are resident.
    pub resident_free_bytes: usize,
    /// Free blocks of the zones.
    pub nr_free_blocks: usize,
    /// Blocks with a mapping of their own.
    pub nr_huge: usize,
    /// Bytes in them.
    pub huge_bytes: usize,
    classes: [(usize, usize); NR_CLASSES],
}

impl Usage {
    /// The figures of this moment.
    pub fn now() -> Usage {
        let mut usage = Usage {
            zone_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
            resident_free_bytes: 0,
            nr_free_blocks: 0,
            nr_huge: 0,
            huge_bytes: 0,
            classes: [(0, 0); NR_CLASSES],
        };
        let Some(stats) = crate::stats() else {
            return usage;
        };
        for zone in zones(&stats) {
            usage.zone_bytes += zone.nr_managed * PAGE_SIZE;
            usage.free_bytes += zone.nr_free * PAGE_SIZE;
            usage.resident_free_bytes += zone.nr_free_resident * PAGE_SIZE;
            usage.nr_free_blocks += zone.nr_free_blocks.as_flattened().iter().sum::<usize>();
        }
        usage.free_bytes += stats.pcp_pages * PAGE_SIZE;
        for (class, free) in stats.classes.iter().zip(&mut usage.classes) {
            *free = (class.size, class.nr_free + class.nr_cached);
            usage.free_bytes += free.0 * free.1;
        }
        usage.free_bytes = usage.free_bytes.min(usage.zone_bytes);
        usage.nr_huge = stats.huge.nr_live;
        usage.huge_bytes = stats.huge.live_bytes;
        usage.used_bytes = usage.zone_bytes - usage.free_bytes;
        usage
    }

    /// Size and number of free objects of each class that has some.
    pub fn classes(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.classes.iter().copied().filter(|&(_, free)| free > 0)
    }
}
