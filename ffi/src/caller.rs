//! Whether the C library calls, and may hold a lock of its own.
//!
//! `pthread_join` frees what ended threads had under the lock for which `pthread_create` asks, as soon as it keeps
//! more than 40 MB of stacks. Whoever starts a thread in that `free` waits for itself.

use crate::errno::SavedErrno;
use crate::unwind::{self, Module};

/// Whether the call of zonal that is under way came from the C library or its loader, also where that cannot be
/// told.
#[cold]
pub(crate) fn may_be_c_library() -> bool {
    let own = (may_be_c_library as fn() -> bool) as *const () as usize;
    let Some(own) = Module::of(own) else { return true };
    let mut frames = [0];
    // The look at the stack asks the kernel what can be read.
    let _errno = SavedErrno::save();
    let is_found = unwind::walk(&mut frames, (own.start, own.end)) == 1;
    let [caller] = frames;
    !is_found
        || Module::of_c_library().is_none_or(|files| files.iter().any(|file| file.contains(caller)))
}
