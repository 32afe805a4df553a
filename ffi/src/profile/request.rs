//! Requests from outside, by a signal of the user's choice.
//!
//! `zonal profile PID` queues it with a number. Sent by kill(1) it starts a profile, and the next
//! one stops it and writes the file. The handler calls nothing that is not safe in one: the tables
//! are lock-free, the file is written by raw calls.

use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;

use super::{ON, file, start, stop};
use crate::errno::Errno;
use core::sync::atomic::Ordering::Relaxed;

/// Numbers that come with the signal; `cli` has the same.
const START: usize = 1;
const STOP_AND_WRITE: usize = 2;
const WRITE: usize = 3;

/// Installs the handler, unless the program was told to ignore the signal.
pub(super) fn install(signal: c_int) {
    // SAFETY: all zeros is a value of the structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only asks.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    if asked != 0 || action.sa_sigaction != libc::SIG_DFL {
        return;
    }
    action.sa_sigaction = on_signal as extern "C" fn(c_int, *const libc::siginfo_t, *const c_void)
        as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler is a function of this library, which stays loaded; an empty mask is all
    // zeros. A signal that cannot be had is refused.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

extern "C" fn on_signal(_: c_int, info: *const libc::siginfo_t, _: *const c_void) {
    let before = Errno::save();
    // SAFETY: the kernel passes a structure to handlers of this kind.
    let info = unsafe { &*info };
    let request = if info.si_code == libc::SI_QUEUE {
        // SAFETY: queued signals carry a value.
        unsafe { info.si_value() }.sival_ptr.addr() & 0xffff_ffff
    } else if ON.load(Relaxed) {
        STOP_AND_WRITE
    } else {
        START
    };
    match request {
        START => {
            start(0);
        }
        STOP_AND_WRITE => {
            stop();
            file::write();
        }
        WRITE => file::write(),
        _ => {}
    }
    before.restore();
}
