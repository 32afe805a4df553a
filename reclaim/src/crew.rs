//! Who is left of the threads that worked, and whether they rest.

/// So long nobody began or ended, nor wanted more than a little.
const REST_NS: u64 = 300_000_000;
/// Pages without memory that are no work, between two rounds.
const FEW_PAGES: u64 = 64;

/// The threads of the program, as rounds see them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    /// How many there are,
    now: usize,
    /// and how many there were at most since the last ones began to work.
    most: usize,
    /// Since when they rest.
    since_ns: u64,
}

impl Crew {
    pub(crate) fn new(nr_threads: usize, now_ns: u64) -> Crew {
        Crew { now: nr_threads, most: nr_threads, since_ns: now_ns }
    }

    /// There are so many at a round, and they wanted so many pages without memory since the last one.
    pub(crate) fn note(&mut self, nr_threads: usize, faults: u64, now_ns: u64) {
        if nr_threads > self.now {
            // After those that are gone, these are a new crew.
            self.most = if self.is_rest() { nr_threads } else { self.most.max(nr_threads) };
        }
        if nr_threads != self.now || faults >= FEW_PAGES {
            self.since_ns = now_ns;
        }
        self.now = nr_threads;
    }

    /// Whether half of them have ended.
    fn is_rest(&self) -> bool {
        2 * self.now <= self.most
    }

    /// When what was left by those that have ended goes, if they rest until then.
    pub(crate) fn over_at(&self) -> Option<u64> {
        self.is_rest().then_some(self.since_ns + REST_NS)
    }

    /// Whether their work is over.
    pub(crate) fn is_over(&self, now_ns: u64) -> bool {
        self.over_at().is_some_and(|at| at <= now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_over_when_half_have_ended_and_the_others_rest() {
        let mut crew = Crew::new(1, 0);
        assert!(!crew.is_over(u64::MAX), "nobody has ended");
        crew.note(9, 1000, 10);
        crew.note(5, 0, 20);
        assert!(!crew.is_over(u64::MAX));
        crew.note(4, 0, 30);
        assert!(!crew.is_over(REST_NS + 29) && crew.is_over(REST_NS + 30));
        crew.note(4, FEW_PAGES - 1, 40);
        assert_eq!(crew.over_at(), Some(REST_NS + 30));
        crew.note(4, FEW_PAGES, 50);
        assert_eq!(crew.over_at(), Some(REST_NS + 50));
        // One goes on where more have worked before.
        crew.note(5, 0, 60);
        assert!(!crew.is_over(u64::MAX));
        crew.note(2, 0, 70);
        assert_eq!(crew.over_at(), Some(REST_NS + 70));
    }
}
