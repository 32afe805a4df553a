//! How long free memory stays: until it is cold.
//!
//! Memory that was purged and is wanted again soon (a refault) cost two system calls' work for
//! nothing. So the age at which memory counts as cold starts short and grows when refaults are
//! seen: a load that frees and allocates in cycles soon keeps its memory over the pause. Without
//! refaults the age creeps back, to see whether the load is still the same; where that was a mistake,
//! the next try waits for twice as long. After the kernel's workingset detection (mm/workingset.c),
//! with time in the place of its eviction counter.

use core::mem;

use crate::shadow::Shadows;

/// The shortest age, in nanoseconds.
pub(crate) const MIN_AGE_NS: u64 = 40_000_000;
/// The longest age, in nanoseconds. What is wanted so long after it was used would not have been kept by any.
pub(crate) const MAX_AGE_NS: u64 = 10_000_000_000;
/// The age grows when that many pages were wanted again,
const JUDGE_PAGES: u64 = 64;
/// and one for so much of the time that they would have had to be kept: fewer cost less than one part
/// in three thousand of a processor, and the rest does not have to stay for that.
const JUDGE_NS_PER_PAGE: u64 = 8_000_000;
/// Half of them count no longer than that.
const JUDGE_NS: u64 = 1_000_000_000;
/// One refault for that many purged pages is too many.
const TOLERATED: u64 = 4;
/// The age becomes so many times the one that would have done.
const MARGIN: u64 = 2;
/// Without refaults the age halves in this time,
const RELAX_NS: u64 = 30_000_000_000;
/// or in so many times itself: a mistake costs a cycle about as much as two or three without it.
const RELAX_AGES: u64 = 32;
/// Doubled so often where shorter ages turned out to be mistakes.
const MOST_MISTAKES: u32 = 3;

/// The age of cold memory, and what it is tuned by.
#[derive(Clone, Debug)]
pub(crate) struct Ageing {
    age_ns: u64,
    /// Pages that were purged and not wanted since, and had been used no longer ago than the longest age and this
    /// one together: by them it is judged,
    owed: Shadows,
    /// and those that went with some that turned out to be a mistake.
    regretted: Shadows,
    /// Pages that went whatever their age, and were not wanted since: they say nothing about it.
    ageless: Shadows,
    /// Pages that were wanted again soon after they were purged, not long ago, since the age changed,
    refaults: u64,
    /// and how long ago they had been used then, added up.
    idle_ns: u128,
    faulted_at: u64,
    changed_at: u64,
    /// It has been halved since it last grew.
    has_relaxed: bool,
    /// How often it grew again after that.
    mistakes: u32,
}

/// What pages without memory say about the age.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Judgement {
    /// So many of them had been purged and were wanted again soon.
    pub(crate) refaults: u64,
    /// They were enough of what went: that was a mistake.
    pub(crate) is_regret: bool,
    /// So many that a longer age would have kept were wanted again, since it was last said.
    pub(crate) dear: u64,
}

impl Ageing {
    /// Starts with the shortest age.
    pub(crate) fn new(now: u64) -> Ageing {
        Ageing {
            age_ns: MIN_AGE_NS,
            owed: Shadows::default(),
            regretted: Shadows::default(),
            ageless: Shadows::default(),
            refaults: 0,
            idle_ns: 0,
            faulted_at: now,
            changed_at: now,
            has_relaxed: false,
            mistakes: 0,
        }
    }

    /// Free memory untouched for this long is cold, where none is kept for longer.
    pub(crate) fn age_ns(&self) -> u64 {
        self.age_ns
    }

    /// Tells of pages that were purged, which nobody had used since `used_at`.
    pub(crate) fn note_purged(&mut self, nr_pages: u64, used_at: u64) {
        if nr_pages > 0 {
            self.owed.add(nr_pages, used_at);
        }
    }

    /// Tells of pages that were purged though they may have been used just now, which no age would have kept.
    pub(crate) fn note_purged_in_any_case(&mut self, nr_pages: u64, now: u64) {
        if nr_pages > 0 {
            self.ageless.add(nr_pages, now);
        }
    }

    /// Tells of pages without memory that were handed out since the last call, before anything else is
    /// purged: the age for that is judged by them.
    pub(crate) fn note_faults(&mut self, nr_pages: u64, now: u64) -> Judgement {
        self.forget(now);
        let (ageless, _) = self.ageless.take(nr_pages, now);
        let (back, idle_ns) = self.owed.take(nr_pages - ageless, now);
        let (late, _) = self.regretted.take(nr_pages - ageless - back, now);
        let refaults = ageless + back + late;
        let mut judgement = Judgement { refaults, is_regret: false, dear: late };
        if judgement.refaults * TOLERATED >= nr_pages {
            self.refaults += back;
            self.idle_ns += idle_ns;
        } else {
            // The load grows: it takes what was purged with the rest, and hardly any less without that.
            (judgement.refaults, judgement.dear) = (0, 0);
        }
        // Pages are wanted so long after they were used, and an age beyond that keeps nothing more.
        let needed = (self.idle_ns / u128::from(self.refaults.max(1))) as u64;
        let enough = JUDGE_PAGES.max(needed / JUDGE_NS_PER_PAGE);
        if self.refaults >= enough && self.refaults * TOLERATED > self.owed.nr_pages() {
            judgement.is_regret = needed <= MAX_AGE_NS;
            // What else was purged at the shorter age says nothing about this one, nor what no age
            // would have kept.
            let owed = mem::take(&mut self.owed);
            if judgement.is_regret {
                judgement.dear += self.refaults;
                self.regretted.append(owed);
                self.grow(needed, now);
            }
            (self.refaults, self.idle_ns) = (0, 0);
        } else if now.saturating_sub(self.changed_at) >= self.relax_ns() {
            self.relax(now);
        }
        judgement
    }

    /// What was purged long ago is owed no more.
    fn forget(&mut self, now: u64) {
        let since = now.saturating_sub(MAX_AGE_NS + self.age_ns);
        self.owed.forget(since);
        self.regretted.forget(since);
        self.ageless.forget(since);
        let halves = now.saturating_sub(self.faulted_at) / JUDGE_NS;
        self.refaults >>= halves.min(63);
        self.idle_ns >>= halves.min(127);
        self.faulted_at += halves * JUDGE_NS;
    }

    fn grow(&mut self, needed: u64, now: u64) {
        self.age_ns = (needed * MARGIN).clamp(self.age_ns, MAX_AGE_NS);
        if mem::take(&mut self.has_relaxed) {
            self.mistakes = (self.mistakes + 1).min(MOST_MISTAKES);
        }
        self.changed_at = now;
    }

    /// The age halves when it did not grow for so long.
    fn relax_ns(&self) -> u64 {
        RELAX_NS.max(self.age_ns * RELAX_AGES) << self.mistakes
    }

    /// Nobody came back for what was purged.
    fn relax(&mut self, now: u64) {
        let steps = now.saturating_sub(self.changed_at) / self.relax_ns();
        self.age_ns = (self.age_ns >> steps.min(63)).max(MIN_AGE_NS);
        self.has_relaxed = self.age_ns > MIN_AGE_NS;
        if !self.has_relaxed {
            self.mistakes = 0;
        }
        (self.refaults, self.idle_ns) = (0, 0);
        self.changed_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::vec::Vec;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_cycling_load_is_left_alone_after_a_few_cycles() {
        let mut ageing = Ageing::new(0);
        let mut purges = 0;
        // 1,000 pages freed, a pause of one second, 1,000 pages taken: ten times.
        for cycle in 0..10 {
            let now = (cycle * 1000 + 50) * MS;
            let purged = if ageing.age_ns() < 1000 * MS { 1000 } else { 0 };
            purges += u64::from(purged > 0);
            ageing.note_purged(purged, now.saturating_sub(ageing.age_ns()));
            ageing.note_faults(purged, now + 999 * MS);
        }
        assert!(purges <= 2, "{purges} cycles paid for purging");
    }

    /// A busy load that wants all purged pages at once is no reason to wait for seconds.
    #[test]
    fn the_age_grows_no_further_than_what_was_wanted_asks_for() {
        let mut ageing = Ageing::new(0);
        ageing.note_purged(1000, 60 * MS);
        assert!(ageing.note_faults(1000, 110 * MS).is_regret);
        assert_eq!(ageing.age_ns(), MARGIN * 50 * MS);
    }

    /// All that went together with it, not only what it was judged by.
    #[test]
    fn whatever_comes_back_after_a_mistake_is_dear() {
        for (late, counts) in [(0, 0), (500, 500), (700, 500)] {
            let mut ageing = Ageing::new(0);
            ageing.note_purged(1000, 60 * MS);
            let judged = ageing.note_faults(500, 110 * MS);
            assert_eq!(judged, Judgement { refaults: 500, is_regret: true, dear: 500 });
            let judged = ageing.note_faults(late, 130 * MS);
            assert_eq!(judged, Judgement { refaults: counts, is_regret: false, dear: counts });
        }
    }

    /// No age would have kept them, however soon they are wanted again.
    #[test]
    fn what_goes_in_any_case_teaches_nothing() {
        let mut ageing = Ageing::new(0);
        for i in 1..50 {
            ageing.note_purged(1000, 0);
            ageing.note_purged_in_any_case(1000, i * 20 * MS);
            let judged = ageing.note_faults(1000, (i * 20 + 10) * MS);
            assert_eq!(judged, Judgement { refaults: 1000, is_regret: false, dear: 0 });
        }
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }

    #[test]
    fn memory_that_is_never_wanted_again_stays_cold_early() {
        let mut ageing = Ageing::new(0);
        for i in 0..100 {
            ageing.note_faults(10, i * 100 * MS);
            ageing.note_purged(1000, i * 100 * MS);
        }
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }

    #[test]
    fn growth_without_purges_is_no_refault() {
        let mut ageing = Ageing::new(0);
        assert_eq!(ageing.note_faults(1_000_000, MS).refaults, 0);
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }

    /// What nobody wants lies there for long, what was purged just now is wanted.
    #[test]
    fn a_few_pages_at_a_time_are_those_that_went_last() {
        let mut ageing = Ageing::new(0);
        for i in 3..1000 {
            ageing.note_faults(8, i * 20 * MS);
            ageing.note_purged(10, (i * 20 - 40) * MS);
        }
        assert_eq!(ageing.age_ns(), MARGIN * 60 * MS);
    }

    #[test]
    fn a_load_that_grows_wants_nothing_back() {
        let mut ageing = Ageing::new(0);
        ageing.note_purged(200, 0);
        // Nor does the statistic say so.
        assert_eq!(ageing.note_faults(3000, 300 * MS).refaults, 0);
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }

    #[test]
    fn the_age_stays_in_its_bounds_and_creeps_back() {
        let mut ageing = Ageing::new(0);
        for i in 1..20 {
            ageing.note_purged(2000, 0);
            ageing.note_faults(2000, i * 600 * MS);
        }
        assert_eq!(ageing.age_ns(), MAX_AGE_NS);
        let mut seconds = 12;
        while ageing.age_ns() > MIN_AGE_NS {
            seconds += 1;
            ageing.note_faults(0, seconds * 1000 * MS);
            assert!(seconds < 1000);
        }
        // 320, 160, 80 and 40 seconds, and then 30 each.
        assert!(seconds > 700, "after {seconds} s");
    }

    /// What a shorter age costs is seen less and less often.
    #[test]
    fn a_shorter_age_that_was_a_mistake_is_tried_later() {
        const PERIOD: u64 = 2000 * MS;
        let mut ageing = Ageing::new(0);
        let mut purges = Vec::new();
        for cycle in 1..2000 {
            let now = cycle * PERIOD;
            if ageing.age_ns() < PERIOD {
                purges.push(cycle);
                ageing.note_purged(1000, now - PERIOD);
                ageing.note_faults(1000, now);
            }
            ageing.note_faults(0, now);
        }
        // One in 64 cycles, at last one in 512.
        assert!(purges.len() < 12, "{purges:?}");
        let last: Vec<_> = purges.iter().rev().take(2).collect();
        assert!(last[0] - last[1] > 500, "{purges:?}");
    }

    /// To keep all that is free for seconds has to be worth it.
    #[test]
    fn few_pages_and_late_ones_do_not_count() {
        let mut ageing = Ageing::new(0);
        for i in 0..100 {
            let now = i * 5000 * MS;
            ageing.note_purged(400, now);
            assert!(ageing.note_faults(400, now + 4000 * MS).refaults >= 200);
        }
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
        ageing.note_purged(5000, 1_000_000 * MS);
        ageing.note_faults(5000, 1_015_000 * MS);
        assert_eq!(ageing.age_ns(), MIN_AGE_NS);
    }
}
