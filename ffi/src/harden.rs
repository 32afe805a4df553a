//! Misuse of the heap: when it is looked for besides the calls that meet it.
//!
//! A hit asks little. What it lets into a bin shows when the bin meets the bitmaps; so that every
//! such pointer is reported before the process is over, bins are tried when their thread ends and
//! when the process does, in the last of its exit handlers.

use core::ptr::NonNull;

use zonal_allocator::{Heap, Mm};

use crate::{abort, slow};

/// Arranges for the look at the end of the process. Registered before the program's own exit
/// handlers, so it runs after them.
pub(crate) fn register() {
    // SAFETY: a function of this library, which stays loaded. If it cannot be registered, nobody
    // looks.
    unsafe { libc::atexit(at_exit) };
}

extern "C" fn at_exit() {
    // Without a heap of its own the call interrupted another one of this thread.
    let look = |mm: &'static Mm, own: Option<NonNull<Heap>>| own.and_then(|_| mm.check_bins(own));
    if let Some(bad) = slow::inspect(look).flatten() {
        abort::bad_pointer_late(bad);
    }
}
