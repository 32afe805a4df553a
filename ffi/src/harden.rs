//! Misuse of the heap: how much is looked for, by `ZONAL_CONF=harden:LEVEL`.
//!
//! | level | what it adds                                                                          |
//! |-------|---------------------------------------------------------------------------------------|
//! | `0`   | nothing: what hits and slow paths meet anyway                                          |
//! | `1`   | sizes given to `free_sized` and sized `delete` are compared; large blocks have slack   |
//! |       | that is looked at, and a few small objects are fenced, see the modules `slack` and     |
//! |       | `fence` of `zonal_allocator`; bins are tried against the bitmaps at the end of the     |
//! |       | process, so that what hits let pass is reported before it is over                      |
//! | `2`   | every call takes the detour ([`crate::detour`]) to checked blocks, see the modules     |
//! |       | `checked` and `guard` of `zonal_allocator`; a fault at them is told ([`crate::fault`]); |
//! |       | a random object of a batch is handed out first                                         |
//!
//! What each of them finds, and what it does not, stands in SECURITY.md.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use zonal_allocator::{Mm, OwnHeap};
pub(crate) use zonal_settings::Level;

use crate::{abort, detour, fault, slow};

static IS_USUAL: AtomicBool = AtomicBool::new(false);

/// Before the first operation.
pub(crate) fn prepare(level: Level) {
    IS_USUAL.store(level >= Level::Usual, Relaxed);
    if level == Level::Full {
        detour::check_all();
        fault::prepare();
    }
}

/// Whether the level is 1 or 2.
pub(crate) fn is_usual() -> bool {
    // Relaxed: written before the first operation.
    IS_USUAL.load(Relaxed)
}

/// Arranges for the look at the end of the process. Registered before the program's own exit
/// handlers, so it runs after them.
pub(crate) fn register() {
    if is_usual() {
        // SAFETY: a function of this library, which stays loaded. If it cannot be registered,
        // nobody looks.
        unsafe { libc::atexit(at_exit) };
    }
}

extern "C" fn at_exit() {
    // Without a heap of its own the call interrupted another one of this thread.
    let look = |mm: &'static Mm, own: Option<OwnHeap>| own.and_then(|_| mm.check_bins(own));
    if let Some(bad) = slow::inspect(look).flatten() {
        abort::bad_pointer_late(bad);
    }
}
