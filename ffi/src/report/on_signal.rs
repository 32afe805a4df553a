//! `stats_signal:NAME`: a report on a signal of the user's choice.
//!
//! The handler writes the report itself when it interrupted the program: then no lock or gate of
//! zonal's is held by this thread, as at the beginning of any `malloc` in a handler, and all that
//! a report takes (mmap, write, munmap, mincore) is async-signal-safe. When it interrupted zonal,
//! or runs on a stack of its own, it owes the report ([`crate::handler`]).

use core::ffi::{c_int, c_void};

use crate::errno::SavedErrno;
use crate::handler::{self, Debt};
use crate::signal;

/// Sets the handler.
pub(super) fn prepare(number: c_int) {
    handler::install(number, on_signal);
}

extern "C" fn on_signal(_: c_int, _: *const libc::siginfo_t, _: *const c_void) {
    let _errno = SavedErrno::save();
    if handler::is_inside() || !signal::on_ordinary_stack() {
        handler::owe(Debt::Report);
    } else {
        super::write_now();
    }
}
