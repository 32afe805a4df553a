//! What purged pages leave behind: how many they were, and when they had been used last. After the
//! shadow entries of the kernel's workingset detection (mm/workingset.c).
//!
//! Nobody knows which page it is that a request gets without memory. But a zone hands out what it got
//! last, so pages that are wanted are taken for those that were purged last: a busy load that wants
//! a few is not told that they are those of long ago, which nobody wants.

use core::mem;

/// What is kept apart. Beyond that the oldest ones become one.
const NR_BATCHES: usize = 8;

/// Pages that were purged together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Batch {
    nr_pages: u64,
    used_at: u64,
}

impl Batch {
    /// Both, used in the mean time.
    fn with(self, other: Batch) -> Batch {
        let [old, new] = if self.used_at < other.used_at { [self, other] } else { [other, self] };
        let nr_pages = old.nr_pages + new.nr_pages;
        // Days by millions of pages take more than a word.
        let shift = u128::from(new.used_at - old.used_at) * u128::from(new.nr_pages);
        Batch { nr_pages, used_at: old.used_at + (shift / u128::from(nr_pages.max(1))) as u64 }
    }
}

/// Pages that were purged and not wanted since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadows {
    /// Those that were purged last first, with empty ones between. They need not have been used last: what is
    /// purged at a longer age was idle for longer.
    batches: [Batch; NR_BATCHES],
}

impl Shadows {
    /// How many.
    pub(crate) fn nr_pages(&self) -> u64 {
        self.batches.iter().map(|batch| batch.nr_pages).sum()
    }

    /// `nr_pages` were purged, which had been used last at `used_at`.
    pub(crate) fn add(&mut self, nr_pages: u64, used_at: u64) {
        let newest = self.batches.iter_mut().find(|batch| batch.nr_pages > 0);
        if let Some(newest) = newest.filter(|batch| batch.used_at == used_at) {
            newest.nr_pages += nr_pages;
            return;
        }
        let free = self.batches.iter().position(|batch| batch.nr_pages == 0);
        let free = free.unwrap_or_else(|| {
            let [.., last, oldest] = &mut self.batches;
            *last = last.with(mem::take(oldest));
            NR_BATCHES - 1
        });
        self.batches[..=free].rotate_right(1);
        self.batches[0] = Batch { nr_pages, used_at };
    }

    /// These were purged later.
    pub(crate) fn append(&mut self, later: Shadows) {
        let batches = later.batches.into_iter().rev().filter(|batch| batch.nr_pages > 0);
        batches.for_each(|batch| self.add(batch.nr_pages, batch.used_at));
    }

    /// `nr_pages` were wanted: how many of these are among them, and how long ago these had been used,
    /// added up.
    pub(crate) fn take(&mut self, nr_pages: u64, now: u64) -> (u64, u128) {
        let (mut taken, mut idle_ns) = (0, 0);
        for batch in &mut self.batches {
            let nr = batch.nr_pages.min(nr_pages - taken);
            batch.nr_pages -= nr;
            taken += nr;
            idle_ns += u128::from(now.saturating_sub(batch.used_at)) * u128::from(nr);
        }
        (taken, idle_ns)
    }

    /// Forgets what had been used last before `since`.
    pub(crate) fn forget(&mut self, since: u64) {
        for batch in self.batches.iter_mut().filter(|batch| batch.used_at < since) {
            *batch = Batch::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_wanted_first() {
        let mut shadows = Shadows::default();
        shadows.add(10, 100);
        shadows.add(20, 200);
        shadows.add(20, 200);
        assert_eq!(shadows.take(45, 300), (45, 40 * 100 + 5 * 200));
        shadows.add(1, 290);
        assert_eq!(shadows.take(45, 300), (6, 10 + 5 * 200));
        assert_eq!((shadows.nr_pages(), shadows.take(45, 300)), (0, (0, 0)));
    }

    #[test]
    fn of_many_the_oldest_become_one() {
        let mut shadows = Shadows::default();
        (0..100).for_each(|i| shadows.add(2, i * 10));
        assert_eq!(shadows.nr_pages(), 200);
        let ages = (1..8).map(|i| 20 * i).sum::<u128>();
        assert_eq!(shadows.take(14, 1000), (14, ages));
        // 0 to 920.
        let oldest = shadows.batches[NR_BATCHES - 1];
        assert!(oldest.nr_pages == 186 && (440..=460).contains(&oldest.used_at), "{oldest:?}");
    }

    #[test]
    fn a_purge_after_a_quiet_month_is_dated_right() {
        const MONTH_NS: u64 = 30 * 86_400 * 1_000_000_000;
        let one = Batch { nr_pages: 10_000_000, used_at: 0 };
        let both = one.with(Batch { used_at: MONTH_NS, ..one });
        assert_eq!(both, Batch { nr_pages: 20_000_000, used_at: MONTH_NS / 2 });
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut shadows = Shadows::default();
        for at in [10, 20, 30] {
            shadows.add(1, at);
        }
        shadows.forget(21);
        assert_eq!(shadows.take(3, 40), (1, 10));
        shadows.add(1, 50);
        assert_eq!(shadows.nr_pages(), 1);
    }

    /// The age grew: what goes now had been used before what went at the shorter one.
    #[test]
    fn what_is_old_is_forgotten_also_if_it_went_last() {
        let mut shadows = Shadows::default();
        for at in [10, 30, 15, 40] {
            shadows.add(1, at);
        }
        shadows.forget(21);
        assert_eq!(shadows.take(4, 40), (2, 10));
    }

    #[test]
    fn room_that_was_left_is_used_before_any_become_one() {
        let mut shadows = Shadows::default();
        (0..8).for_each(|i| shadows.add(1, if i == 5 { 10 } else { 100 + i }));
        shadows.forget(50);
        shadows.add(1, 200);
        assert_eq!(shadows.take(1, 300), (1, 100));
        let ages = [107, 106, 104, 103, 102, 101, 100].map(|at| 300 - at).iter().sum();
        assert_eq!(shadows.batches[NR_BATCHES - 1], Batch { nr_pages: 1, used_at: 100 });
        assert_eq!(shadows.take(8, 300), (7, ages));
    }

    #[test]
    fn what_is_appended_went_last() {
        let [mut shadows, mut later] = [Shadows::default(), Shadows::default()];
        shadows.add(5, 100);
        later.add(2, 120);
        later.add(1, 110);
        shadows.append(later);
        assert_eq!(shadows.take(4, 200), (4, 90 + 2 * 80 + 100));
    }
}
