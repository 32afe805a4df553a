//! How far a node has grown, under the window's lock: sections double in length, so that they stay few.

use crate::pfn::Pfn;
use crate::section::{FIRST_SECTION, LARGEST_SECTION};

/// How a node grows, in base pages or in huge ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growing {
    /// What the last growth brought; known only where memory is bound to the node.
    pub(crate) last: Option<Step>,
    /// Doublings of the next section's length.
    doublings: u8,
    /// Threads that add sections without the lock.
    nr_adding: u32,
}

/// Pages that came with one growth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) start: Pfn,
    pub(crate) nr_pages: usize,
    /// OS pages of them that are known to be on another node and could not be moved.
    pub(crate) strays: usize,
}

impl Growing {
    pub(crate) const NEW: Growing = Growing { last: None, doublings: 0, nr_adding: 0 };

    /// Length of the section to ask for next.
    pub(crate) fn next_len(self) -> usize {
        (FIRST_SECTION << self.doublings).min(LARGEST_SECTION)
    }

    /// Whether somebody adds a section, without the lock.
    pub(crate) fn is_adding(self) -> bool {
        self.nr_adding > 0
    }

    /// The caller adds one. Whether it is the only one who does: others are content with a short one.
    pub(crate) fn begin_adding(&mut self) -> bool {
        self.nr_adding += 1;
        self.nr_adding == 1
    }

    /// It has entered it, or there is none to be had.
    pub(crate) fn end_adding(&mut self) {
        self.nr_adding -= 1;
    }

    /// A section was added; the next one is `doublings` times twice as large.
    pub(crate) fn advance(&mut self, doublings: u8) {
        self.doublings =
            (self.doublings + doublings).min((LARGEST_SECTION / FIRST_SECTION).ilog2() as u8);
    }

    /// In a forked child, where nobody is left who adds sections.
    pub(crate) fn after_fork(&mut self) {
        self.nr_adding = 0;
    }
}
