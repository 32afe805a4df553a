//! The file of a live page, read by copies: whoever owns it may cut it short at any moment, and to
//! look at a mapping of it would then be a SIGBUS.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::fence;

use zonal_stats::live::PAGE_BYTES;
use zonal_stats::{LivePage, Snapshot};

/// A live page of another process.
#[derive(Debug)]
pub(super) struct Page {
    file: File,
}

impl Page {
    /// Opens the file of `user` at `path`, for writing, too: a reader asks by a word in it.
    pub(super) fn open(path: &Path, user: u32) -> io::Result<Self> {
        // A fifo shall not be waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        // Others can lay a folder in the place of a user's that is not there yet.
        if !found.is_file() || found.len() < PAGE_BYTES as u64 || found.uid() != user {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a page of zonal's"));
        }
        Ok(Self { file })
    }

    /// Calls `look` with a copy of the page that ends after `len` bytes; the rest are zeros.
    pub(super) fn look<R>(&self, len: usize, look: impl FnOnce(&LivePage) -> R) -> io::Result<R> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, 0)?;
        let mut words = vec![0; PAGE_BYTES / size_of::<u64>()];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        LivePage::of(&mut words).map(look).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// What stands before the snapshot.
    pub(super) fn look_at_head<R>(&self, look: impl FnOnce(&LivePage) -> R) -> io::Result<R> {
        self.look(LivePage::HEAD_BYTES, look)
    }

    /// Asks for a fresh publication: by a number that [`Page::is_served`] takes. Readers at the same
    /// moment may take the same.
    pub(super) fn ask(&self) -> io::Result<u64> {
        let request = self.word(LivePage::REQUEST_AT)?.wrapping_add(1);
        self.file.write_all_at(&request.to_ne_bytes(), LivePage::REQUEST_AT as u64)?;
        Ok(request)
    }

    /// Whether what was asked for is there.
    pub(super) fn is_served(&self, request: u64) -> bool {
        self.word(LivePage::SERVED_AT).is_ok_and(|served| served >= request)
    }

    /// Reads what was published last; false when the publisher was at it, or never published.
    pub(super) fn read(&self, snapshot: &mut Snapshot) -> io::Result<bool> {
        // The reader's side of the sequence lock, see `zonal_stats::live`, around the copy.
        let before = self.word(LivePage::SEQ_AT)?;
        // ORDERING: Acquire, pairs with Release in `SeqWrite::end`.
        fence(Acquire);
        let is_read = self.look(PAGE_BYTES, |page| page.read(snapshot))?;
        // ORDERING: Acquire, pairs with the Release fence in `SeqWrite::begin`.
        fence(Acquire);
        Ok(is_read && before.is_multiple_of(2) && self.word(LivePage::SEQ_AT)? == before)
    }

    fn word(&self, at: usize) -> io::Result<u64> {
        let mut bytes = [0; size_of::<u64>()];
        self.file.read_exact_at(&mut bytes, at as u64)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_page_that_is_cut_short_is_an_error() {
        // SAFETY: takes nothing and cannot fail.
        let user = unsafe { libc::geteuid() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("17.1");
        let bytes = vec![0_u8; PAGE_BYTES];
        fs::write(&path, &bytes).unwrap();
        let page = Page::open(&path, user).unwrap();
        assert_eq!(page.ask().unwrap(), 1);
        assert!(!page.is_served(1));
        assert!(!page.read(&mut Box::default()).unwrap(), "never published");
        assert!(page.look_at_head(LivePage::is_asked).unwrap());
        File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(page.read(&mut Box::default()).is_err());
        assert!(Page::open(&path, user).is_err());
        page.file.set_len(0).unwrap();
        assert!(page.ask().is_err());
        assert!(!page.is_served(0));
    }

    #[test]
    fn only_a_file_of_the_user_s_is_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("17.1");
        fs::write(&path, vec![0_u8; PAGE_BYTES]).unwrap();
        let owner = fs::metadata(&path).unwrap().uid();
        assert!(Page::open(&path, owner + 1).is_err());
        let link = folder.path().join("18.1");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Page::open(&link, owner).is_err());
        assert!(Page::open(folder.path(), owner).is_err());
    }
}
