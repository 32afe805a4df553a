//! Bounds that give way: the soft limit, and what the control group or a node has left.

use crate::watermark::Watermarks;

/// No limit.
pub const UNLIMITED: usize = usize::MAX;

/// From the edge on, reclaim is tried so often before the killer comes.
const STEPS_TO_KILLER: usize = 4;

/// A bound that gives way: what may be charged, and the headroom that requests shall leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Pages that may be charged.
    pub pages: usize,
    /// The headroom.
    pub marks: Watermarks,
    /// From so many charged pages on the kernel's killer is next, [`UNLIMITED`] where it is not: at the soft
    /// limit, and at a group's bound where the kernel only slows the program down.
    pub edge: usize,
}

impl Cap {
    /// No bound.
    pub const NONE: Cap =
        Cap { pages: UNLIMITED, marks: Watermarks { min: 0, low: 0, high: 0 }, edge: UNLIMITED };

    /// The bound of a soft limit of so many pages.
    pub(crate) fn of_soft_limit(pages: usize, scale: u32) -> Cap {
        Cap { pages, marks: marks_of(pages, scale), edge: UNLIMITED }
    }

    /// The one that asks for reclaim earlier, with the nearer edge.
    #[must_use]
    pub fn tighter(self, other: Cap) -> Cap {
        let start = |cap: &Cap| cap.pages.saturating_sub(cap.marks.low);
        let first = if start(&other) < start(&self) { other } else { self };
        Cap { edge: self.edge.min(other.edge), ..first }
    }

    /// So many of the `nr_pages` that shall pass next may do so where `charged` are: all, unless the edge is
    /// passed within them. Before the kernel's killer comes, somebody may have freed something.
    pub(super) fn grace(&self, charged: usize, nr_pages: usize) -> usize {
        let killed_from = self.edge.saturating_add(self.marks.min);
        let is_before_it = self.edge != UNLIMITED && charged < killed_from;
        if is_before_it { nr_pages.min(self.marks.min / STEPS_TO_KILLER) } else { nr_pages }
    }
}

/// The marks of a budget, by the kernel's formula.
pub(super) fn marks_of(budget: usize, scale: u32) -> Watermarks {
    if budget == UNLIMITED { Watermarks::default() } else { Watermarks::for_budget(budget, scale) }
}
