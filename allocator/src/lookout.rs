//! Who looks at what the control group and the nodes have left, and when somebody last did.
//!
//! # Synchronisation
//!
//! All words are Relaxed and carry no data: the exchange only keeps several threads from the same
//! look, and what is on its way out is an estimate. Model: `loom/lookout.rs`.

use crate::fault::fault;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// When callers look.
#[derive(Debug)]
pub struct Lookout {
    callers_from: AtomicUsize,
    at_ns: AtomicU64,
    leaving: AtomicUsize,
    tight: AtomicBool,
    /// The pages charged last, as an earlier look saw them, and when that was.
    newest: AtomicUsize,
    newest_at: AtomicU64,
    /// All pages charged until then.
    seen: AtomicUsize,
}

/// Pages that were charged are touched soon, or not at all: half as many are waited for after this
/// time without another charge.
const HALF_LIFE_NS: u64 = 100_000_000;

impl Lookout {
    /// For [`Lookout::open_from`]: callers never look.
    pub const NEVER: usize = usize::MAX;

    pub(crate) fn new() -> Lookout {
        Lookout {
            callers_from: AtomicUsize::new(Lookout::NEVER),
            at_ns: AtomicU64::new(0),
            leaving: AtomicUsize::new(0),
            tight: AtomicBool::new(false),
            newest: AtomicUsize::new(0),
            newest_at: AtomicU64::new(0),
            seen: AtomicUsize::new(0),
        }
    }

    /// Lets callers look once so many pages are charged.
    pub fn open_from(&self, nr_pages: usize) {
        self.callers_from.store(nr_pages, Relaxed);
    }

    /// From how many charged pages on callers look.
    pub fn callers_from(&self) -> usize {
        self.callers_from.load(Relaxed)
    }

    /// Notes that somebody looks now.
    pub fn note(&self, now: u64) {
        self.at_ns.store(now, Relaxed);
    }

    /// Whether a caller shall look, because the last look is so old; it has to be told once.
    pub fn is_due(&self, now: u64, age_ns: u64) -> bool {
        let at = self.at_ns.load(Relaxed);
        if now.saturating_sub(at) < age_ns {
            return false;
        }
        if fault("lookout_due_blind") {
            self.note(now);
            return true;
        }
        self.at_ns.compare_exchange(at, now, Relaxed, Relaxed).is_ok()
    }

    /// What is left is little: what is given back has to be back at once.
    pub fn set_tight(&self, tight: bool) {
        self.tight.store(tight, Relaxed);
    }

    pub(crate) fn is_tight(&self) -> bool {
        self.tight.load(Relaxed)
    }

    /// How many of the pages charged last are waited for after a look at that time; `total` were charged
    /// so far, modulo the word.
    pub(crate) fn age(&self, newest: usize, total: usize, now: u64) -> usize {
        // Of two charges in a row the second may be as large as the first.
        let is_same = total == self.seen.swap(total, Relaxed);
        let is_known = is_same && newest == self.newest.load(Relaxed);
        let is_old = now.saturating_sub(self.newest_at.load(Relaxed)) >= HALF_LIFE_NS;
        if is_known && !is_old {
            return newest;
        }
        let left = if is_known { newest / 2 } else { newest };
        self.newest.store(left, Relaxed);
        self.newest_at.store(now, Relaxed);
        left
    }

    /// So many pages are about to be unmapped, and charged until that is over.
    pub(crate) fn begin_leaving(&self, nr_pages: usize) {
        self.leaving.fetch_add(nr_pages, Relaxed);
    }

    pub(crate) fn end_leaving(&self, nr_pages: usize) {
        self.leaving.fetch_sub(nr_pages, Relaxed);
    }

    /// Pages that are charged and may have no memory any more.
    pub(crate) fn leaving(&self) -> usize {
        self.leaving.load(Relaxed)
    }

    /// In a forked child: the threads that were at it stayed in the parent.
    pub(crate) fn after_fork(&self) {
        self.leaving.store(0, Relaxed);
    }
}
