//! The end of a process that misused the heap: one line that says what and where, then abort.
//! Nothing here allocates or takes a lock.

use core::fmt;
use core::ptr::NonNull;

use zonal_allocator::{BadKind, BadPointer};

use crate::fd::Line;
use crate::init;
use crate::jump;

/// `object` was handed to `call` but is no live block.
#[cold]
pub(crate) fn bad_pointer(call: &str, object: NonNull<u8>, bad: Option<BadPointer>) -> ! {
    let kind = bad.map_or(BadKind::Foreign, |bad| bad.kind);
    report(format_args!("{call}({object:p})"), object.addr().get(), kind)
}

/// A misuse that showed only later: when the bin with the pointer in it was emptied, or when the
/// block was to be used again.
#[cold]
pub(crate) fn bad_pointer_late(bad: BadPointer) -> ! {
    // What was written where is no matter of a free.
    let call = match bad.kind {
        BadKind::Overrun | BadKind::UsedAfterFree => "block",
        _ => "free",
    };
    report(format_args!("{call}({:#x}), found later", bad.addr), bad.addr, bad.kind)
}

/// `block` was freed with a size that it does not have.
#[cold]
pub(crate) fn wrong_size(block: NonNull<u8>, size: usize) -> ! {
    tell_wrong_size(block, size);
    end()
}

/// The same, and the program goes on.
#[cold]
pub(crate) fn tell_wrong_size(block: NonNull<u8>, size: usize) {
    let call = format_args!("free({block:p}) of {size} bytes");
    tell(call, block.addr().get(), BadKind::WrongSize);
}

/// The program faults at `addr`.
#[cold]
pub(crate) fn tell_fault(addr: usize, kind: BadKind) {
    tell(format_args!("fault at {addr:#x}"), addr, kind);
}

fn report(call: fmt::Arguments<'_>, addr: usize, kind: BadKind) -> ! {
    tell(call, addr, kind);
    end()
}

/// One line: the call, what is wrong, where that is, and the thread that came upon it.
fn tell(call: fmt::Arguments<'_>, addr: usize, kind: BadKind) {
    let what = kind.describe();
    // SAFETY: no memory is involved.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    match init::mm().map(|mm| mm.place_of(addr)) {
        Some(place) => Line::stderr(format_args!("{call}: {what}; {place}; thread {thread}")),
        None => Line::stderr(format_args!("{call}: {what}; thread {thread}")),
    }
}

/// Writes the line and aborts.
#[cold]
pub fn die(text: fmt::Arguments<'_>) -> ! {
    Line::stderr(text);
    end()
}

fn end() -> ! {
    jump::give_up();
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

/// One line on stderr.
pub fn warn(text: fmt::Arguments<'_>) {
    Line::stderr(text);
}
