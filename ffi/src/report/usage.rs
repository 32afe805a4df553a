//! What the C library's own statistics ask for.

use zonal_stats::MAX_CLASSES;

use super::stats::Stats;

/// Figures in bytes.
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
    classes: [(usize, usize); MAX_CLASSES],
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
            classes: [(0, 0); MAX_CLASSES],
        };
        let Some(stats) = Stats::take_quick() else {
            return usage;
        };
        let bytes = |pages: u64| (pages * zonal_stats::PAGE_SIZE) as usize;
        for node in stats.nodes() {
            usage.zone_bytes += bytes(node.zone.nr_managed);
            usage.free_bytes += bytes(node.zone.nr_free + node.pcp.count);
            usage.resident_free_bytes += bytes(node.zone.nr_free_resident);
            usage.nr_free_blocks +=
                node.free_area.as_flattened().as_flattened().iter().sum::<u64>() as usize;
            usage.huge_bytes += node.memory.used_huge_bytes as usize;
        }
        for (class, free) in stats.classes().iter().zip(&mut usage.classes) {
            *free = (class.size as usize, (class.nr_free + class.nr_cached) as usize);
            usage.free_bytes += free.0 * free.1;
        }
        usage.free_bytes = usage.free_bytes.min(usage.zone_bytes);
        usage.nr_huge = stats.process.nr_huge_blocks as usize;
        usage.used_bytes = usage.zone_bytes - usage.free_bytes;
        usage
    }

    /// Size and number of free objects of each class that has some.
    pub fn classes(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.classes.iter().copied().filter(|&(_, free)| free > 0)
    }
}
