//! How long free memory stays: until it is cold.
//!
//! Memory that was purged and is wanted again soon (a refault) cost two system calls' work for
//! nothing. So the age at which memory counts as cold starts short and grows when refaults are
//! seen: a load that frees and allocates in cycles soon keeps its memory over the pause. Without
//! refaults the age creeps back. After the kernel's workingset detection (mm/workingset.c), with
//! time in the place of its eviction counter.

/// The shortest age, in nanoseconds.
pub const MIN_AGE_NS: u64 = 40_000_000;
/// The longest age, in nanoseconds.
pub const MAX_AGE_NS: u64 = 10_000_000_000;
/// Purged memory that comes back within this time counts as refaulted.
const WINDOW_NS: u64 = 10_000_000_000;
/// The age is judged when that many pages were purged since the last time.
const JUDGE_PAGES: u64 = 64;
/// One refault for that many purged pages is too many.
const TOLERATED: u64 = 4;
const GROWTH: u64 = 16;
/// Nor does it grow beyond so many times the one that would have done.
const MARGIN: u64 = 2;
/// Without refaults the age halves in this time.
const RELAX_NS: u64 = 30_000_000_000;

/// The age of cold memory, and what it is tuned by.
#[derive(Clone, Debug)]
pub struct Ageing {
    age_ns: u64,
    /// Pages purged within the window and not wanted since.
    owed: u64,
    /// When they were, on average.
    purged_at: u64,
    /// Pages that were wanted again soon after they were purged, since the age last changed.
    refaults: u64,
    window_start: u64,
    changed_at: u64,
    /// When it last grew.
    grown_at: Option<u64>,
}

impl Ageing {
    /// Starts with the shortest age.
    pub fn new(now: u64) -> Ageing {
        Ageing {
            age_ns: MIN_AGE_NS,
            owed: 0,
            purged_at: now,
            refaults: 0,
            window_start: now,
            changed_at: now,
            grown_at: None,
        }
    }

    /// Free memory untouched for this long is cold.
    pub fn age_ns(&self) -> u64 {
        self.age_ns
    }

    /// When the age last grew, or would have, if that is not long ago: what was purged before was
    /// wanted.
    pub fn regretted_at(&self, now: u64) -> Option<u64> {
        self.grown_at.filter(|&at| now.saturating_sub(at) < WINDOW_NS)
    }

    /// Tells what happened since the last call: pages purged, and pages without memory that were
    /// handed out. Returns the refaults among these.
    pub fn observe(&mut self, purged: u64, faulted: u64, now: u64) -> u64 {
        let back = faulted.min(self.owed);
        self.owed -= back;
        if purged > 0 {
            let since = now.saturating_sub(self.purged_at);
            // Days by millions of pages take more than a word.
            let shift = u128::from(since) * u128::from(purged) / u128::from(self.owed + purged);
            self.purged_at += shift as u64;
            self.owed += purged;
        }
        self.refaults += back;
        if self.refaults >= JUDGE_PAGES && self.refaults * TOLERATED > self.owed {
            // Pages are wanted so long after they were used, and an age beyond that keeps nothing more.
            let needed = self.age_ns + now.saturating_sub(self.purged_at);
            self.age_ns = (self.age_ns * GROWTH).min(needed * MARGIN).min(MAX_AGE_NS);
            // What else was purged at the shorter age says nothing about this one.
            (self.refaults, self.owed) = (0, 0);
            self.changed_at = now;
            self.grown_at = Some(now);
        } else if now.saturating_sub(self.changed_at) >= RELAX_NS {
            self.age_ns = (self.age_ns / 2).max(MIN_AGE_NS);
            self.refaults = 0;
            self.changed_at = now;
        }
        if now.saturating_sub(self.window_start) >= WINDOW_NS {
            self.owed /= 2;
            self.window_start = now;
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_cycling_load_is_left_alone_after_a_few_cycles() {
        let mut ageing = Ageing::new(0);
        let mut purges = 0;
        // 1,000 pages freed, a pause of one second, 1,000 pages taken: ten times.
        for cycle in 0..10 {
            let now = cycle * 1000 * MS;
            let purged = if ageing.age_ns() < 1000 * MS { 1000 } else { 0 };
            purges += u64::from(purged > 0);
            ageing.observe(purged, 0, now);
            ageing.observe(0, purged, now + 999 * MS);
        }
        assert!(purges <= 2, "{purges} cycles paid for purging");
    }

    /// A busy load that wants all purged pages at once is no reason to wait for seconds.
    #[test]
    fn the_age_grows_no_further_than_what_was_wanted_asks_for() {
        let mut ageing = Ageing::new(0);
        ageing.observe(1000, 0, 100 * MS);
        ageing.observe(0, 1000, 110 * MS);
        assert_eq!(ageing.age_ns(), MARGIN * (MIN_AGE_NS + 10 * MS));
    }

    #[test]
    fn memory_that_is_never_wanted_again_stays_cold_early() {
        let mut ageing = Ageing::new(0);
        for i in 0..100 {
            ageing.observe(1000, 10, i * 100 * MS);
        }
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }

    #[test]
    fn growth_without_purges_is_no_refault() {
        let mut ageing = Ageing::new(0);
        ageing.observe(0, 1_000_000, MS);
        assert_eq!(ageing.refaults, 0);
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }

    #[test]
    fn a_purge_after_a_quiet_month_is_dated_right() {
        const MONTH_NS: u64 = 30 * 86_400 * 1_000_000_000;
        let mut ageing = Ageing::new(0);
        ageing.observe(10_000_000, 0, MONTH_NS);
        assert_eq!(ageing.purged_at, MONTH_NS);
    }

    #[test]
    fn the_age_stays_in_its_bounds_and_creeps_back() {
        let mut ageing = Ageing::new(0);
        for i in 0..20 {
            ageing.observe(1000, 0, i);
            ageing.observe(0, 1000, i);
        }
        assert_eq!(ageing.age_ns(), MAX_AGE_NS);
        for i in 1..20 {
            ageing.observe(0, 0, i * RELAX_NS + 20);
        }
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }
}
