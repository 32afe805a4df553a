//! Whole small files, read without heap and without the C library's `open`,
//! which programs interpose and which is a cancellation point.

use core::ffi::CStr;

use super::last_errno;
use crate::Errno;

/// A descriptor that is closed at the end of its scope.
pub(super) struct Fd(i32);

impl Fd {
    pub(super) fn open(path: &CStr) -> Result<Fd, Errno> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the path is a C string.
        let fd =
            unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) };
        i32::try_from(fd).ok().filter(|&fd| fd >= 0).map(Fd).ok_or_else(last_errno)
    }

    pub(super) fn raw(&self) -> i32 {
        self.0
    }

    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the kernel writes at most `buf.len()` bytes to `buf`.
        let nr = unsafe { libc::syscall(libc::SYS_read, self.0, buf.as_mut_ptr(), buf.len()) };
        usize::try_from(nr).map_err(|_| last_errno())
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and not used again.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// Reads as much of a file as one call gives and `buf` holds.
pub(crate) fn read_start<'b>(path: &CStr, buf: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let len = Fd::open(path)?.read(buf)?;
    Ok(&buf[..len])
}

/// What `find` finds in a file of lines. It is shown some lines at a time, since the stack may be small;
/// none where one line is longer than that.
#[inline(never)]
pub(crate) fn find_in_lines<T>(
    path: &CStr,
    mut find: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, Errno> {
    let fd = Fd::open(path)?;
    let mut buf = [0; 512];
    let mut len = 0;
    while len < buf.len() {
        let nr = fd.read(&mut buf[len..])?;
        len += nr;
        let newline = buf[..len].iter().rposition(|&b| b == b'\n');
        let whole = if nr == 0 { len } else { newline.map_or(0, |at| at + 1) };
        let found = find(&buf[..whole]);
        if found.is_some() || nr == 0 {
            return Ok(found);
        }
        buf.copy_within(whole..len, 0);
        len -= whole;
    }
    Ok(None)
}

/// Reads a file of lines into `buf`; what does not fit is an error.
pub(crate) fn read_file<'b>(path: &CStr, buf: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let fd = Fd::open(path)?;
    let mut len = 0;
    while len < buf.len() {
        match fd.read(&mut buf[len..])? {
            0 => return Ok(&buf[..len]),
            nr => len += nr,
        }
        // The files of sysfs are one line: no second read to see the end.
        if buf[len - 1] == b'\n' {
            return Ok(&buf[..len]);
        }
    }
    Err(Errno::EINVAL)
}
