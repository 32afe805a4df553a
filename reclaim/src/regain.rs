//! What was purged was wanted again: sections of huge pages that were holed for it get these back.

use zonal_allocator::{Dense, Mm};

use crate::nodes;

/// What was purged and is wanted again has come when nobody rings any more, or after so long.
const SETTLE_NS: u64 = 1_000_000_000;
/// Sections that are not dense by then stay as they are.
const WINDOW_NS: u64 = 10_000_000_000;

/// When a purge turned out to be a mistake, by the clock of ages, and the generation then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regret {
    pub(crate) at_ns: u64,
    pub(crate) generation: u32,
}

impl Regret {
    /// Which sections are to be mended now: those to which the program is on its way back, while it
    /// `comes_back`, and in the end those that are full.
    pub(crate) fn mends(&self, now: u64, was_rung: bool, comes_back: bool) -> Option<Dense> {
        let passed = now.saturating_sub(self.at_ns);
        if comes_back && passed < SETTLE_NS {
            Some(Dense::Filling)
        } else {
            let is_due = passed < WINDOW_NS && (!was_rung || passed >= SETTLE_NS);
            is_due.then_some(Dense::Full)
        }
    }

    /// Sections that were holed before are so no more.
    pub(crate) fn unhole(&self, mm: &Mm, dense: Dense) {
        for node in nodes(mm) {
            mm.pages().unhole(node, self.generation, dense);
        }
    }
}

/// What is in such sections gets huge pages, while that `may_go_on`. Whether they are allowed stands in a
/// file, and to make one takes long: not for callers.
pub(crate) fn collapse(mm: &Mm, may_go_on: impl Fn() -> bool) {
    if mm.machine().is_confined_since_start() {
        return;
    }
    for node in nodes(mm) {
        while may_go_on() && mm.pages().collapse(node) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regret_waits_until_all_is_back_and_ends() {
        const SECOND: u64 = 1_000_000_000;
        let regret = Regret { at_ns: 5 * SECOND, generation: 7 };
        let mends = |now, was_rung, comes_back| regret.mends(now * SECOND, was_rung, comes_back);
        assert_eq!([true, false].map(|comes| mends(5, true, comes)), [Some(Dense::Filling), None]);
        assert_eq!(mends(5, false, false), Some(Dense::Full));
        for comes_back in [false, true] {
            assert_eq!(mends(6, true, comes_back), Some(Dense::Full));
            assert_eq!([true, false].map(|rung| mends(15, rung, comes_back)), [None, None]);
        }
    }
}
