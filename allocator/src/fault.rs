//! Seeded faults: a model counts only when it fails once its protocol is broken.
//!
//! Each place that a model guards asks here whether it shall be wrong. In models the answer comes
//! from the environment variable `ZONAL_FAULT`, so that one build runs them all; everywhere else it
//! is the constant "no" and leaves no trace.

use crate::sync::atomic::Ordering;

/// Whether the named fault is seeded.
#[cfg(not(zonal_loom))]
#[inline(always)]
pub(crate) const fn fault(_name: &str) -> bool {
    false
}

/// Whether the named fault is seeded.
#[cfg(zonal_loom)]
pub(crate) fn fault(name: &str) -> bool {
    static SEEDED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    SEEDED.get_or_init(|| std::env::var("ZONAL_FAULT").ok()).as_deref() == Some(name)
}

/// `order`, or `Relaxed` where the named fault is seeded.
#[inline(always)]
pub(crate) fn weakened_by(name: &str, order: Ordering) -> Ordering {
    if fault(name) { Ordering::Relaxed } else { order }
}
