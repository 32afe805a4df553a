//! Standard descriptors that were closed when the command started.
//!
//! The next file that is opened would get such a number, and what the command prints would be written
//! into it: into the live page of a process, which is open for writing.

use std::ffi::CStr;

/// Cannot be read or written, as a closed descriptor cannot, and is there on any machine.
const NOWHERE: &CStr = c"/";

/// Gives each of them a file that takes nothing. A program that the command becomes finds them closed.
pub(crate) fn fill() {
    for descriptor in 0..=libc::STDERR_FILENO {
        // SAFETY: plain calls on numbers and a C string.
        unsafe {
            if libc::fcntl(descriptor, libc::F_GETFD) == -1 {
                // The lowest number that is free: this one, since all below are taken by now.
                libc::open(NOWHERE.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            }
        }
    }
}
