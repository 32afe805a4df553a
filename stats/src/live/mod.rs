//! The live page: a snapshot in a file that the process maps and others read.
//!
//! ```text
//!   LivePage   head: magic, layout, process     written once, before anybody looks
//!              request                          bumped by readers
//!              served                           written by the publisher
//!              seq                              odd while the words change
//!              words of a Snapshot              only those in use
//! ```
//!
//! The file belongs to the user who runs the process, with all rights for that user alone. The
//! reader may be root, and whoever writes the page may mean harm: nothing that is read from it is
//! used as an index, a length, or text for a terminal without a check, and a reader that is to
//! survive a file that is cut short under it reads copies instead of a mapping ([`LivePage::of`]).
//!
//! # Synchronisation
//!
//! A sequence lock. One publisher at a time; the process sees to that.
//!
//! | word      | writers   | readers   | carries                                         |
//! |-----------|-----------|-----------|-------------------------------------------------|
//! | `seq`     | publisher | readers   | even: the words since the last change are whole |
//! | words     | publisher | readers   | -                                               |
//! | `request` | readers   | publisher | nothing: a wish                                 |
//! | `served`  | publisher | readers   | nothing: which wish was heard                   |
//!
//! The publisher makes `seq` odd, issues a Release fence, stores the words, and makes `seq` even
//! with Release. A reader takes `seq` with Acquire, loads the words, issues an Acquire fence and
//! looks at `seq` again. If it saw any word of a later publication, then by the two fences it sees
//! the odd `seq` of that one, too, and reads again. All words are atomics, Relaxed.

mod name;
mod seq;
#[cfg(all(test, not(zonal_loom)))]
mod tests;

use core::mem::offset_of;
use core::ops::Range;

pub use self::name::{FOLDER, PageName};
pub use self::seq::{SeqRead, SeqWrite};
use crate::snapshot::{LAYOUT, Snapshot};
use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

const MAGIC: u64 = u64::from_le_bytes(*b"zonal\0\0\x01");
const WORDS: usize = size_of::<Snapshot>() / size_of::<u64>();
/// Bytes of the file.
pub const PAGE_BYTES: usize = size_of::<LivePage>();
/// How often a reader tries before it says that the page is being written.
const TRIES: u32 = 64;

/// The page, as it lies in the file. All zeros is a page that was never published.
#[derive(Debug)]
#[repr(C)]
pub struct LivePage {
    magic: AtomicU64,
    layout: AtomicU64,
    pid: AtomicU64,
    start_ticks: AtomicU64,
    request: AtomicU64,
    served: AtomicU64,
    seq: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// What a page is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// No live page of zonal's.
    NotAPage,
    /// That of a library with another layout.
    OtherLayout,
}

impl LivePage {
    /// Bytes before the words of the snapshot.
    pub const HEAD_BYTES: usize = offset_of!(LivePage, words);
    /// Where a reader asks, by the next number.
    pub const REQUEST_AT: usize = offset_of!(LivePage, request);
    /// Where it sees that it was heard.
    pub const SERVED_AT: usize = offset_of!(LivePage, served);
    /// Where it sees that a copy is whole: an even number, the same before and after.
    pub const SEQ_AT: usize = offset_of!(LivePage, seq);

    /// A copy of a page as a page; none if there are too few words.
    pub fn of(words: &mut [u64]) -> Option<&LivePage> {
        // SAFETY: long enough, aligned, atomics of `u64` all through, and borrowed by nobody else.
        (size_of_val(words) >= PAGE_BYTES).then(|| unsafe { &*words.as_mut_ptr().cast() })
    }

    /// Says whose page it is. Before the first publication.
    pub fn describe(&self, pid: u64, start_ticks: u64) {
        self.layout.store(LAYOUT, Relaxed);
        self.pid.store(pid, Relaxed);
        self.start_ticks.store(start_ticks, Relaxed);
        // ORDERING: Release, pairs with Acquire in `check`: the rest of the head stands.
        self.magic.store(MAGIC, Release);
    }

    /// Whether it can be read by this version.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Unfit> {
        // ORDERING: Acquire, pairs with Release in `describe`.
        if self.magic.load(Acquire) != MAGIC {
            return Err(Unfit::NotAPage);
        }
        if self.layout.load(Relaxed) != LAYOUT {
            return Err(Unfit::OtherLayout);
        }
        Ok(())
    }

    /// The process, as it numbers itself.
    pub fn pid(&self) -> u64 {
        self.pid.load(Relaxed)
    }

    /// When the process started, in the ticks of `/proc/PID/stat`; 0 if it does not know.
    pub fn start_ticks(&self) -> u64 {
        self.start_ticks.load(Relaxed)
    }

    /// Asks for a fresh publication; [`LivePage::is_served`] tells when it is there.
    pub fn ask(&self) -> u64 {
        self.request.fetch_add(1, Relaxed) + 1
    }

    /// Whether what [`LivePage::ask`] asked for is there.
    pub fn is_served(&self, request: u64) -> bool {
        self.served.load(Relaxed) >= request
    }

    /// Whether a reader waits.
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.request.load(Relaxed) != self.served.load(Relaxed)
    }

    /// Whether anything was ever published.
    pub fn is_published(&self) -> bool {
        self.seq.load(Relaxed) != 0
    }

    /// Publishes a snapshot. One thread at a time.
    pub fn publish(&self, snapshot: &Snapshot) {
        // What is asked for from here on is not served by this.
        let request = self.request.load(Relaxed);
        let source = snapshot.words();
        let write = SeqWrite::begin(&self.seq);
        for part in snapshot.parts() {
            write.store(&self.words[part.clone()], &source[part]);
        }
        write.end();
        self.served.store(request, Relaxed);
    }

    /// Reads what was published last into `snapshot`; false when the publisher was at it all the
    /// time, or died at it, or never published.
    pub fn read(&self, snapshot: &mut Snapshot) -> bool {
        (0..TRIES).any(|_| {
            let Some(read) = SeqRead::begin(&self.seq) else {
                core::hint::spin_loop();
                return false;
            };
            if !self.is_published() {
                return false;
            }
            // First the counts, then what they say is in use.
            for i in 0..snapshot.parts().len() {
                let part = snapshot.parts()[i].clone();
                read.load(&self.words[part.clone()], &mut snapshot.words_mut()[part]);
            }
            read.is_whole()
        })
    }

    /// Bytes of the page that hold `part` of a snapshot.
    pub fn bytes_of(part: &Range<usize>) -> Range<usize> {
        let at = |word: usize| Self::HEAD_BYTES + word * size_of::<u64>();
        at(part.start)..at(part.end)
    }
}
