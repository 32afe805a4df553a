//! Shrinking a node: passes of rising eagerness until the goal is reached.
//!
//! One pass: set the border between active and inactive, move it on if the inactive part is too
//! small, purge as much of the inactive part as the priority says. After `shrink_node` and
//! `balance_pgdat` (mm/vmscan.c).
//!
//! What is inactive is estimated once, and each pass looks at a part of the pageblocks as small as
//! its priority says, from where the last search ended: on a large heap a request with a deadline
//! sees little of it.

use zonal_allocator::{Deadline, Mm, PurgeHow, Reclaimer};
use zonal_numa::NodeId;

use crate::scan::{self, DEF_PRIORITY, SWAP_CLUSTER_MAX};

/// Purged at once between two looks at the clock, in pages: about 150 us of system calls.
const STEP_PAGES: usize = 512;
/// Pageblocks looked at between two looks at the clock: about 100 us.
const STEP_LOOKS: usize = 1024;

const NR_PRIORITIES: usize = DEF_PRIORITY as usize + 1;

/// What one shrinking is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanControl {
    pub(crate) by: Reclaimer,
    /// Pages wanted.
    pub(crate) goal: usize,
    /// Age of cold memory, in generations.
    pub(crate) age: u32,
    /// When to stop though the goal is not reached.
    pub(crate) deadline: Deadline,
    /// The priority to end at: 0 takes what was used a moment ago.
    pub(crate) last: u32,
}

impl ScanControl {
    /// Down to the last priority, however long that takes.
    pub(crate) fn new(by: Reclaimer, goal: usize, age: u32) -> ScanControl {
        ScanControl { by, goal, age, deadline: Deadline::NEVER, last: 0 }
    }

    pub(crate) fn is_over(&self, mm: &Mm) -> bool {
        self.deadline.has_passed(mm)
    }
}

/// Purges free pages of `node`; returns how many went back.
pub(crate) fn shrink_node(mm: &Mm, node: NodeId, control: ScanControl) -> usize {
    let pages = mm.pages();
    let lru = pages.lruvec(node);
    let borders = core::array::from_fn(|priority| {
        scan::border(pages.generation(), control.age, priority as u32)
    });
    let inactive: [usize; NR_PRIORITIES] = pages.nr_inactive(node, lru.nr_pageblocks, borders);
    let mut done = 0;
    for priority in (control.last..=DEF_PRIORITY).rev() {
        let nr_pages = lru.nr_pages.saturating_sub(done);
        if done >= control.goal || nr_pages == 0 || control.is_over(mm) {
            break;
        }
        let nr_inactive = |priority: u32| inactive[priority as usize].saturating_sub(done);
        let mut border = priority;
        let nr_active = nr_pages.saturating_sub(nr_inactive(border));
        if priority > 0 && scan::inactive_is_low(nr_inactive(border), nr_active) {
            border -= 1;
            pages.note_refill(node, nr_inactive(border).saturating_sub(nr_inactive(priority)));
        }
        let up_to = borders[border as usize];
        // The estimate may have missed what is there.
        let nr_inactive = if up_to.is_none() { nr_pages } else { nr_inactive(border) };
        // The last pass takes all there is of it.
        let part = if priority == control.last { 0 } else { priority };
        let mut left = scan::nr_to_scan(nr_inactive, part).min(control.goal - done);
        let mut looks = (lru.nr_pageblocks >> part).max(SWAP_CLUSTER_MAX);
        while left > 0 && looks > 0 && !control.is_over(mm) {
            let step_looks = looks.min(STEP_LOOKS);
            let how = PurgeHow { up_to, looks: step_looks, by: control.by, ..PurgeHow::ALL };
            let step = pages.purge(node, left.min(STEP_PAGES), how);
            if step == 0 {
                looks -= step_looks;
            }
            done += step;
            left = left.saturating_sub(step);
            if step > 0 && control.by == Reclaimer::Kswapd {
                mm.doorbell().note_step();
            }
        }
    }
    done
}
