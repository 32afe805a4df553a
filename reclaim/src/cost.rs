//! What rounds may cost: one hundredth of the time on average, and more at once after a quiet time.

use zonal_allocator::{Mm, OwnHeap};

/// Share of the time that rounds may take: one part in so many.
const COST_SHARE: u64 = 100;
/// Work that may be done at once after a quiet time, in nanoseconds.
const BURST_NS: u64 = 100_000_000;
/// What was taken too much counts up to here: half a second without a purge is enough, also where each takes long.
const MOST_OWED_NS: u64 = BURST_NS / 20;
/// To purge a page takes less, in nanoseconds.
const PAGE_NS: usize = 500;

/// The time that rounds may still take; below 0 what they took too much, since each heap had its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    ns: i64,
}

impl Credit {
    /// As after a quiet time.
    pub(crate) fn full() -> Credit {
        Credit { ns: BURST_NS as i64 }
    }

    /// Adds what rounds may take of the time that passed.
    pub(crate) fn earn(&mut self, passed_ns: u64) {
        let earned = (passed_ns / COST_SHARE).min(2 * BURST_NS) as i64;
        self.ns = (self.ns + earned).min(BURST_NS as i64);
    }

    /// Takes off what a round took.
    pub(crate) fn spend(&mut self, ns: u64) {
        self.ns = self.ns.saturating_sub_unsigned(ns).max(-(MOST_OWED_NS as i64));
    }

    /// Whether a round may cost anything.
    pub(crate) fn is_left(self) -> bool {
        self.ns > 0
    }

    /// Whether more is left for a round that took so long already.
    pub(crate) fn exceeds(self, spent_ns: u64) -> bool {
        self.left_ns(spent_ns) > 0
    }

    /// What is left for a round that took so long already.
    pub(crate) fn left_ns(self, spent_ns: u64) -> u64 {
        self.ns.saturating_sub_unsigned(spent_ns).max(0) as u64
    }

    /// The pages that can be purged for that, at least.
    pub(crate) fn nr_pages(self, spent_ns: u64) -> usize {
        self.left_ns(spent_ns) as usize / PAGE_NS
    }
}

/// The time that a round takes: of the processor on the thread that does nothing else, by the clock
/// in a caller, where that needs no call of the system.
pub(crate) struct Work {
    in_caller: bool,
    since: u64,
}

impl Work {
    /// A round begins, on the thread that has the heap `own`, or on that of kswapd.
    pub(crate) fn begin(mm: &Mm, own: Option<OwnHeap>) -> Work {
        let work = Work { in_caller: own.is_some(), since: 0 };
        Work { since: work.now_ns(mm), ..work }
    }

    fn now_ns(&self, mm: &Mm) -> u64 {
        let machine = mm.machine();
        if self.in_caller { machine.now_ns() } else { machine.thread_time_ns() }
    }

    /// What it took so far.
    pub(crate) fn spent_ns(&self, mm: &Mm) -> u64 {
        self.now_ns(mm).saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_time_and_a_burst() {
        let mut credit = Credit::full();
        assert!(credit.exceeds(BURST_NS - 1) && !credit.exceeds(BURST_NS));
        credit.earn(u64::from(u32::MAX));
        assert_eq!(credit.nr_pages(0), BURST_NS as usize / PAGE_NS);
        credit.spend(BURST_NS);
        assert!(!credit.is_left() && !credit.exceeds(0));
        credit.earn(COST_SHARE - 1);
        assert!(!credit.is_left());
        credit.earn(COST_SHARE);
        assert!(credit.exceeds(0) && !credit.exceeds(1));
    }

    #[test]
    fn what_a_round_took_too_much_is_saved_again_first() {
        let mut credit = Credit::full();
        credit.spend(BURST_NS + 7);
        credit.earn(7 * COST_SHARE);
        assert!(!credit.is_left() && credit.nr_pages(0) == 0);
        credit.earn(COST_SHARE);
        assert!(credit.is_left());
        // Not for ever.
        credit.spend(u64::MAX);
        credit.earn((MOST_OWED_NS + 1) * COST_SHARE);
        assert!(credit.is_left());
        credit.spend(u64::MAX);
        credit.earn(u64::MAX);
        assert!(credit.exceeds(BURST_NS - 1));
    }
}
