//! On which nodes pages are, and moving them there: `move_pages` on this process.

use core::ptr;

use super::last_errno;
use crate::Errno;

/// Pages that one call looks at.
pub(crate) const BATCH: usize = 128;

/// The kernel's word for each page: its node, or the negative error number of why it has none.
pub(crate) type Status = [i32; BATCH];

/// Says for each of the first [`BATCH`] addresses on which node its page is; if `to` names a node,
/// after the kernel has tried to bring them there. It drops what files hold on that node to make
/// room, and kills nobody when it cannot.
///
/// The addresses need not be mapped.
pub(crate) fn move_pages(addrs: &[usize], to: Option<usize>) -> Result<Status, Errno> {
    let nr = addrs.len().min(BATCH);
    // What no answer came for counts as nowhere.
    let mut status = [-libc::ENOENT; BATCH];
    let nodes = [to.unwrap_or(0) as i32; BATCH];
    let nodes = if to.is_some() { nodes.as_ptr() } else { ptr::null() };
    // SAFETY: `nr` entries of three arrays, of which the kernel writes the last; pages keep their
    // address and content wherever they are.
    let answer = unsafe {
        libc::syscall(libc::SYS_move_pages, 0, nr, addrs.as_ptr(), nodes, status.as_mut_ptr(), 0)
    };
    // Positive: so many pages could not be moved, as their status says.
    if answer >= 0 { Ok(status) } else { Err(last_errno()) }
}

/// Writes to the page at `addr`, so that it gets memory.
///
/// # Safety
/// The word there is writable and nobody's.
pub(crate) unsafe fn touch(addr: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::with_exposed_provenance_mut::<usize>(addr).write_volatile(0) };
}
