//! Until when a piece of work goes on.

use crate::mm::Mm;

/// A time by the clock of the machine, or none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline {
    ns: u64,
}

impl Deadline {
    /// The work goes on until it is done.
    pub const NEVER: Deadline = Deadline { ns: u64::MAX };

    /// It stops at this time, with more to do.
    pub fn at(ns: u64) -> Deadline {
        Deadline { ns }
    }

    /// Whether the time has come.
    pub fn has_passed(self, mm: &Mm) -> bool {
        // Without one, no look at the clock.
        self != Deadline::NEVER && mm.machine().now_ns() >= self.ns
    }
}
