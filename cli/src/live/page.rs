//! The mapped file.

use std::fs::OpenOptions;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::ptr::{self, NonNull};

use zonal_stats::LivePage;
use zonal_stats::live::PAGE_BYTES;

/// A live page of another process.
#[derive(Debug)]
pub(super) struct Page {
    start: NonNull<LivePage>,
}

impl Page {
    /// Maps the file of `user` at `path`, for writing, too: a reader asks by a word in it.
    pub(super) fn map(path: &Path, user: u32) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        let found = file.metadata()?;
        // Others can lay a folder in the place of a user's that is not there yet.
        if found.len() < PAGE_BYTES as u64 || found.uid() != user {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a page of zonal's"));
        }
        // SAFETY: a new mapping, of no one else's memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start }).ok_or(io::ErrorKind::Other.into())
    }
}

impl Deref for Page {
    type Target = LivePage;

    fn deref(&self) -> &LivePage {
        // SAFETY: the mapping is as large as the page, which is made of atomics: any content is
        // valid, and others may write it.
        unsafe { self.start.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody borrows any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), PAGE_BYTES) };
    }
}
