//! How much to scan, and what counts as inactive: the kernel's arithmetic, without side effects.
//!
//! After `get_scan_count`, `inactive_is_low`, `too_many_isolated` (mm/vmscan.c) and
//! `should_reclaim_retry` (mm/page_alloc.c). The kernel moves pages between an active and an
//! inactive list; here every chunk carries the generation of its last use, and the border between
//! the two lists moves.

/// Passes begin at this priority and end at 0; each looks at twice as much as the one before.
pub const DEF_PRIORITY: u32 = 12;
/// Reclaim works in steps of at least this many pages.
pub const SWAP_CLUSTER_MAX: usize = 32;
/// Attempts without success after which reclaim gives up for the time being.
pub const MAX_RECLAIM_RETRIES: u32 = 16;

/// Pages to look at in a list of `size` pages.
pub fn nr_to_scan(size: usize, priority: u32) -> usize {
    match size >> priority {
        0 => size.min(SWAP_CLUSTER_MAX),
        nr => nr,
    }
}

/// Whether the inactive list is so short that active pages have to join it: half of all up to
/// 1 GiB, a quarter at 1 GiB, a hundredth at 1 TiB.
pub fn inactive_is_low(nr_inactive: usize, nr_active: usize) -> bool {
    const GIB_SHIFT: u32 = 30 - zonal_numa::PAGE_SHIFT;
    let gib = (nr_inactive + nr_active) >> GIB_SHIFT;
    let ratio = if gib > 0 { (10 * gib).isqrt() } else { 1 };
    nr_inactive.saturating_mul(ratio) < nr_active
}

/// Whether others hold so much for a purge that one more request in need should wait for them.
pub fn too_many_isolated(nr_isolated: usize, nr_inactive: usize) -> bool {
    nr_isolated > nr_inactive >> 3
}

/// The generation up to which chunks are inactive, `age` being what counts as cold: younger ones
/// join pass by pass, and in the last pass all do, for which there is none.
pub fn border(now: u32, age: u32, priority: u32) -> Option<u32> {
    // The clock wraps, and so does its past.
    (priority > 0).then(|| now.wrapping_sub(age >> (DEF_PRIORITY - priority.min(DEF_PRIORITY))))
}

/// Whether a request that failed after a whole pass is worth another: others may have taken what
/// it reclaimed.
pub fn should_retry(made_progress: bool, nr_loops: u32) -> bool {
    made_progress && nr_loops < MAX_RECLAIM_RETRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    use zonal_allocator::is_past;

    const GIB: usize = 1 << 18;

    #[test]
    fn each_pass_scans_twice_as_much() {
        let passes = (0..=DEF_PRIORITY).rev().map(|priority| nr_to_scan(4 * GIB, priority));
        let expected: Vec<usize> = (0..=12).map(|i| 256 << i).collect();
        assert_eq!(passes.collect::<Vec<_>>(), expected);
        // A small list is not passed over.
        assert_eq!([nr_to_scan(4095, 12), nr_to_scan(7, 12), nr_to_scan(0, 12)], [32, 7, 0]);
        assert_eq!(nr_to_scan(4096, 12), 1);
    }

    /// The table above `inactive_is_low` in the kernel: total, ratio, inactive part.
    #[test]
    fn the_inactive_list_is_balanced_by_the_kernels_table() {
        for (gib, ratio) in [(1, 3), (10, 10), (100, 31), (1024, 101)] {
            let total = gib * GIB;
            let inactive = total / (ratio + 1);
            assert!(!inactive_is_low(inactive + 1, total - inactive - 1), "{gib} GiB");
            assert!(inactive_is_low(inactive - 1, total - inactive + 1), "{gib} GiB");
        }
        assert!(!inactive_is_low(50, 50) && inactive_is_low(49, 51));
        assert!(!inactive_is_low(0, 0));
    }

    #[test]
    fn the_border_moves_from_cold_to_everything() {
        assert_eq!(border(10_000, 600, 12), Some(9_400));
        assert_eq!(border(10_000, 600, 11), Some(9_700));
        assert_eq!(border(10_000, 600, 3), Some(9_999));
        assert_eq!(border(10_000, 600, 1), Some(10_000));
        assert_eq!(border(10_000, 600, 0), None);
    }

    #[test]
    fn ages_are_right_when_the_clock_wraps() {
        for now in [100, u32::MAX, 0, 599, 600] {
            let border = border(now, 600, 12).unwrap();
            let is_cold = |age: u32| is_past(now.wrapping_sub(age), border);
            assert!(is_cold(600) && is_cold(5000) && is_cold(1 << 30), "at {now}");
            assert!(!is_cold(599) && !is_cold(0), "at {now}");
        }
    }

    #[test]
    fn one_eighth_may_be_isolated() {
        assert!(!too_many_isolated(100, 800) && too_many_isolated(101, 800));
        assert!(!too_many_isolated(0, 0));
    }

    #[test]
    fn retries_end() {
        assert!(should_retry(true, 15) && !should_retry(true, 16) && !should_retry(false, 0));
    }
}
