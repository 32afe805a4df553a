//! The one door to atomics: real ones in a build, loom's in a model; and seeded faults, as in the
//! allocator: a model counts only when it fails once its protocol is broken.

#[cfg(not(zonal_loom))]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(zonal_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Whether the named fault is seeded.
#[cfg(not(zonal_loom))]
#[inline(always)]
pub(crate) const fn fault(_name: &str) -> bool {
    false
}

/// Whether the named fault is seeded.
#[cfg(zonal_loom)]
pub(crate) fn fault(name: &str) -> bool {
    std::env::var("ZONAL_FAULT").is_ok_and(|seeded| seeded == name)
}
