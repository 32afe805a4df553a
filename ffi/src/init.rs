//! The first call of the process: malloc is called before any constructor runs.
//!
//! One thread builds the core while others wait. Nothing here allocates, except in `finish`, which
//! runs when the first thread has its heap and calls are served as usual. A signal handler that
//! interrupts the construction on its own thread finds no core and gets null with ENOMEM.

use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32};

use zonal_allocator::Mm;
use zonal_allocator::sync::{futex_wait, futex_wake};

use crate::kswapd::Modes;
use crate::{config, env, fork, harden, kswapd, live, profile, report, thread};

const COLD: u32 = 0;
const BUILDING: u32 = 1;
/// As before, and somebody may sleep on the word.
const AWAITED: u32 = 2;
/// Built; the first thread has still to call `finish`.
const BUILT: u32 = 3;
const READY: u32 = 4;

static STATE: AtomicU32 = AtomicU32::new(COLD);
static MM: AtomicPtr<Mm> = AtomicPtr::new(ptr::null_mut());
/// How long a waiter sleeps before it looks again.
const PATIENCE_NS: u64 = 10_000_000;

/// The core, if there is one yet.
#[inline]
pub(crate) fn mm() -> Option<&'static Mm> {
    // ORDERING: Acquire, pairs with Release in `build`: the core is complete.
    // SAFETY: null, or the core that lives as long as the process.
    unsafe { MM.load(Acquire).as_ref() }
}

/// The core, built if need be; none when there is no memory for it, and the next call tries again.
pub(crate) fn start() -> Option<&'static Mm> {
    loop {
        // ORDERING: Acquire on failure, pairs with Release in `build`.
        match STATE.compare_exchange(COLD, BUILDING, Relaxed, Acquire) {
            Ok(_) => return build(),
            Err(BUILDING | AWAITED) => {
                // Relaxed: only tells the builder to wake.
                let _ = STATE.compare_exchange(BUILDING, AWAITED, Relaxed, Relaxed);
                futex_wait(&STATE, AWAITED, Some(PATIENCE_NS));
            }
            Err(_) => return mm(),
        }
    }
}

/// Not inlined: a thread that finds a core has no room to spare on its stack for this.
#[cold]
#[inline(never)]
fn build() -> Option<&'static Mm> {
    let built = make().map(|(mm, modes)| {
        kswapd::prepare(mm, modes);
        // ORDERING: Release, pairs with Acquire in `mm`.
        MM.store(ptr::from_ref(mm).cast_mut(), Release);
        mm
    });
    // ORDERING: Release, pairs with Acquire in `start`.
    if STATE.swap(if built.is_some() { BUILT } else { COLD }, Release) == AWAITED {
        futex_wake(&STATE, i32::MAX);
    }
    built
}

/// The core by the settings of the process. Not inlined: the 4 KiB of stack that settings take are free again
/// when what follows reads files.
#[inline(never)]
fn make() -> Option<(&'static Mm, Modes)> {
    let settings = env::read();
    let mm = config::build(&settings)?;
    report::prepare(&settings);
    live::prepare(settings.stats_live);
    profile::prepare(&settings);
    thread::create_key();
    harden::prepare(settings.harden);
    Some((mm, Modes::of(&settings)))
}

/// What needs a process whose malloc works: called by each thread once it has a heap, done once.
pub(crate) fn finish() {
    // Relaxed: nothing is passed on; the first thread here does it.
    if STATE.load(Relaxed) == BUILT
        && STATE.compare_exchange(BUILT, READY, Relaxed, Relaxed).is_ok()
    {
        fork::register();
        report::register();
        harden::register();
        live::register();
        profile::register();
    }
}
