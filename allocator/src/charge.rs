//! Charging: what zonal holds resident, against what the user allows.
//!
//! Charged = pages handed out + free pages that are still resident, which is the number of
//! resident bits set. So handing out a warm block charges nothing, and the counters move only when
//! memory is touched for the first time or given back: they need no batching of their own.
//!
//! # Synchronisation
//!
//! `charged` is changed by compare-exchange and by subtraction, Relaxed: it bounds a sum and
//! carries no data. The two levels (process, node) are charged one after the other and rolled back
//! when the second refuses; a concurrent request may see the first for a moment and is then
//! refused too, as if it had come later.

use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::{WatermarkLevel, Watermarks};

/// No limit.
pub const UNLIMITED: usize = usize::MAX;

/// One level of charging: the process or a node.
#[derive(Debug)]
pub(crate) struct Budget {
    charged: AtomicUsize,
    limit: usize,
    marks: Watermarks,
}

impl Budget {
    /// An empty budget of `limit` pages ([`UNLIMITED`] for none).
    pub(crate) fn new(limit: usize, scale: u32) -> Budget {
        let marks = if limit == UNLIMITED {
            Watermarks::default()
        } else {
            Watermarks::for_budget(limit, scale)
        };
        Budget { charged: AtomicUsize::new(0), limit, marks }
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
        if self.limit == UNLIMITED {
            self.charged.fetch_add(nr_pages, Relaxed);
            return true;
        }
        self.charged
            .fetch_update(Relaxed, Relaxed, |charged| {
                self.admits(charged, nr_pages, level).then_some(charged + nr_pages)
            })
            .is_ok()
    }

    /// Charges `nr_pages` whatever the limit says.
    pub(crate) fn charge(&self, nr_pages: usize) {
        self.charged.fetch_add(nr_pages, Relaxed);
    }

    /// Takes `nr_pages` off.
    pub(crate) fn uncharge(&self, nr_pages: usize) {
        let old = self.charged.fetch_sub(nr_pages, Relaxed);
        debug_assert!(old >= nr_pages);
    }

    fn admits(&self, charged: usize, nr_pages: usize, level: WatermarkLevel) -> bool {
        let headroom = self.limit.saturating_sub(charged);
        headroom.checked_sub(nr_pages).is_some_and(|left| left >= self.marks.mark(level))
    }
}
