//! Watermarks: how much headroom a request must leave.
//!
//! The kernel's formula (`__setup_per_zone_wmarks`), with the budget that the user set in the
//! place of the zone's pages. Without a limit there is nothing to run out of: all marks are zero.
//!
//! Fragmentation raises them for a while (`boost_watermark`): see `charge/`.

use crate::order::PAGEBLOCK_PAGES;

/// How far a request may eat into the headroom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatermarkLevel {
    /// Down to `high`: where background reclaim stops.
    High,
    /// Down to `low`: the ordinary first try; below it background reclaim wakes.
    Low,
    /// Down to `min`: after the first try failed.
    Min,
    /// Down to half of `min`: requests that cannot wait.
    Harder,
    /// To the last page: reclaim itself, and the very last try.
    Reserve,
}

/// The marks, in pages of headroom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Ordinary requests reclaim for themselves below this.
    pub min: usize,
    /// Background reclaim starts below this.
    pub low: usize,
    /// Background reclaim rests above this.
    pub high: usize,
}

/// What the marks are computed with: the kernel's settings of these names, in ten-thousandths.
#[derive(Clone, Copy, Debug)]
pub struct WatermarkFactors {
    /// The distance of the marks, of the budget (`watermark_scale_factor`).
    pub scale: u32,
    /// How far fragmentation raises them, of the high one (`watermark_boost_factor`).
    pub boost: u32,
}

impl WatermarkFactors {
    /// The kernel's defaults.
    pub const DEFAULT: WatermarkFactors = WatermarkFactors { scale: 10, boost: 15_000 };
}

/// The kernel's bounds of `min_free_kbytes`, in pages.
const MIN_FREE: core::ops::RangeInclusive<usize> = 128 / 4..=262_144 / 4;

impl Watermarks {
    /// The marks for a budget of `budget_pages`; `scale` is `watermark_scale_factor`, in units of
    /// a ten-thousandth of the budget.
    pub fn for_budget(budget_pages: usize, scale: u32) -> Watermarks {
        let kib = budget_pages.saturating_mul(4);
        let min_free_kib = kib.saturating_mul(16).isqrt();
        // A tiny budget must not be all reserve.
        let min =
            (min_free_kib / 4).clamp(*MIN_FREE.start(), *MIN_FREE.end()).min(budget_pages / 8);
        let by_scale = budget_pages / 10_000 * scale as usize;
        let step = (min / 4).max(by_scale.min(budget_pages / 8));
        Watermarks { min, low: min + step, high: min + 2 * step }
    }

    /// How far fragmentation may raise these marks, in pages: `factor` ten-thousandths of the high one
    /// and a pageblock at least; nothing where there are none.
    pub fn max_boost(&self, factor: u32) -> usize {
        match self.high.saturating_mul(factor as usize) / 10_000 {
            0 => 0,
            part => part.max(PAGEBLOCK_PAGES),
        }
    }

    /// The marks raised by so many pages: for kswapd. No request reclaims for itself
    /// because of that, so `min` stays, as in the kernel for requests that must not wait.
    #[must_use]
    pub fn boosted(self, nr_pages: usize) -> Watermarks {
        Watermarks { low: self.low + nr_pages, high: self.high + nr_pages, ..self }
    }

    /// The headroom in pages that a request of that level must leave.
    pub fn mark(&self, level: WatermarkLevel) -> usize {
        match level {
            WatermarkLevel::High => self.high,
            WatermarkLevel::Low => self.low,
            WatermarkLevel::Min => self.min,
            WatermarkLevel::Harder => self.min / 2,
            WatermarkLevel::Reserve => 0,
        }
    }
}
