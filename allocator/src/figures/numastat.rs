//! What numastat tells of each node, in pages, and what goes wrong with placement.
//!
//! The words mean what they mean in `/sys/devices/system/node/nodeN/numastat`. They are counted
//! where pages become slabs or blocks, and on machines with several nodes only.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

/// Figures of one node, described in [`zonal_stats::Numastat`]. Relaxed throughout: nothing follows
/// from them.
#[derive(Debug, Default)]
pub(crate) struct Numastat {
    hit: AtomicU64,
    miss: AtomicU64,
    foreign: AtomicU64,
    interleave_hit: AtomicU64,
    local: AtomicU64,
    other: AtomicU64,
    pub(crate) migrations: AtomicU64,
    pub(crate) pages_migrated: AtomicU64,
    pub(crate) bind_miss: AtomicU64,
    pub(crate) bind_full: AtomicU64,
    pub(crate) reclaim_success: AtomicU64,
    pub(crate) reclaim_failed: AtomicU64,
}

impl Numastat {
    /// Pages of this node were taken as intended, by turns or not, by a thread here or not.
    pub(crate) fn note_hit(&self, nr_pages: u64, in_turn: bool, is_local: bool) {
        self.hit.fetch_add(nr_pages, Relaxed);
        if in_turn {
            self.interleave_hit.fetch_add(nr_pages, Relaxed);
        }
        self.note_place(nr_pages, is_local);
    }

    /// Pages of this node were taken though `wanted` was intended.
    pub(crate) fn note_miss(&self, nr_pages: u64, wanted: Option<&Numastat>, is_local: bool) {
        self.miss.fetch_add(nr_pages, Relaxed);
        if let Some(wanted) = wanted {
            wanted.foreign.fetch_add(nr_pages, Relaxed);
        }
        self.note_place(nr_pages, is_local);
    }

    fn note_place(&self, nr_pages: u64, is_local: bool) {
        let place = if is_local { &self.local } else { &self.other };
        place.fetch_add(nr_pages, Relaxed);
    }

    /// The figures of this moment, but for what the heaps count.
    pub(crate) fn read(&self) -> zonal_stats::Numastat {
        let read = |word: &AtomicU64| word.load(Relaxed);
        zonal_stats::Numastat {
            numa_hit: read(&self.hit),
            numa_miss: read(&self.miss),
            numa_foreign: read(&self.foreign),
            interleave_hit: read(&self.interleave_hit),
            local_node: read(&self.local),
            other_node: read(&self.other),
            remote_frees: 0,
            migrations: read(&self.migrations),
            pages_migrated: read(&self.pages_migrated),
            bind_miss: read(&self.bind_miss),
            bind_full: read(&self.bind_full),
            zone_reclaim_success: read(&self.reclaim_success),
            zone_reclaim_failed: read(&self.reclaim_failed),
        }
    }
}
