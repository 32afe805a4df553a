//! Thrashing: what goes back is wanted again, and that costs the program too large a part of its time.
//!
//! The age of cold memory learns from each pause for the next one like it. A program whose pauses grow,
//! or differ, would pay at each that is longer than those before. So what was wanted again is paid for
//! first: until the program has worked for so many times as long as that took, it keeps as much memory as
//! it had then for a few seconds; what is beyond that goes at the age that was learnt. A program that
//! works all the time has soon paid; for others it ends after a while. After `min_ttl_ms` of the kernel's
//! multi-gen LRU, which is set by hand.

/// To purge a page and to get it again, in nanoseconds: .3 and 1.4 us of a small one on a virtual machine.
/// Nobody knows which come back in huge ones, for a third of that or less: then it lasts longer.
const PAGE_NS: u64 = 2_000;
/// The part of the processor time of a program that may be spent so: one in so many.
const SHARE: u64 = 32;
/// What a program that comes back within two seconds needs, which is looked at from time to time only.
pub(crate) const MIN_TTL_NS: u64 = 3_000_000_000;
/// Nothing is owed any more when nothing was wanted again for so long.
const EXPIRY_NS: u64 = 10_000_000_000;
/// What is there so long after something was wanted again belongs to the working set.
const SETTLE_NS: u64 = 100_000_000;
/// The working set, and one part in so many: it may not be complete when it is looked at.
const SLACK_PART: usize = 4;

/// What is yet to be paid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thrashing {
    owed_ns: u64,
    /// Since when there is.
    since_ns: u64,
    /// When something was wanted again.
    at_ns: u64,
    /// The pages that the program had then.
    working_set: usize,
}

impl Thrashing {
    /// So many purged pages were wanted again, and a longer age would have kept them.
    pub(crate) fn note_refaults(&mut self, nr_pages: u64, now: u64) {
        if nr_pages > 0 {
            if !self.is_on() {
                self.since_ns = now;
            }
            self.owed_ns = self.owed_ns.saturating_add(nr_pages.saturating_mul(PAGE_NS * SHARE));
            self.at_ns = now;
        }
    }

    /// The program worked for so long.
    pub(crate) fn note_work(&mut self, ns: u64, now: u64) {
        self.owed_ns = self.owed_ns.saturating_sub(ns);
        if now.saturating_sub(self.at_ns) >= EXPIRY_NS {
            self.owed_ns = 0;
        }
        if self.owed_ns == 0 {
            self.working_set = 0;
        }
    }

    /// So many pages are in use, or free and resident.
    pub(crate) fn note_pages(&mut self, nr_pages: usize, now: u64) {
        if self.is_on() && now.saturating_sub(self.at_ns) < SETTLE_NS {
            self.working_set = self.working_set.max(nr_pages + nr_pages / SLACK_PART);
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.owed_ns > 0
    }

    /// At which age goes what is kept, others going at `age_ns`.
    pub(crate) fn kept_age_ns(&self, age_ns: u64) -> u64 {
        if self.is_on() { age_ns.max(MIN_TTL_NS) } else { age_ns }
    }

    /// For how long nobody used what was kept and goes now that all is paid: it was of `age_ns` when it began.
    pub(crate) fn kept_ns(&self, age_ns: u64, now: u64) -> u64 {
        (now.saturating_sub(self.since_ns) + age_ns).min(MIN_TTL_NS)
    }

    /// Of so many pages, in use or free and resident, those that nobody keeps: they go at the usual age.
    pub(crate) fn excess(&self, nr_pages: usize) -> usize {
        if self.is_on() { nr_pages.saturating_sub(self.working_set) } else { usize::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wanted_again_is_paid_by_work() {
        let mut thrashing = Thrashing::default();
        assert_eq!(thrashing.excess(7), usize::MAX);
        thrashing.note_refaults(1000, 5);
        thrashing.note_pages(8000, SETTLE_NS + 4);
        thrashing.note_pages(9000, SETTLE_NS + 5);
        thrashing.note_work(63_999_999, 5);
        assert_eq!((thrashing.excess(10_000), thrashing.excess(11_000)), (0, 1000));
        assert_eq!([7, u64::MAX].map(|it| thrashing.kept_age_ns(it)), [MIN_TTL_NS, u64::MAX]);
        thrashing.note_work(1, 5);
        assert_eq!((thrashing.excess(7), thrashing.kept_age_ns(7)), (usize::MAX, 7));
        // Work before does not count.
        thrashing.note_work(1 << 40, 5);
        thrashing.note_refaults(1, 5);
        assert!(thrashing.is_on() && thrashing.excess(7) == 7);
    }

    /// What goes once it is paid lay there no longer than that took.
    #[test]
    fn what_was_kept_is_as_old_as_the_debt() {
        let mut thrashing = Thrashing::default();
        thrashing.note_refaults(1, 1000);
        thrashing.note_refaults(1, 1400);
        thrashing.note_work(u64::MAX, 1500);
        assert_eq!(thrashing.kept_ns(40, 1500), 540);
        assert_eq!(thrashing.kept_ns(40, MIN_TTL_NS + 1000), MIN_TTL_NS);
        thrashing.note_refaults(1, 2000);
        assert_eq!(thrashing.kept_ns(40, 2007), 47);
    }

    #[test]
    fn what_is_owed_for_long_expires() {
        let mut thrashing = Thrashing::default();
        thrashing.note_refaults(1 << 30, 5);
        thrashing.note_work(0, EXPIRY_NS);
        thrashing.note_refaults(1, 10);
        thrashing.note_work(0, EXPIRY_NS + 9);
        assert!(thrashing.is_on());
        thrashing.note_work(0, EXPIRY_NS + 10);
        assert!(!thrashing.is_on());
    }
}
