//! `stats:live`: the figures in a page of shared memory that `zonal stats PID` and its like read
//! without stopping the process.
//!
//! The page ([`zonal_stats::live`]) is made with the first allocation, before the program can
//! install a filter of its own; no descriptor stays open. From then on publishing asks the kernel
//! nothing, which may kill whoever asks by a seccomp filter that came after the start: figures are
//! zonal's own accounts, and the reader, who may look at the process's page tables, asks what of it
//! is in memory. So it goes on when the program has changed its root, its user or its rights, and
//! what is in memory is of the moment at which somebody reads, also of a program that sleeps. A
//! forked child gets no page under such a filter, and the file is left to the next reader.
//!
//! Who publishes: a slow path that passes, and kswapd. When: a reader asked
//! ([`LivePage::ask`]), at most every 100 ms. A program that falls asleep, or lives on what its
//! threads keep, publishes nothing more, so it leaves its figures behind beforehand: at the first
//! slow paths (the 16th, the 32nd, ...), whenever zonal holds a sixteenth more or less than they say,
//! else each fifth of a second, and when kswapd goes home. It takes at most one
//! fiftieth of the time, and one five hundredth where nobody asks and little changes. Readers show
//! how old a page is.
//!
//! A forked child gets a page of its own in the fork handler. A child that no handler knows of
//! (`_Fork`, `vfork`) has none: the page names its process, and nobody else writes to it.

mod file;

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

use zonal_allocator::{Mm, OwnHeap, PAGE_SIZE, Patience};
use zonal_stats::{LivePage, Snapshot};

use crate::errno::SavedErrno;
use crate::{init, report};

/// The page of this process; null while there is none.
static PAGE: AtomicPtr<LivePage> = AtomicPtr::new(ptr::null_mut());
/// Where a snapshot is made before it is copied to the page, for the holder of `BUSY`.
static SCRATCH: AtomicPtr<Snapshot> = AtomicPtr::new(ptr::null_mut());
static BUSY: AtomicBool = AtomicBool::new(false);
/// Slow paths so far; a lost count does not matter.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// Slow paths between two looks at the clock, and before the first publication.
const CALLS_PER_LOOK: u32 = 256;
const FIRST_CALLS: u32 = 16;
/// Where much has changed and it was not time to say so, so many pass before the next look. The
/// count up to which they do:
const CALLS_PER_REFUSAL: u32 = 16;
static REFUSED_UNTIL: AtomicU32 = AtomicU32::new(0);
/// When the last publication was, what it cost, and how many pages were charged then.
static LAST_NS: AtomicU64 = AtomicU64::new(0);
static COST_NS: AtomicU64 = AtomicU64::new(0);
static LAST_CHARGED: AtomicUsize = AtomicUsize::new(0);
/// A difference of so many pages and this share is worth a publication.
const CHANGED_PAGES: usize = 256;
const CHANGED_SHARE: usize = 16;

/// Time that publications may take: a fiftieth of the time that passes is saved for bursts, up to a
/// bound. What was saved at the last one:
static CREDIT_NS: AtomicU64 = AtomicU64::new(MOST_CREDIT_NS);
const MOST_CREDIT_NS: u64 = 20_000_000;
const COST_SHARE: u64 = 50;
/// No publication counts for more than twice the last one and this: the clock goes on while another
/// process has the processor, and to ask for the thread's own time is a call of the kernel.
const STEP_NS: u64 = 100_000;
/// Publications are so far apart, for a reader and without one, unless much has changed.
const ASKED_NS: u64 = 100_000_000;
const UNASKED_NS: u64 = 200_000_000;
/// And without one cost at most this share of the time.
const UNASKED_SHARE: u64 = 500;

/// What is saved after a time without publications.
fn credit(elapsed: u64) -> u64 {
    CREDIT_NS.load(Relaxed).saturating_add(elapsed / COST_SHARE).min(MOST_CREDIT_NS)
}

/// Why to publish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A slow path or a round passes.
    Passing,
    /// Nothing will happen for a while.
    Parting,
}

/// Before the first operation: makes the page if there shall be one.
pub(crate) fn prepare(wanted: bool) {
    if wanted && let Some(page) = file::make() {
        // ORDERING: Release, pairs with Acquire in `page`: its head stands.
        PAGE.store(page.as_ptr(), Release);
    }
}

/// Arranges for the file to go when the process exits.
pub(crate) fn register() {
    if is_on() {
        // SAFETY: a function of this library, which stays loaded. If it cannot be registered the
        // file stays, and the next reader removes it.
        unsafe { libc::atexit(at_exit) };
    }
}

extern "C" fn at_exit() {
    if let Some(page) = page().filter(|page| is_own(page) && !is_confined()) {
        let _errno = SavedErrno::save();
        file::remove(page);
    }
}

/// Whether there is a page.
#[inline]
pub(crate) fn is_on() -> bool {
    !PAGE.load(Relaxed).is_null()
}

fn page() -> Option<&'static LivePage> {
    // ORDERING: Acquire, pairs with Release in `prepare` and `after_fork`.
    // SAFETY: null, or a mapping that only a forked child removes, while it has one thread.
    unsafe { PAGE.load(Acquire).as_ref() }
}

/// Whether the page is that of the process that looks at it.
fn is_own(page: &LivePage) -> bool {
    page.pid() == u64::from(crate::kswapd::process())
}

/// Whether a filter came since the start.
fn is_confined() -> bool {
    init::mm().is_some_and(|mm| mm.machine().is_confined_since_start())
}

/// In a forked child, whose only thread this is: the page is the parent's. `is_inside`: a signal
/// handler forked, and the call of ours below it may be at work on the page.
pub(crate) fn after_fork(is_inside: bool) {
    let old = PAGE.swap(ptr::null_mut(), Relaxed);
    if let Some(old) = NonNull::new(old) {
        if is_inside {
            file::cover(old);
        } else {
            file::unmap(old);
        }
        BUSY.store(false, Relaxed);
        CALLS.store(0, Relaxed);
        REFUSED_UNTIL.store(0, Relaxed);
        LAST_NS.store(0, Relaxed);
        LAST_CHARGED.store(0, Relaxed);
        prepare(!is_confined());
    }
}

/// At the end of a slow path with the heap `own`, or of a round.
#[inline]
pub(crate) fn attend(mm: &'static Mm, own: Option<OwnHeap>, occasion: Occasion) {
    if is_on() {
        attend_now(mm, own, occasion);
    }
}

#[cold]
fn attend_now(mm: &'static Mm, own: Option<OwnHeap>, occasion: Occasion) {
    let Some(page) = page() else { return };
    let calls = CALLS.load(Relaxed).wrapping_add(1);
    CALLS.store(calls, Relaxed);
    let is_early = calls.is_power_of_two() && calls >= FIRST_CALLS;
    let last = LAST_CHARGED.load(Relaxed);
    let is_changed = mm.pages().charged().abs_diff(last) > last / CHANGED_SHARE + CHANGED_PAGES;
    // A look at the clock costs more than most slow paths.
    let looks = (is_changed && calls >= REFUSED_UNTIL.load(Relaxed))
        || page.is_asked()
        || own.is_none()
        || calls.is_multiple_of(CALLS_PER_LOOK);
    if !is_early && !looks {
        return;
    }
    let now = mm.machine().now_ns();
    let elapsed = now.saturating_sub(LAST_NS.load(Relaxed));
    let cost = COST_NS.load(Relaxed);
    let is_due = elapsed >= UNASKED_NS.max(cost.saturating_mul(UNASKED_SHARE))
        || ((is_changed || (page.is_asked() && elapsed >= ASKED_NS))
            && credit(elapsed) >= cost.min(MOST_CREDIT_NS));
    let is_time = is_due || is_early || occasion == Occasion::Parting;
    let until = if is_time { 0 } else { calls.saturating_add(CALLS_PER_REFUSAL) };
    REFUSED_UNTIL.store(until, Relaxed);
    // ORDERING: Acquire, pairs with Release below: the scratch is whole.
    if is_time && BUSY.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
        if is_own(page) {
            publish(mm, own, page, now);
        }
        BUSY.store(false, Release);
    }
}

/// Writes the figures into the page. Only for the holder of `BUSY`.
fn publish(mm: &'static Mm, own: Option<OwnHeap>, page: &LivePage, now: u64) {
    let mut scratch = SCRATCH.load(Relaxed);
    if scratch.is_null() {
        let Ok(span) = mm.machine().map(size_of::<Snapshot>(), PAGE_SIZE) else { return };
        scratch = ptr::with_exposed_provenance_mut(span.addr());
        SCRATCH.store(scratch, Relaxed);
    }
    // SAFETY: a mapping of that size for ever, and `BUSY` is ours; zeros are a snapshot.
    let snapshot = unsafe { &mut *scratch };
    report::fill(mm, own, Patience::PassBy, snapshot, false);
    let fits = snapshot.parts().iter().all(|part| file::populate(page, LivePage::bytes_of(part)));
    if fits {
        page.publish(snapshot);
    }
    let took = mm.machine().now_ns().saturating_sub(now);
    let cost = took.min(2 * COST_NS.load(Relaxed) + STEP_NS);
    let elapsed = now.saturating_sub(LAST_NS.load(Relaxed));
    CREDIT_NS.store(credit(elapsed).saturating_sub(cost), Relaxed);
    LAST_CHARGED.store(mm.pages().charged(), Relaxed);
    LAST_NS.store(now, Relaxed);
    COST_NS.store(cost, Relaxed);
}
