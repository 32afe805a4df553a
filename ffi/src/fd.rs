//! Raw output to file descriptors: no stdio, no heap.

use core::fmt;

/// Writes all of `bytes`; false with errno when the descriptor does not take them. By the raw call: the C
/// library's would end a thread that is cancelled, in the middle of a call of ours.
pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are those of a slice.
        let written = unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) };
        match usize::try_from(written) {
            Ok(0) => return false,
            Ok(written) => bytes = &bytes[written.min(bytes.len())..],
            // SAFETY: errno of the calling thread is always readable.
            Err(_) if unsafe { *libc::__errno_location() } == libc::EINTR => {}
            Err(_) => return false,
        }
    }
    true
}

/// One line of text on stderr, cut at the size of its buffer, written by one call so that lines of
/// several threads do not mix.
pub(crate) struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    /// Writes `text` as a line of zonal's.
    pub(crate) fn stderr(text: fmt::Arguments<'_>) {
        let mut line = Line { bytes: [0; 256], len: 0 };
        // Cannot fail: what does not fit is cut.
        let _ = fmt::write(&mut line, format_args!("zonal: {text}"));
        line.bytes[line.len] = b'\n';
        write_all(libc::STDERR_FILENO, &line.bytes[..=line.len]);
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let text = &text.as_bytes()[..text.len().min(room)];
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
        Ok(())
    }
}

/// Buffered text to a descriptor.
pub(crate) struct Out {
    fd: i32,
    bytes: [u8; 1024],
    len: usize,
}

impl Out {
    pub(crate) fn new(fd: i32) -> Out {
        Out { fd, bytes: [0; 1024], len: 0 }
    }

    /// Writes what is still in the buffer.
    pub(crate) fn finish(&mut self) -> fmt::Result {
        let written = write_all(self.fd, &self.bytes[..self.len]);
        self.len = 0;
        if written { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut text = text.as_bytes();
        while !text.is_empty() {
            if self.len == self.bytes.len() {
                self.finish()?;
            }
            let n = text.len().min(self.bytes.len() - self.len);
            self.bytes[self.len..self.len + n].copy_from_slice(&text[..n]);
            self.len += n;
            text = &text[n..];
        }
        Ok(())
    }
}
