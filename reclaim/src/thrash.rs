//! Thrashing: what goes back is wanted again, and that costs the program too large a part of its time.
//!
//! The age of cold memory learns from each pause for the next one like it. A program whose pauses grow,
//! or differ, would pay at each that is longer than those before. So what was wanted again is paid for
//! first: until the program has worked for so many times as long as that took, nothing goes back
//! without need that is younger than a few seconds. A program that works all the time has soon paid;
//! one that comes back now and then keeps what it needs for that. After `min_ttl_ms` of the kernel's
//! multi-gen LRU, which is set by hand.

/// To purge a page and to get it again, in nanoseconds: .3 and 1.4 us on a virtual machine; of a huge page
/// less.
const PAGE_NS: u64 = 2_000;
/// The part of the processor time of a program that may be spent so: one in so many.
const SHARE: u64 = 32;
/// What a program that comes back within two seconds needs, which is looked at from time to time only.
pub(crate) const MIN_TTL_NS: u64 = 3_000_000_000;

/// What is yet to be paid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thrashing {
    owed_ns: u64,
}

impl Thrashing {
    /// So many purged pages were wanted again, and a longer age would have kept them.
    pub(crate) fn note_refaults(&mut self, nr_pages: u64) {
        self.owed_ns = self.owed_ns.saturating_add(nr_pages.saturating_mul(PAGE_NS * SHARE));
    }

    /// The program worked for so long.
    pub(crate) fn note_work(&mut self, ns: u64) {
        self.owed_ns = self.owed_ns.saturating_sub(ns);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.owed_ns > 0
    }

    /// The age that free memory has to reach for now, whatever was learnt about it.
    pub(crate) fn min_ttl_ns(&self) -> u64 {
        if self.is_on() { MIN_TTL_NS } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wanted_again_is_paid_by_work() {
        let mut thrashing = Thrashing::default();
        assert_eq!(thrashing.min_ttl_ns(), 0);
        thrashing.note_refaults(1000);
        thrashing.note_work(63_999_999);
        assert_eq!(thrashing.min_ttl_ns(), MIN_TTL_NS);
        thrashing.note_work(1);
        assert_eq!(thrashing.min_ttl_ns(), 0);
        // Work before does not count.
        thrashing.note_work(1 << 40);
        thrashing.note_refaults(1);
        assert!(thrashing.is_on());
    }
}
