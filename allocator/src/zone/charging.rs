//! Charging and residency: what becomes resident when pages are handed out.

use zonal_numa::probe;

use super::{Env, Zone};
use crate::order::PAGEBLOCK_PAGES;
use crate::pfn::Pfn;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::WatermarkLevel;

impl Zone {
    /// Enters pages that leave the free lists into all counts; whether they are known zero.
    pub(super) fn hand_out(
        &mut self,
        env: &Env<'_>,
        head: Pfn,
        nr_pages: usize,
        fresh: usize,
    ) -> bool {
        let mut known_zero = true;
        for (chunk, lo, hi) in env.map.pieces(head, nr_pages) {
            known_zero &= !chunk.dirty.any(lo, hi);
            chunk.dirty.set(lo, hi);
            let (unit_lo, unit_hi) = residency_units(env, chunk.is_whole(), lo, hi);
            let newly = chunk.resident.set(unit_lo, unit_hi) as isize;
            let len = (hi - lo) as isize;
            chunk.adjust(-len, newly - len);
            chunk.stamp(env.generation);
        }
        self.nr_free -= nr_pages;
        self.nr_free_resident = self.nr_free_resident + fresh - nr_pages;
        self.nr_out += nr_pages;
        self.events.pgalloc += nr_pages as u64;
        probe::mm_page_alloc(env.map.addr_of(head).addr(), nr_pages, self.node.index());
        self.events.pgfault += fresh as u64;
        known_zero
    }
}

/// Charges what becomes resident when these pages are handed out, and says how much that is; none
/// when a budget forbids it.
pub(super) fn charge(
    env: &Env<'_>,
    head: Pfn,
    nr_pages: usize,
    level: WatermarkLevel,
) -> Option<usize> {
    let fresh = nr_fresh(env, head, nr_pages);
    let left = env.allowance.map_or(usize::MAX, |allowance| allowance.load(Relaxed));
    if fresh > left || !env.levels.try_charge(fresh, level) {
        return None;
    }
    if let Some(allowance) = env.allowance {
        allowance.store(left - fresh, Relaxed);
    }
    Some(fresh)
}

/// How many pages become resident when these are handed out.
fn nr_fresh(env: &Env<'_>, head: Pfn, nr_pages: usize) -> usize {
    let pieces = env.map.pieces(head, nr_pages);
    pieces
        .map(|(chunk, lo, hi)| {
            let (lo, hi) = residency_units(env, chunk.is_whole(), lo, hi);
            chunk.resident.count_clear(lo, hi)
        })
        .sum()
}

/// Touching a page makes its whole OS page resident, in a whole huge page its whole pageblock.
fn residency_units(env: &Env<'_>, whole: bool, lo: usize, hi: usize) -> (usize, usize) {
    if whole {
        return (0, PAGEBLOCK_PAGES);
    }
    let unit = env.os_page.nr_pages();
    (lo & !(unit - 1), hi.next_multiple_of(unit))
}
