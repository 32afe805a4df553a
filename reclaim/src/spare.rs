//! Huge pages are spared for a while: parts of them go back later than whole ones.
//!
//! A huge page that goes as a whole comes back with one fault. One that goes in part comes back as hundreds of
//! small pages, and its pageblock is one of small pages until it is collapsed. So pauses of up to .3 s
//! break up none, and what goes meanwhile teaches the age of cold memory for those that are longer.
//!
//! Where nearly all that is cold went already, the rest is not worth sparing: a program that wants it
//! back wants all the others, too.

/// Huge pages are broken up for what was idle for so long, at least.
const HUGE_AGE_NS: u64 = 300_000_000;
/// Unless that is less than one part in so many of what went.
const REST_PART: u64 = 4;

/// What was left in huge pages, and what went, since somebody freed anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spared {
    nr_pages: u64,
    nr_gone: u64,
    is_rest: bool,
}

impl Spared {
    /// At which age parts of huge pages go, if others do at `age_ns`.
    pub(crate) fn age_ns(&self, age_ns: u64) -> u64 {
        if self.is_rest { age_ns } else { age_ns.max(HUGE_AGE_NS) }
    }

    /// A round purged `nr_gone` pages and left so many because huge ones were too young to be broken up. If
    /// nobody freed anything since the last round, a rest that goes now has left none and still is one.
    pub(crate) fn note(&mut self, nr_pages: usize, nr_gone: usize, was_rung: bool) {
        if was_rung {
            *self = Spared::default();
        }
        self.nr_pages = nr_pages as u64;
        self.nr_gone += nr_gone as u64;
        if nr_pages > 0 {
            self.is_rest = self.nr_pages * REST_PART <= self.nr_gone;
        }
    }

    /// Whether they go at the age of all others.
    pub(crate) fn is_rest(&self) -> bool {
        self.is_rest
    }

    /// When they are no longer too young, if nobody frees anything since `quiet_since`.
    pub(crate) fn until(&self, quiet_since: u64) -> Option<u64> {
        let waits = self.nr_pages > 0 && !self.is_rest;
        waits.then_some(quiet_since + HUGE_AGE_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_spared_unless_they_are_a_rest() {
        let mut spared = Spared::default();
        assert_eq!((spared.age_ns(7), spared.until(9)), (HUGE_AGE_NS, None));
        assert_eq!(spared.age_ns(HUGE_AGE_NS + 1), HUGE_AGE_NS + 1);
        spared.note(100, 399, true);
        assert_eq!((spared.age_ns(7), spared.until(9)), (HUGE_AGE_NS, Some(HUGE_AGE_NS + 9)));
        spared.note(100, 1, false);
        assert_eq!((spared.age_ns(7), spared.until(9)), (7, None));
        spared.note(0, 100, false);
        assert!(spared.is_rest());
        // Not of what went before.
        spared.note(100, 10, true);
        assert!(!spared.is_rest());
    }
}
