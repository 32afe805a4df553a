//! `harden:2`: a misuse at which the processor stops the program has its line, too.
//!
//! Guard pages and the key in freed memory make a program fault where it goes wrong. The handler says
//! which of them it was, sets the default disposition again and returns: the same instruction
//! faults once more and ends the process by SIGSEGV at the very place, with a core dump if there
//! shall be one. Any other fault ends the process in the same way without a line.
//!
//! The handler is set with the first allocation and only where nobody has one, as in [`crate::handler`].
//! A program that sets its own gets its faults itself.

use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;

use zonal_allocator::{BadKind, Mm};

use crate::{abort, handler, init};

/// The kernel gives no address for a fault at one that cannot exist.
const WITHOUT_ADDRESS: c_int = 0x80;

/// Sets the handler.
pub(crate) fn prepare() {
    handler::install(libc::SIGSEGV, on_fault);
}

extern "C" fn on_fault(number: c_int, info: *const libc::siginfo_t, context: *const c_void) {
    // SAFETY: the kernel passes a structure to handlers of this kind.
    let info = unsafe { &*info };
    if info.si_code > 0
        && let Some(mm) = init::mm()
    {
        // SAFETY: a fault has an address.
        let addr = unsafe { info.si_addr() }.addr();
        let known = if info.si_code == WITHOUT_ADDRESS {
            in_registers(mm, context)
        } else {
            what_is_at(mm, addr)
        };
        if let Some((addr, kind)) = known {
            abort::tell_fault(addr, kind);
        }
    }
    // SAFETY: all zeros is the default disposition.
    unsafe {
        let action: libc::sigaction = mem::zeroed();
        libc::sigaction(number, &raw const action, ptr::null_mut());
    }
    if info.si_code <= 0 {
        // Somebody sent it: it does not come again by itself.
        // SAFETY: to the calling thread; it comes when the handler returns.
        unsafe { libc::raise(number) };
    }
}

fn what_is_at(mm: &Mm, addr: usize) -> Option<(usize, BadKind)> {
    if mm.is_from_freed(addr) {
        return Some((addr, BadKind::FromFreed));
    }
    mm.is_guard(addr).then_some((addr, BadKind::Guard))
}

/// The pointer that was followed is still in a register.
#[cfg(target_arch = "x86_64")]
fn in_registers(mm: &Mm, context: *const c_void) -> Option<(usize, BadKind)> {
    // SAFETY: the kernel passes the registers to handlers of this kind.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let registers = context.uc_mcontext.gregs.iter().map(|&value| value.cast_unsigned() as usize);
    let mut from_freed = registers.filter(|&value| mm.is_from_freed(value));
    from_freed.next().map(|value| (value, BadKind::FromFreed))
}

#[cfg(not(target_arch = "x86_64"))]
fn in_registers(_: &Mm, _: *const c_void) -> Option<(usize, BadKind)> {
    None
}
