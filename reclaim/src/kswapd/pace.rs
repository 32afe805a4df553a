//! When the next round comes.

use zonal_allocator::Mm;

use super::Kswapd;
use crate::clock::GENERATION_NS;
use crate::pressure::{self, Watch};

/// The shortest time between rounds while there is work.
const TICK_NS: u64 = 20_000_000;
const SLOW_TICK_NS: u64 = 500_000_000;
/// How often what grows cold is looked at until it is.
const AGE_TICKS: u64 = 8;
/// What a thread left in its heap becomes cold there, is seen late, and becomes cold in the zone once more.
const TURNS: u64 = 3;
/// A ring after a quiet time is seen no later than one part in so many of that.
const LATENESS: u64 = 4;
/// Without a ring for this long, and with nothing left, the thread goes home.
const LINGER_NS: u64 = 2_000_000_000;

/// What the thread does after a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Sleep so many nanoseconds, or until somebody hurries it.
    Sleep(u64),
    /// Nothing is left to do: end.
    Retire,
}

impl Kswapd {
    /// What the thread does after a round, which may have left work where `is_busy`.
    pub(super) fn next(&self, mm: &Mm, is_busy: bool) -> Next {
        let slowest = match self.pressure.watch() {
            Watch::No => SLOW_TICK_NS,
            Watch::Loose => 2 * pressure::INTERVAL_NS,
            Watch::Close => pressure::INTERVAL_NS,
        };
        let awake = self.clock.awake_ns();
        let idle = awake.saturating_sub(self.quiet_since);
        let until = self.spared.until(self.quiet_since).filter(|&until| until > awake);
        let slowest = until.map_or(slowest, |until| slowest.min(until - awake + GENERATION_NS));
        // What is kept for those who work goes when they do not any more.
        let over_at = self.crew.over_at().filter(|&at| at > awake);
        let slowest = over_at.map_or(slowest, |at| slowest.min(at - awake));
        if is_busy || self.balance.gains() {
            Next::Sleep(self.busy_tick_ns().min(slowest))
        } else if idle < TURNS * self.lesson().kept_age_ns() + 2 * TICK_NS {
            Next::Sleep(self.busy_tick_ns().max(idle / AGE_TICKS).min(slowest))
        } else if idle < LINGER_NS || self.may_take_more(mm) {
            // Who comes after a long rest may wait a little longer to be seen.
            Next::Sleep(TICK_NS.max(idle / LATENESS).min(slowest))
        } else {
            Next::Retire
        }
    }

    /// Whether another round may take what this one left, though nobody rings: not if all has been
    /// cold for a while, since then it cannot be taken at all.
    fn may_take_more(&self, mm: &Mm) -> bool {
        let was_tried = self.config.purges_cold && self.credit.is_left();
        !was_tried && mm.pages().nr_free_resident() > 0
    }

    /// Time between rounds while there is work: what is not yet cold need not be looked at often, but what is
    /// used between two rounds counts as used at the first.
    pub(super) fn busy_tick_ns(&self) -> u64 {
        TICK_NS.max(self.lesson().usual_age_ns() / AGE_TICKS)
    }
}
