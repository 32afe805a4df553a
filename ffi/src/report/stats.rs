//! A snapshot in a mapping of its own: too large for the stack of any thread.

use core::fmt;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use zonal_allocator::{Mm, OwnHeap, PAGE_SIZE, Patience};
use zonal_numa::Span;
use zonal_stats::Snapshot;

/// The user wants no call of the system that is not needed.
static MINIMAL: AtomicBool = AtomicBool::new(false);

/// Whether reports may ask the kernel what is in memory.
pub(super) fn prepare(minimal_syscalls: bool) {
    MINIMAL.store(minimal_syscalls, Relaxed);
}

/// The figures of one moment, as plain structs.
pub struct Stats {
    span: Span,
    snapshot: NonNull<Snapshot>,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for Stats {}
// SAFETY: shared references only read.
unsafe impl Sync for Stats {}

impl Stats {
    /// The figures of this moment; none before the first allocation, or without memory for them.
    pub(crate) fn take() -> Option<Stats> {
        Stats::taken_by(|mm, own, snapshot| fill(mm, own, Patience::Wait, snapshot, true))
    }

    /// Only what costs no walk over all pages: sums by node of what is used where stay zero.
    pub(crate) fn take_quick() -> Option<Stats> {
        Stats::taken_by(|mm, own, snapshot| mm.snapshot(own, Patience::Wait, snapshot))
    }

    fn taken_by(work: fn(&Mm, Option<OwnHeap>, &mut Snapshot)) -> Option<Stats> {
        crate::slow::inspect(|mm, own| {
            let mut stats = Stats::map(mm)?;
            // SAFETY: a mapping of this size that nobody else knows; zeros are a snapshot.
            work(mm, own, unsafe { stats.snapshot.as_mut() });
            Some(stats)
        })?
    }

    fn map(mm: &Mm) -> Option<Stats> {
        let span = mm.machine().map(size_of::<Snapshot>(), PAGE_SIZE).ok()?;
        let snapshot = NonNull::new(ptr::with_exposed_provenance_mut(span.addr()))?;
        Some(Stats { span, snapshot })
    }
}

/// Writes all figures of this moment into `snapshot`. The kernel is asked what is in memory, and which
/// nodes may be used, if it may be.
pub(crate) fn fill(
    mm: &Mm,
    own: Option<OwnHeap>,
    patience: Patience,
    snapshot: &mut Snapshot,
    may_ask_kernel: bool,
) {
    let asks_kernel = may_ask_kernel && !MINIMAL.load(Relaxed);
    if asks_kernel {
        // Cpusets change, and memory goes offline.
        mm.pages().refresh_allowed();
    }
    mm.snapshot(own, patience, snapshot);
    mm.survey(snapshot, asks_kernel);
    let version = crate::VERSION.as_bytes();
    let nr = version.len().min(snapshot.version.len());
    snapshot.version[..nr].copy_from_slice(&version[..nr]);
    // SAFETY: getpid only asks.
    snapshot.pid = u64::from(unsafe { libc::getpid() }.cast_unsigned());
}

impl Deref for Stats {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        // SAFETY: the mapping lives as long as `self`, and nobody writes to it any more.
        unsafe { self.snapshot.as_ref() }
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        if let Some(mm) = crate::init::mm() {
            // What cannot be unmapped is lost address space, nothing more.
            let _ = mm.machine().unmap(self.span);
        }
    }
}
