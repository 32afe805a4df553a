//! Bounds that give way: the soft limit, and what the control group or a node has left.

use crate::watermark::Watermarks;

/// No limit.
pub const UNLIMITED: usize = usize::MAX;

/// A bound that gives way: what may be charged, and the headroom that requests shall leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Pages that may be charged.
    pub pages: usize,
    /// The headroom.
    pub marks: Watermarks,
}

impl Cap {
    /// No bound.
    pub const NONE: Cap = Cap { pages: UNLIMITED, marks: Watermarks { min: 0, low: 0, high: 0 } };

    /// The bound of a soft limit of so many pages.
    pub(crate) fn of_soft_limit(pages: usize, scale: u32) -> Cap {
        Cap { pages, marks: marks_of(pages, scale) }
    }

    /// The one that asks for reclaim earlier.
    #[must_use]
    pub fn tighter(self, other: Cap) -> Cap {
        let start = |cap: &Cap| cap.pages.saturating_sub(cap.marks.low);
        if start(&other) < start(&self) { other } else { self }
    }
}

/// The marks of a budget, by the kernel's formula.
pub(super) fn marks_of(budget: usize, scale: u32) -> Watermarks {
    if budget == UNLIMITED { Watermarks::default() } else { Watermarks::for_budget(budget, scale) }
}
