//! Handlers of zonal's own: for the signals that the user chose, and how they owe what they cannot do.
//!
//! A handler is set with the first allocation, and only where the signal has its default
//! disposition; a program that sets its own later replaces it. It runs on the alternate stack of a
//! thread that has one (runtimes with small stacks demand that of everybody), where there may be
//! little room, and it may have interrupted zonal, with a lock held by its own thread. What cannot be
//! done there is owed, and done at the end of the next slow path.

use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use crate::errno::SavedErrno;
use crate::tls::Block;
use crate::{fork, profile, report, signal, tls};

/// A handler with what the kernel knows about the signal.
pub(crate) type Handler = extern "C" fn(c_int, *const libc::siginfo_t, *const c_void);

/// Sets the handler, unless the program or who started it decided about the signal. Where it cannot
/// be had it is left.
pub(crate) fn install(number: c_int, handler: Handler) {
    // SAFETY: all zeros is a valid `sigaction`: the default disposition, nothing blocked.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only asks.
    let asked = unsafe { libc::sigaction(number, ptr::null(), &raw mut action) };
    if asked != 0 || action.sa_sigaction != libc::SIG_DFL {
        return;
    }
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: a handler of this library, which stays loaded.
    unsafe { libc::sigaction(number, &raw const action, ptr::null_mut()) };
}

/// Bytes of stack that the work of a handler may need; a profile takes 3.6 KiB.
const NEEDED: usize = 5 << 10;

/// Whether the stack, if it is an alternate one, has room.
pub(crate) fn has_room() -> bool {
    let here = tls::stack();
    signal::alternate_stack()
        .is_none_or(|(start, size)| (NEEDED..=size).contains(&here.wrapping_sub(start)))
}

/// Whether the handler interrupted zonal on its own thread, or a fork is under way.
pub(crate) fn is_inside() -> bool {
    let block = Block::get();
    (block.is_taken() && !block.home().is_null()) || fork::is_under_way()
}

/// What can be owed.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Debt {
    StartProfile = 1,
    StopProfile = 2,
    WriteProfile = 4,
    Report = 8,
}

static OWED: AtomicU32 = AtomicU32::new(0);

/// The next slow path has to do it.
pub(crate) fn owe(debt: Debt) {
    OWED.fetch_or(debt as u32, Relaxed);
}

/// Whether anything is owed.
#[inline]
pub(crate) fn is_owed() -> bool {
    OWED.load(Relaxed) != 0
}

/// Does what is owed. Only where no lock of ours is held and the heap is back.
#[cold]
pub(crate) fn pay() {
    let owed = OWED.swap(0, Relaxed);
    let _errno = SavedErrno::save();
    for debt in [Debt::StartProfile, Debt::StopProfile, Debt::WriteProfile, Debt::Report] {
        if owed & debt as u32 != 0 {
            match debt {
                Debt::Report => report::write_now(),
                _ => profile::serve(debt),
            }
        }
    }
}
