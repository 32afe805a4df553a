//! The background reclaimer: one round of it, without the thread.
//!
//! A round drains the caches of threads that did nothing since the last one, purges holes in slabs
//! and free chunks that are cold, unmaps huge mappings kept for too long, and says how long to
//! sleep. It costs at most one hundredth of the time, with a burst credit; below a watermark the
//! cost does not count. When there is nothing left to do for a while it asks to be dismissed.

use core::ptr::NonNull;

use zonal_allocator::{Heap, Mm, PurgeHow, Reclaimer, Sweep};
use zonal_numa::{NodeId, PAGE_SIZE};

use crate::ageing::Ageing;

/// Share of the time that a round may cost on average: one part in so many.
const COST_SHARE: u64 = 100;
/// Work that may be done at once after a quiet time, in nanoseconds.
const BURST_NS: u64 = 100_000_000;
/// Time between rounds while there is work.
const TICK_NS: u64 = 20_000_000;
const SLOW_TICK_NS: u64 = 500_000_000;
/// Without a ring for this long, and with nothing left, the thread goes home.
const LINGER_NS: u64 = 2_000_000_000;
/// Pages per step, between looks at the clock.
const STEP_PAGES: usize = 2048;
/// A generation is a time stamp in units of about 17 ms.
const GENERATION_SHIFT: u32 = 24;

/// What the thread does after a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Sleep so many nanoseconds, or until somebody hurries it.
    Sleep(u64),
    /// Nothing is left to do: end.
    Retire,
}

/// The state of the reclaimer between rounds.
#[derive(Debug)]
pub struct Kswapd {
    ageing: Ageing,
    credit_ns: u64,
    last_ns: u64,
    /// Since when nobody rang.
    quiet_since: u64,
    faults_seen: u64,
}

/// The generation at a time.
fn generation(now: u64) -> u32 {
    (now >> GENERATION_SHIFT) as u32
}

impl Kswapd {
    /// Starts the clock of chunks and slabs.
    pub fn new(mm: &Mm) -> Kswapd {
        let now = mm.machine().now_ns();
        mm.pages().set_generation(generation(now));
        Kswapd {
            ageing: Ageing::new(now),
            credit_ns: BURST_NS,
            last_ns: now,
            quiet_since: now,
            faults_seen: faults(mm),
        }
    }

    /// One round. `own` is the heap of the calling thread, if it has one.
    pub fn round(&mut self, mm: &'static Mm, own: Option<NonNull<Heap>>) -> Next {
        let now = mm.machine().now_ns();
        if mm.doorbell().answer() {
            self.quiet_since = now;
        }
        mm.pages().set_generation(generation(now));
        let earned = now.saturating_sub(self.last_ns) / COST_SHARE;
        self.credit_ns = (self.credit_ns + earned).min(BURST_NS);
        self.last_ns = now;

        let is_urgent = self.balance(mm, own);
        let purged = if self.credit_ns > 0 { self.purge_cold(mm, own, now) } else { 0 };
        let faults = faults(mm);
        let refaults = self.ageing.observe(purged as u64, faults - self.faults_seen, now);
        mm.vmstat().note_refaults(refaults);
        self.faults_seen = faults;

        let spent = mm.machine().now_ns().saturating_sub(now);
        if !is_urgent {
            self.credit_ns = self.credit_ns.saturating_sub(spent);
        }
        let idle = now.saturating_sub(self.quiet_since);
        if purged > 0 || idle < self.ageing.age_ns() + 2 * TICK_NS {
            Next::Sleep(TICK_NS.max(self.ageing.age_ns() / 8).min(SLOW_TICK_NS))
        } else if idle < LINGER_NS || mm.pages().nr_free_resident() > 0 {
            Next::Sleep(SLOW_TICK_NS)
        } else {
            Next::Retire
        }
    }

    /// Below the low watermark: reclaims up to the high one, cold or not. Whether it had to.
    fn balance(&self, mm: &'static Mm, own: Option<NonNull<Heap>>) -> bool {
        let pages = mm.pages();
        let marks = pages.watermarks();
        let headroom = pages.limit().saturating_sub(pages.charged());
        if headroom >= marks.low {
            return false;
        }
        let mut goal = marks.high - headroom;
        let how = PurgeHow { by: Reclaimer::Kswapd, ..PurgeHow::ALL };
        mm.drain_all(own);
        for node in nodes(mm) {
            goal = goal.saturating_sub(pages.purge(node, goal, how));
        }
        if goal > 0 {
            mm.purge_holes(own, how, goal);
        }
        true
    }

    /// Purges what nobody touched for the age, a step at a time while the credit lasts. Returns
    /// the pages.
    fn purge_cold(&self, mm: &'static Mm, own: Option<NonNull<Heap>>, now: u64) -> usize {
        let age = (self.ageing.age_ns() >> GENERATION_SHIFT) as u32;
        let Some(up_to) = generation(now).checked_sub(age.max(1)) else { return 0 };
        let out_of_credit = |mm: &Mm| mm.machine().now_ns().saturating_sub(now) >= self.credit_ns;
        let mut purged = 0;
        // Caches of idle threads first: their pages reach the zones and age there.
        let how = PurgeHow { up_to, by: Reclaimer::Kswapd, ..PurgeHow::ALL };
        purged += mm.sweep(own, Sweep { how, max_pages: STEP_PAGES });
        for node in nodes(mm) {
            loop {
                let step = mm.pages().purge(node, STEP_PAGES, how);
                purged += step;
                if step < STEP_PAGES || out_of_credit(mm) {
                    break;
                }
            }
        }
        purged + mm.age_huge(self.ageing.age_ns()) / PAGE_SIZE
    }
}

fn nodes(mm: &Mm) -> impl Iterator<Item = NodeId> {
    mm.pages().online().iter()
}

fn faults(mm: &Mm) -> u64 {
    nodes(mm).filter_map(|node| mm.pages().zone_stats(node)).map(|zone| zone.events.pgfault).sum()
}
