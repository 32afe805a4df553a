//! The end of a process that misused the heap: one line that says what and where, then abort.

use core::fmt;
use core::ptr::NonNull;

use zonal_allocator::{BadKind, BadPointer};

use crate::fd::Line;
use crate::jump;

/// `object` was handed to `call` but is no live block.
#[cold]
pub(crate) fn bad_pointer(call: &str, object: NonNull<u8>, bad: Option<BadPointer>) -> ! {
    match bad {
        Some(bad) => die(format_args!("{call}({object:p}): {}", bad.kind.describe())),
        None => die(format_args!("{call}({object:p}): {}", BadKind::Foreign.describe())),
    }
}

/// A misuse that showed only when the bin with the pointer in it was emptied.
#[cold]
pub(crate) fn bad_pointer_late(bad: BadPointer) -> ! {
    die(format_args!("free({:#x}), found later: {}", bad.addr, bad.kind.describe()))
}

/// Writes the line and aborts.
#[cold]
pub fn die(text: fmt::Arguments<'_>) -> ! {
    Line::stderr(text);
    jump::give_up();
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

/// One line on stderr.
pub fn warn(text: fmt::Arguments<'_>) {
    Line::stderr(text);
}
