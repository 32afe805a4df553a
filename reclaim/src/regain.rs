//! What was purged was wanted again: sections of huge pages that were holed for it get these back.

use zonal_allocator::Mm;

use crate::ageing::MAX_AGE_NS;
use crate::nodes;

/// What was purged and is wanted again has come when nobody rings any more, or after so long.
const LONGEST_RETURN_NS: u64 = 1_000_000_000;

/// When a purge turned out to be a mistake, by the clock of ages, and the generation then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regret {
    pub(crate) at_ns: u64,
    pub(crate) generation: u32,
}

impl Regret {
    /// Whether it is time to mend it.
    pub(crate) fn is_due(&self, now: u64, was_rung: bool) -> bool {
        let passed = now.saturating_sub(self.at_ns);
        passed < MAX_AGE_NS && (!was_rung || passed >= LONGEST_RETURN_NS)
    }

    /// Sections that were holed before are so no more.
    pub(crate) fn unhole(&self, mm: &Mm) {
        for node in nodes(mm) {
            mm.pages().unhole(node, self.generation);
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
        assert!(!regret.is_due(5 * SECOND, true) && regret.is_due(5 * SECOND, false));
        assert!(regret.is_due(6 * SECOND, true));
        assert!(!regret.is_due(15 * SECOND, true) && !regret.is_due(15 * SECOND, false));
    }
}
