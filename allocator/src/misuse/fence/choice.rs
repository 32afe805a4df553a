//! Which misses are fenced: the first of each class, then some by chance.

use super::turns::Turns;
use super::{Fence, NR_PAGES};
use crate::class::{MAX_SMALL, SizeClass};
use crate::sync::atomic::Ordering::Relaxed;

/// The largest class of which some are fenced by chance.
const MAX_BY_CHANCE: usize = 1024;
/// From so many pages on objects are chosen half as often for each further sixteenth of the arena, so that those
/// which live long do not use it up.
pub(super) const EASY_PAGES: usize = NR_PAGES * 3 / 4;
/// Bytes of a class and how many of its objects are fenced before chance decides: so many that those
/// which the C library takes when a program begins, mostly small ones, leave some.
const NR_FIRSTS: [(usize, u8); 5] = [(48, 72), (128, 30), (256, 8), (1024, 4), (MAX_SMALL, 2)];

impl Fence {
    /// Whether each miss of the class is to be fenced.
    #[inline]
    pub(crate) fn wants(&self, class: SizeClass) -> bool {
        // Relaxed: a hint; the lock decides.
        self.period == 1 || self.wanted.load(Relaxed) & 1 << class.index() != 0
    }

    /// One miss in so many is to be fenced; 0 for none.
    #[inline]
    pub(crate) fn period(&self) -> u64 {
        match self.period {
            all_or_none @ 0..=1 => all_or_none,
            period => {
                // Relaxed: how often, not whether.
                let nr_uneasy = self.nr_pages.load(Relaxed).saturating_sub(EASY_PAGES);
                period.saturating_mul(1 << (nr_uneasy * 16 / NR_PAGES))
            }
        }
    }

    /// Whether a miss of the class can be chosen by chance.
    #[inline]
    pub(crate) fn chooses(class: SizeClass) -> bool {
        class.size() <= MAX_BY_CHANCE
    }

    /// Whether an object of the class that has no slot here shall be checked in another way.
    pub(crate) fn take_turn(&self, class: SizeClass) -> bool {
        let Some(mut turns) = self.turns.try_lock() else { return false };
        self.count_first(&mut turns, class);
        true
    }

    /// One more of the class had its turn, whether or not there is a slot for it.
    pub(super) fn count_first(&self, turns: &mut Turns, class: SizeClass) {
        let nr = &mut turns.nr_firsts[class.index()];
        *nr = nr.saturating_add(1);
        if *nr >= nr_firsts(class) {
            self.wanted.store(self.wanted.load(Relaxed) & !(1 << class.index()), Relaxed);
        }
    }
}

/// How many of the first objects of a class are fenced.
pub(super) fn nr_firsts(class: SizeClass) -> u8 {
    NR_FIRSTS.iter().find(|&&(upto, _)| class.size() <= upto).map_or(0, |&(_, nr)| nr)
}
