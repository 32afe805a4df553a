//! `stats_signal:NAME`: a report on a signal of the user's choice.
//!
//! The handler writes the report itself when it interrupted the program: then no lock or gate of
//! zonal's is held by this thread, as at the beginning of any `malloc` in a handler, and all that
//! a report takes (mmap, write, munmap, mincore) is async-signal-safe. When it interrupted zonal,
//! or runs on a small stack of its own, it leaves a note, and the next slow path writes.
//!
//! The handler is set with the first allocation, and only where the signal has its default
//! disposition; a program that sets its own later replaces it.

use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use crate::errno::Errno;
use crate::tls::{Block, empty};
use crate::{fork, signal};

/// A report is owed.
static OWED: AtomicBool = AtomicBool::new(false);

/// The signals that may be chosen: those that programs leave to their users.
pub(crate) const NAMES: [(&[u8], c_int); 9] = [
    (b"SIGHUP", libc::SIGHUP),
    (b"SIGINT", libc::SIGINT),
    (b"SIGQUIT", libc::SIGQUIT),
    (b"SIGUSR1", libc::SIGUSR1),
    (b"SIGUSR2", libc::SIGUSR2),
    (b"SIGURG", libc::SIGURG),
    (b"SIGWINCH", libc::SIGWINCH),
    (b"SIGIO", libc::SIGIO),
    (b"SIGPWR", libc::SIGPWR),
];

/// Sets the handler.
pub(super) fn prepare(number: c_int) {
    // SAFETY: all zeros is a valid `sigaction`: the default disposition, nothing blocked.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: only asks.
    let asked = unsafe { libc::sigaction(number, ptr::null(), &raw mut action) };
    if asked != 0 || action.sa_sigaction != libc::SIG_DFL {
        return;
    }
    action.sa_sigaction = handler as extern "C" fn(c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: a handler of this library, which stays loaded.
    unsafe { libc::sigaction(number, &raw const action, ptr::null_mut()) };
}

extern "C" fn handler(_: c_int) {
    let before = Errno::save();
    let block = Block::get();
    let taken = block.take();
    block.put(taken);
    let is_inside = taken == empty() && !block.home().is_null();
    if is_inside || fork::is_under_way() || !signal::on_ordinary_stack() {
        OWED.store(true, Relaxed);
    } else {
        super::write_now();
    }
    before.restore();
}

/// Whether a report is owed.
#[inline]
pub(crate) fn is_owed() -> bool {
    OWED.load(Relaxed)
}

/// Writes the report that is owed. Only where no lock of ours is held and the heap is back.
#[cold]
pub(crate) fn pay() {
    if OWED.swap(false, Relaxed) {
        let before = Errno::save();
        super::write_now();
        before.restore();
    }
}
