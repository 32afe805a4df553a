//! Charging: what zonal holds resident, against what the user allows.
//!
//! Charged = pages handed out + free pages that are still resident, which is the number of
//! resident bits set. So handing out a warm block charges nothing, and the counters move only when
//! memory is touched for the first time or given back: they need no batching of their own.
//!
//! Two kinds of bounds: the **limit** is the user's and final. The **cap** follows what the control
//! group or the node has left, and the soft limit: a request that cannot keep its headroom fails
//! like any other and is tried again after reclaim, but its last try passes.
//!
//! A request that breaks a pageblock of another migratetype **boosts** the marks of its node and of the
//! process by a pageblock, up to a part of the high one: kswapd makes room, so that
//! the next such request finds some to grow into, and takes the boost off again.
//!
//! # Synchronisation
//!
//! `charged` is changed by compare-exchange and by subtraction, Relaxed: it bounds a sum and
//! carries no data. The two levels (node, process) are charged one after the other and rolled back
//! when the second refuses; a concurrent request may see the first for a moment and is then
//! refused too, as if it had come later. The boost is a wish, Relaxed too.

mod cap;
mod levels;
#[cfg(test)]
mod tests;

pub use cap::{Cap, Edge, UNLIMITED};
pub(crate) use levels::Levels;

use cap::{CapCell, marks_of};

use crate::fault::fault;
use crate::order::PAGEBLOCK_PAGES;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use crate::watermark::{WatermarkFactors, WatermarkLevel, Watermarks};

/// One level of charging: the process or a node.
#[derive(Debug)]
pub(crate) struct Budget {
    charged: AtomicUsize,
    limit: usize,
    marks: Watermarks,
    /// The most that these may be raised by.
    max_boost: usize,
    factors: WatermarkFactors,
    cap: CapCell,
    /// Up to so many charged pages the cap does not count: it gave way.
    grace: AtomicUsize,
    /// Pages that were charged last.
    newest: AtomicUsize,
    /// Pages taken off so far, modulo the word.
    gone: AtomicUsize,
    /// By so many pages fragmentation raised the marks, as far as each bound allows.
    boost: AtomicUsize,
    /// Of the process: kswapd is to be woken for a boost, of whatever marks.
    wakes: AtomicBool,
}

impl Budget {
    /// An empty budget of `limit` pages ([`UNLIMITED`] for none).
    pub(crate) fn new(limit: usize, factors: WatermarkFactors) -> Budget {
        let marks = marks_of(limit, factors.scale);
        Budget {
            charged: AtomicUsize::new(0),
            limit,
            marks,
            max_boost: marks.max_boost(factors.boost),
            factors,
            cap: CapCell::new(),
            grace: AtomicUsize::new(0),
            newest: AtomicUsize::new(0),
            gone: AtomicUsize::new(0),
            boost: AtomicUsize::new(0),
            wakes: AtomicBool::new(false),
        }
    }

    /// The pages that were charged last: their owner may not have touched them yet.
    pub(crate) fn newest(&self) -> usize {
        self.newest.load(Relaxed)
    }

    /// So many of them are still waited for.
    pub(crate) fn age_newest(&self, newest: usize, left: usize) {
        let _ = self.newest.compare_exchange(newest, left, Relaxed, Relaxed);
    }

    pub(crate) fn set_cap(&self, cap: Cap) {
        self.cap.set(cap, self.factors);
        self.end_grace();
    }

    /// The cap counts again where it gave way.
    pub(crate) fn end_grace(&self) {
        self.grace.store(0, Relaxed);
    }

    pub(crate) fn cap(&self) -> Cap {
        self.cap.get()
    }

    /// Lets `nr_pages` and up to `grace_pages` after them pass the marks of the cap, and with `beyond` the
    /// cap itself.
    pub(crate) fn yield_cap(&self, nr_pages: usize, grace_pages: usize, beyond: bool) {
        let cap = self.cap();
        if cap.pages != UNLIMITED {
            let charged = self.charged() + nr_pages;
            let grace = charged + cap.edge.grace(charged, grace_pages);
            // Relaxed, and no exchange: of two at a time one may be lost, and is asked for again.
            self.grace.store(if beyond { grace } else { grace.min(cap.pages) }, Relaxed);
        }
    }

    /// Fragmentation: raises the marks by a pageblock; whether they are not met.
    fn raise(&self) -> bool {
        let most = self.max_boost.max(self.cap.max_boost());
        // Relaxed, and no exchange: of two at a time one may be lost.
        let boost = (self.boost() + PAGEBLOCK_PAGES).min(most);
        self.boost.store(boost, Relaxed);
        boost > 0 && self.boosted_shortfall() > 0
    }

    /// By so many pages the marks are raised, those of a bound by what it allows of them.
    pub(crate) fn boost(&self) -> usize {
        self.boost.load(Relaxed)
    }

    /// Takes so much of the boost off: it had its turn.
    pub(crate) fn unboost(&self, nr_pages: usize) {
        self.boost.store(self.boost().saturating_sub(nr_pages), Relaxed);
    }

    /// Whether kswapd is to be woken for a boost; told once.
    pub(crate) fn take_wake(&self) -> bool {
        self.wakes.load(Relaxed) && self.wakes.swap(false, Relaxed)
    }

    /// Pages to reclaim for the headroom to be what the high marks ask, if it is below a low one.
    pub(crate) fn shortfall(&self) -> usize {
        self.shortfall_with(0)
    }

    /// The same for the boosted marks.
    pub(crate) fn boosted_shortfall(&self) -> usize {
        self.shortfall_with(self.boost())
    }

    fn shortfall_with(&self, boost: usize) -> usize {
        let charged = self.charged();
        let short = |limit: usize, marks: Watermarks| {
            let headroom = limit.saturating_sub(charged);
            // What is over the limit counts, too.
            let over = charged.saturating_sub(limit);
            if headroom < marks.low { marks.high - headroom + over } else { 0 }
        };
        let cap = self.raised_cap(boost);
        short(self.limit, self.raised_marks(boost)).max(short(cap.pages, cap.marks))
    }

    /// Whether `nr_pages` more fail only because of the cap.
    pub(crate) fn is_capped(&self, nr_pages: usize) -> bool {
        let charged = self.charged();
        !self.cap_admits(charged, nr_pages, WatermarkLevel::Min)
            && leaves(self.limit, charged, nr_pages, self.marks.min)
    }

    /// Whether they fail so where the kernel's killer is next.
    pub(crate) fn is_at_edge(&self, nr_pages: usize) -> bool {
        self.charged().saturating_add(nr_pages) > self.cap.edge() && self.is_capped(nr_pages)
    }

    /// Pages charged now.
    pub(crate) fn charged(&self) -> usize {
        self.charged.load(Relaxed)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn marks(&self) -> Watermarks {
        self.marks
    }

    /// The marks of the limit, raised by `boost` as far as they may be.
    fn raised_marks(&self, boost: usize) -> Watermarks {
        self.marks.boosted(boost.min(self.max_boost))
    }

    /// The same for the cap.
    fn raised_cap(&self, boost: usize) -> Cap {
        let cap = self.cap();
        let boost = boost.min(self.cap.max_boost());
        Cap { marks: cap.marks.boosted(boost), ..cap }
    }

    /// Whether `nr_pages` more would leave the headroom that `level` asks for.
    pub(crate) fn has_room(&self, nr_pages: usize, level: WatermarkLevel) -> bool {
        self.admits(self.charged(), nr_pages, level)
    }

    /// Charges `nr_pages` if that leaves the headroom that `level` asks for. Nothing to charge
    /// always passes.
    pub(crate) fn try_charge(&self, nr_pages: usize, level: WatermarkLevel) -> bool {
        if nr_pages == 0 {
            return true;
        }
        let passed = if self.limit == UNLIMITED && self.cap.is_none() {
            self.charged.fetch_add(nr_pages, Relaxed);
            true
        } else if fault("charge_in_two_steps") {
            let charged = self.charged();
            let admits = self.admits(charged, nr_pages, level);
            self.charge(if admits { nr_pages } else { 0 });
            admits
        } else {
            let more =
                |charged| self.admits(charged, nr_pages, level).then_some(charged + nr_pages);
            self.charged.fetch_update(Relaxed, Relaxed, more).is_ok()
        };
        if passed {
            self.newest.store(nr_pages, Relaxed);
        }
        passed
    }

    /// Charges `nr_pages` whatever the limit says.
    pub(crate) fn charge(&self, nr_pages: usize) {
        self.charged.fetch_add(nr_pages, Relaxed);
    }

    /// Pages that were taken off so far, modulo the word.
    pub(crate) fn gone(&self) -> usize {
        self.gone.load(Relaxed)
    }

    /// Takes `nr_pages` off.
    pub(crate) fn uncharge(&self, nr_pages: usize) {
        self.gone.fetch_add(nr_pages, Relaxed);
        let old = self.charged.fetch_sub(nr_pages, Relaxed);
        debug_assert!(old >= nr_pages);
    }

    fn admits(&self, charged: usize, nr_pages: usize, level: WatermarkLevel) -> bool {
        let is_last = level == WatermarkLevel::Reserve;
        leaves(self.limit, charged, nr_pages, self.raised_marks(self.boost()).mark(level))
            && (is_last || self.cap_admits(charged, nr_pages, level))
    }

    fn cap_admits(&self, charged: usize, nr_pages: usize, level: WatermarkLevel) -> bool {
        let cap = self.raised_cap(self.boost());
        leaves(cap.pages, charged, nr_pages, cap.marks.mark(level))
            || charged.saturating_add(nr_pages) <= self.grace.load(Relaxed)
    }
}

fn leaves(limit: usize, charged: usize, nr_pages: usize, mark: usize) -> bool {
    limit.saturating_sub(charged).checked_sub(nr_pages).is_some_and(|left| left >= mark)
}
