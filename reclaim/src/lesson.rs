//! What was learnt about one state of the program: at which age its free memory is cold there, and what it is to
//! keep in spite of that.
//!
//! There are two. Where threads end, their work most likely does, too: what it taught says nothing about who is
//! left. So at rest after that ([`crate::crew`]) another lesson counts, which has learnt only from what went in
//! such a rest. A program that starts its threads anew for each of its cycles so pays twice.

use crate::ageing::{Ageing, Judgement};
use crate::thrash::Thrashing;

/// The pages that a round purged.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Purged {
    /// Because they were cold.
    pub(crate) cold: usize,
    /// Whatever their age.
    pub(crate) in_any_case: usize,
}

impl Purged {
    /// All of them.
    pub(crate) fn nr_pages(self) -> usize {
        self.cold + self.in_any_case
    }
}

/// What was learnt.
#[derive(Clone, Debug)]
pub(crate) struct Lesson {
    ageing: Ageing,
    thrashing: Thrashing,
}

impl Lesson {
    /// Nothing.
    pub(crate) fn new(now: u64) -> Lesson {
        Lesson { ageing: Ageing::new(now), thrashing: Thrashing::default() }
    }

    /// At which age free memory goes now, so many pages being in use or free and resident.
    pub(crate) fn age_ns(&self, charged: usize) -> u64 {
        if self.excess(charged) == 0 { self.kept_age_ns() } else { self.ageing.age_ns() }
    }

    /// The same for what is kept because it was wanted again,
    pub(crate) fn kept_age_ns(&self) -> u64 {
        self.thrashing.kept_age_ns(self.ageing.age_ns())
    }

    /// and for what is not.
    pub(crate) fn usual_age_ns(&self) -> u64 {
        self.ageing.age_ns()
    }

    /// The pages that nobody keeps.
    pub(crate) fn excess(&self, charged: usize) -> usize {
        self.thrashing.excess(charged)
    }

    /// Whether something was wanted again and is not paid for.
    pub(crate) fn is_owing(&self) -> bool {
        self.thrashing.is_on()
    }

    /// The program worked for so long; whether it has paid by that.
    pub(crate) fn pay(&mut self, worked_ns: u64, now: u64) -> bool {
        let was_owing = self.is_owing();
        self.thrashing.note_work(worked_ns, now);
        was_owing && !self.is_owing()
    }

    /// So many pages without memory were wanted.
    pub(crate) fn judge(&mut self, faults: u64, charged: usize, now: u64) -> Judgement {
        let judged = self.ageing.note_faults(faults, now);
        self.thrashing.note_refaults(judged.dear, now);
        self.thrashing.note_pages(charged, now);
        judged
    }

    /// For how long what goes now that all is paid was kept, others being as old as `age_ns`.
    pub(crate) fn kept_ns(&self, age_ns: u64, now: u64) -> u64 {
        self.thrashing.kept_ns(age_ns, now)
    }

    /// These went, of which nobody had used the cold ones since `used_at`.
    pub(crate) fn note_purged(&mut self, purged: Purged, used_at: u64, now: u64) {
        self.ageing.note_purged(purged.cold as u64, used_at);
        self.ageing.note_purged_in_any_case(purged.in_any_case as u64, now);
    }
}
