//! The clock of ages: time as it passes for memory, which does not age while the process sleeps or is
//! stopped. It would go back at the very moment when the program comes for it.
//!
//! Chunks and slabs are stamped with generations of it; what is learnt about ages is dated by it to the
//! nanosecond.

use zonal_allocator::Mm;

use crate::ageing::MAX_AGE_NS;

/// A wait that lasts so much longer than it was to: the whole process was kept from going on by a signal
/// that stopped it, or a debugger.
const STOPPED_NS: u64 = 1_000_000_000;
/// A generation is a time stamp in units of about 17 ms.
const GENERATION_SHIFT: u32 = 24;
pub(crate) const GENERATION_NS: u64 = 1 << GENERATION_SHIFT;

/// So much time in generations, whose clock wraps after two years.
pub(crate) fn generations(ns: u64) -> u32 {
    (ns >> GENERATION_SHIFT) as u32
}

/// The clock of ages.
#[derive(Debug)]
pub(crate) struct Clock {
    /// When the last round began.
    last_ns: u64,
    /// The time that it shows.
    awake_ns: u64,
    /// Time since the present generation began.
    passed_ns: u64,
    /// Time that counts for nobody's age, in all and since the last round.
    asleep_ns: u64,
    slept_ns: u64,
    /// When kswapd began to wait for its next round,
    waits_since: u64,
    /// and for how long it asked.
    asked_ns: u64,
}

impl Clock {
    /// The process was asleep for `asleep_ns` so far.
    pub(crate) fn new(now: u64, asleep_ns: u64) -> Clock {
        Clock {
            last_ns: now,
            awake_ns: now,
            passed_ns: 0,
            asleep_ns,
            slept_ns: 0,
            waits_since: now,
            asked_ns: 0,
        }
    }

    /// Goes on after a time for which nobody looked, which is returned. Who comes back for what was purged
    /// before would have needed an age beyond that time, so it counts, but for no more than an age can be:
    /// else what was learnt would be forgotten. Chunks and slabs do not age by it: they may have been used just now.
    pub(crate) fn resume(&mut self, now: u64, asleep_ns: u64) -> u64 {
        let off_duty = now.saturating_sub(self.last_ns);
        let awake_ns = self.awake_ns + off_duty.min(MAX_AGE_NS);
        *self = Clock { awake_ns, ..Clock::new(now, asleep_ns) };
        off_duty
    }

    pub(crate) fn note_sleep(&mut self, asleep_ns: u64) {
        self.slept_ns += asleep_ns.saturating_sub(self.asleep_ns);
        self.asleep_ns = asleep_ns;
    }

    /// The next round is to come after a wait for `ns`.
    pub(crate) fn ask(&mut self, ns: u64) {
        self.asked_ns = ns;
    }

    /// The wait begins: what the round took until here is no part of it.
    pub(crate) fn begin_wait(&mut self, now: u64) {
        self.waits_since = now;
    }

    /// A round begins. The time since the last one; `waits` where a thread does nothing else.
    pub(crate) fn advance(&mut self, mm: &Mm, now: u64, waits: bool) -> u64 {
        let passed = now.saturating_sub(self.last_ns);
        // There nobody tells of pauses; but so late is only who was stopped.
        let late = now.saturating_sub(self.waits_since).saturating_sub(self.asked_ns);
        (self.last_ns, self.waits_since) = (now, now);
        if waits && late >= STOPPED_NS {
            self.slept_ns += late;
        }
        self.awake_ns += passed.saturating_sub(self.slept_ns);
        mm.pages().note_asleep(self.slept_ns);
        passed
    }

    /// Lets chunks and slabs age by `ns`, without what of it counts for nobody's age.
    pub(crate) fn tick(&mut self, mm: &Mm, ns: u64) {
        let passed = self.passed_ns + ns.saturating_sub(self.slept_ns);
        self.slept_ns = 0;
        self.passed_ns = passed & ((1 << GENERATION_SHIFT) - 1);
        let pages = mm.pages();
        pages.set_generation(pages.generation().wrapping_add(generations(passed)));
    }

    pub(crate) fn awake_ns(&self) -> u64 {
        self.awake_ns
    }

    /// How long the last wait was to last.
    pub(crate) fn asked_ns(&self) -> u64 {
        self.asked_ns
    }
}
