//! Requests from outside, by a signal of the user's choice.
//!
//! `zonal profile PID` queues it with a number. Sent by kill(1) it starts a profile, and the next
//! one stops it and writes the file. The handler calls nothing that is not safe in one: the tables
//! are lock-free, the file is written by raw calls. Without room on its stack it owes them
//! ([`crate::handler`]).

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;

use super::{ON, file, start, stop};
use crate::errno::SavedErrno;
use crate::handler::{self, Debt};

/// Sets the handler.
pub(super) fn install(number: c_int) {
    handler::install(number, on_signal);
}

/// What the number that came with the signal asks for; `cli` has the same.
fn request(info: &libc::siginfo_t) -> Option<Debt> {
    if info.si_code != libc::SI_QUEUE {
        return Some(if ON.load(Relaxed) { Debt::StopProfile } else { Debt::StartProfile });
    }
    // SAFETY: queued signals carry a value.
    match unsafe { info.si_value() }.sival_ptr.addr() & 0xffff_ffff {
        1 => Some(Debt::StartProfile),
        2 => Some(Debt::StopProfile),
        3 => Some(Debt::WriteProfile),
        _ => None,
    }
}

extern "C" fn on_signal(_: c_int, info: *const libc::siginfo_t, _: *const c_void) {
    let _errno = SavedErrno::save();
    // SAFETY: the kernel passes a structure to handlers of this kind.
    let asked = request(unsafe { &*info });
    match asked {
        Some(debt) if handler::has_room() => serve(debt),
        Some(debt) => handler::owe(debt),
        None => {}
    }
}

/// Does what was asked for.
pub(crate) fn serve(debt: Debt) {
    match debt {
        Debt::StartProfile => {
            start(0);
        }
        Debt::StopProfile => {
            stop();
            file::write();
        }
        Debt::WriteProfile => file::write(),
        Debt::Report => {}
    }
}
