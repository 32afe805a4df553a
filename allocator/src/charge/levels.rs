//! The process and a node together.

use super::Budget;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::WatermarkLevel;

/// Both levels that a page is charged to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels<'a> {
    pub(crate) process: &'a Budget,
    pub(crate) node: &'a Budget,
}

impl Levels<'_> {
    /// Whether both have the headroom that `level` asks for.
    pub(crate) fn have_room(self, nr_pages: usize, level: WatermarkLevel) -> bool {
        self.process.has_room(nr_pages, level) && self.node.has_room(nr_pages, level)
    }

    /// Charges `nr_pages` to both, or to none.
    pub(crate) fn try_charge(self, nr_pages: usize, level: WatermarkLevel) -> bool {
        if !self.node.try_charge(nr_pages, level) {
            return false;
        }
        let passed = self.process.try_charge(nr_pages, level);
        if !passed {
            self.node.uncharge(nr_pages);
        }
        passed
    }

    pub(crate) fn charge(self, nr_pages: usize) {
        self.process.charge(nr_pages);
        self.node.charge(nr_pages);
    }

    pub(crate) fn uncharge(self, nr_pages: usize) {
        self.process.uncharge(nr_pages);
        self.node.uncharge(nr_pages);
    }

    /// Fragmentation: raises the marks of both, and has kswapd woken if any are not
    /// met.
    pub(crate) fn raise(self) {
        let raised = [self.process, self.node].map(Budget::raise);
        if raised.contains(&true) {
            self.process.wakes.store(true, Relaxed);
        }
    }
}
