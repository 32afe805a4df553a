//! Shrinking a node: passes of rising eagerness until the goal is reached.
//!
//! One pass: set the border between active and inactive, move it on if the inactive part is too
//! small, purge as much of the inactive part as the priority says. After `shrink_node` and
//! `balance_pgdat` (mm/vmscan.c).

use zonal_allocator::{Mm, PurgeHow, Reclaimer};
use zonal_numa::NodeId;

use crate::scan::{self, DEF_PRIORITY};

/// Purged at once between two looks at the clock, in pages: about 150 us of system calls.
const STEP_PAGES: usize = 512;

/// What one shrinking is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanControl {
    pub(crate) by: Reclaimer,
    /// Pages wanted.
    pub(crate) goal: usize,
    /// Age of cold memory, in generations.
    pub(crate) age: u32,
    /// When to stop though the goal is not reached; none to go on.
    pub(crate) deadline_ns: Option<u64>,
}

impl ScanControl {
    pub(crate) fn is_over(&self, mm: &Mm) -> bool {
        self.deadline_ns.is_some_and(|deadline| mm.machine().now_ns() >= deadline)
    }
}

/// Purges free pages of `node`; returns how many went back.
pub(crate) fn shrink_node(mm: &Mm, node: NodeId, control: ScanControl) -> usize {
    let pages = mm.pages();
    let mut done = 0;
    for priority in (0..=DEF_PRIORITY).rev() {
        if done >= control.goal || control.is_over(mm) {
            break;
        }
        let mut border = scan::border(pages.generation(), control.age, priority);
        let mut lru = pages.lruvec(node, border);
        if lru.nr_inactive + lru.nr_active == 0 {
            break;
        }
        if priority > 0 && scan::inactive_is_low(lru.nr_inactive, lru.nr_active) {
            border = scan::border(pages.generation(), control.age, priority - 1);
            let refilled = pages.lruvec(node, border);
            pages.note_refill(node, refilled.nr_inactive.saturating_sub(lru.nr_inactive));
            lru = refilled;
        }
        let how = PurgeHow { up_to: border, by: control.by, ..PurgeHow::ALL };
        let mut left = scan::nr_to_scan(lru.nr_inactive, priority).min(control.goal - done);
        while left > 0 && !control.is_over(mm) {
            let step = pages.purge(node, left.min(STEP_PAGES), how);
            if step == 0 {
                break;
            }
            done += step;
            left = left.saturating_sub(step);
            if control.by == Reclaimer::Kswapd {
                mm.doorbell().note_step();
            }
        }
    }
    done
}
