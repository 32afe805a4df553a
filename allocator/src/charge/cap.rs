//! Bounds that give way: the soft limit, and what the control group or a node has left.

use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::{WatermarkFactors, Watermarks};

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
    /// Where the kernel kills next: not at the soft limit, nor at a group's bound beyond which the kernel only
    /// slows the program down.
    pub edge: Edge,
}

/// The last pages before the kernel kills, in charged pages; [`UNLIMITED`] where it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// From so many on requests pass only in steps.
    pub from: usize,
    /// At so many the kernel kills.
    pub killed_from: usize,
}

impl Edge {
    /// The kernel does not kill.
    pub const NONE: Edge = Edge { from: UNLIMITED, killed_from: UNLIMITED };

    /// So many of the `nr_pages` that shall pass next may do so where `charged` are: all that lie before the
    /// edge or beyond the killer, who did not come then; from one to the other in steps, since somebody may
    /// have freed something meanwhile.
    pub(super) fn grace(self, charged: usize, nr_pages: usize) -> usize {
        if charged >= self.killed_from {
            return nr_pages;
        }
        let step = (self.killed_from - self.from) / STEPS_TO_KILLER;
        nr_pages.min(self.from.saturating_sub(charged).max(step))
    }
}

impl Cap {
    /// No bound.
    pub const NONE: Cap =
        Cap { pages: UNLIMITED, marks: Watermarks { min: 0, low: 0, high: 0 }, edge: Edge::NONE };

    /// The bound of a soft limit of so many pages.
    pub(crate) fn of_soft_limit(pages: usize, scale: u32) -> Cap {
        Cap { pages, marks: marks_of(pages, scale), edge: Edge::NONE }
    }

    /// The one that asks for reclaim earlier, with the nearer edge.
    #[must_use]
    pub fn tighter(self, other: Cap) -> Cap {
        let start = |cap: &Cap| cap.pages.saturating_sub(cap.marks.low);
        let first = if start(&other) < start(&self) { other } else { self };
        let edge = if other.edge.from < self.edge.from { other.edge } else { self.edge };
        Cap { edge, ..first }
    }
}

/// A [`Cap`] that is replaced now and then, its words one by one, Relaxed: whoever reads them meanwhile judges one
/// request by a mark of another reading.
#[derive(Debug)]
pub(super) struct CapCell {
    pages: AtomicUsize,
    min: AtomicUsize,
    low: AtomicUsize,
    high: AtomicUsize,
    edge: AtomicUsize,
    killed_from: AtomicUsize,
    /// The most that its marks may be raised by.
    max_boost: AtomicUsize,
}

impl CapCell {
    /// No bound.
    pub(super) fn new() -> CapCell {
        CapCell {
            pages: AtomicUsize::new(UNLIMITED),
            min: AtomicUsize::new(0),
            low: AtomicUsize::new(0),
            high: AtomicUsize::new(0),
            edge: AtomicUsize::new(UNLIMITED),
            killed_from: AtomicUsize::new(UNLIMITED),
            max_boost: AtomicUsize::new(0),
        }
    }

    pub(super) fn set(&self, cap: Cap, factors: WatermarkFactors) {
        self.min.store(cap.marks.min, Relaxed);
        self.low.store(cap.marks.low, Relaxed);
        self.high.store(cap.marks.high, Relaxed);
        self.edge.store(cap.edge.from, Relaxed);
        self.killed_from.store(cap.edge.killed_from, Relaxed);
        // The marks of what others fill, too, are wide apart: here those of the kernel count.
        let kernels = marks_of(cap.pages, factors.scale);
        self.max_boost.store(kernels.max_boost(factors.boost), Relaxed);
        self.pages.store(cap.pages, Relaxed);
    }

    pub(super) fn get(&self) -> Cap {
        let marks = Watermarks {
            min: self.min.load(Relaxed),
            low: self.low.load(Relaxed),
            high: self.high.load(Relaxed),
        };
        let from = self.edge();
        // The words may be of two readings.
        let killed_from = self.killed_from.load(Relaxed).max(from);
        Cap { pages: self.pages.load(Relaxed), marks, edge: Edge { from, killed_from } }
    }

    /// Whether it bounds nothing.
    pub(super) fn is_none(&self) -> bool {
        self.pages.load(Relaxed) == UNLIMITED
    }

    /// From so many pages on the kernel's killer is near.
    pub(super) fn edge(&self) -> usize {
        self.edge.load(Relaxed)
    }

    pub(super) fn max_boost(&self) -> usize {
        self.max_boost.load(Relaxed)
    }
}

/// The marks of a budget, by the kernel's formula.
pub(super) fn marks_of(budget: usize, scale: u32) -> Watermarks {
    if budget == UNLIMITED { Watermarks::default() } else { Watermarks::for_budget(budget, scale) }
}
