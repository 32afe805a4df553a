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

use core::fmt;
use core::mem::offset_of;
use core::ops::Range;

use crate::snapshot::{LAYOUT, Snapshot};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU64, fault, fence};

const MAGIC: u64 = u64::from_le_bytes(*b"zonal\0\0\x01");
const WORDS: usize = size_of::<Snapshot>() / size_of::<u64>();
/// Bytes of the file.
pub const PAGE_BYTES: usize = size_of::<LivePage>();
/// How often a reader tries before it says that the page is being written.
const TRIES: u32 = 64;

/// The folder of a user's live pages is this with the user's number.
pub const FOLDER: &str = "/dev/shm/zonal-";

/// The name of a page in its folder, `PID.NAMESPACE`: containers may share the folder, and each
/// numbers its processes from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageName {
    /// The process, as it numbers itself.
    pub pid: u64,
    /// The inode of `/proc/PID/ns/pid`; 0 where the process has no `/proc`.
    pub namespace: u64,
}

impl PageName {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<PageName> {
        let (pid, namespace) = text.split_once('.')?;
        Some(PageName { pid: pid.parse().ok()?, namespace: namespace.parse().ok()? })
    }
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pid, self.namespace)
    }
}

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

/// The publisher's side of the sequence lock.
#[derive(Debug)]
pub struct SeqWrite<'a> {
    seq: &'a AtomicU64,
    at: u64,
}

impl<'a> SeqWrite<'a> {
    /// From here on readers do not trust what they read.
    pub fn begin(seq: &'a AtomicU64) -> SeqWrite<'a> {
        // A publisher that died in a forked parent's copy may have left it odd.
        let at = seq.load(Relaxed) | 1;
        seq.store(at, Relaxed);
        if !fault("seq_no_write_fence") {
            // ORDERING: Release, pairs with the Acquire fence in `SeqRead::is_whole`: who sees one
            // of the words stored below sees the odd number.
            fence(Release);
        }
        SeqWrite { seq, at }
    }

    /// Stores words.
    pub fn store(&self, to: &[AtomicU64], from: &[u64]) {
        for (to, from) in to.iter().zip(from) {
            to.store(*from, Relaxed);
        }
    }

    /// The words are whole.
    pub fn end(self) {
        let order = if fault("seq_end_relaxed") { Relaxed } else { Release };
        // ORDERING: Release, pairs with Acquire in `SeqRead::begin`: the words are stored.
        self.seq.store(self.at + 1, order);
    }
}

/// A reader's side of the sequence lock.
#[derive(Debug)]
pub struct SeqRead<'a> {
    seq: &'a AtomicU64,
    at: u64,
}

impl<'a> SeqRead<'a> {
    /// Begins a try; none while the publisher is at it.
    pub fn begin(seq: &'a AtomicU64) -> Option<SeqRead<'a>> {
        // ORDERING: Acquire, pairs with Release in `SeqWrite::end`.
        let at = seq.load(Acquire);
        at.is_multiple_of(2).then_some(SeqRead { seq, at })
    }

    /// Loads words.
    pub fn load(&self, from: &[AtomicU64], to: &mut [u64]) {
        for (from, to) in from.iter().zip(to) {
            *to = from.load(Relaxed);
        }
    }

    /// Whether all that was loaded belongs to one publication.
    pub fn is_whole(self) -> bool {
        if !fault("seq_no_read_fence") {
            // ORDERING: Acquire, pairs with the Release fence in `SeqWrite::begin`.
            fence(Acquire);
        }
        self.seq.load(Relaxed) == self.at
    }
}

#[cfg(all(test, not(zonal_loom)))]
mod tests {
    use super::*;

    fn page() -> Box<LivePage> {
        // SAFETY: all zeros is a page.
        unsafe { Box::<LivePage>::new_zeroed().assume_init() }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = PageName { pid: 17, namespace: 4_026_531_836 };
        assert_eq!(PageName::parse(&std::format!("{name}")), Some(name));
        for other in ["", "17", "17.", ".1", "17.x", "-1.2", "1.2.3"] {
            assert_eq!(PageName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_published_is_read() {
        let page = page();
        let mut read = Box::<Snapshot>::default();
        assert_eq!(page.check(), Err(Unfit::NotAPage));
        page.describe(7, 1);
        assert_eq!(page.check(), Ok(()));
        assert!(!page.read(&mut read));
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.nr_nodes = 2;
        snapshot.nodes[1].zone.nr_free = 33;
        snapshot.nr_pageblocks = 1;
        snapshot.pageblocks[0].slab = 512;
        let request = page.ask();
        assert!(page.is_asked() && !page.is_served(request));
        page.publish(&snapshot);
        assert!(!page.is_asked() && page.is_served(request));
        assert!(page.read(&mut read));
        assert_eq!(read.nodes()[1].zone.nr_free, 33);
        assert_eq!(read.pageblocks[0], snapshot.pageblocks[0]);
    }

    #[test]
    fn counts_beyond_the_tables_are_cut() {
        let page = page();
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.nr_sections = u64::MAX;
        snapshot.nr_classes = u64::MAX;
        page.publish(&snapshot);
        let mut read = Box::<Snapshot>::default();
        assert!(page.read(&mut read));
        assert_eq!(read.sections().len(), crate::MAX_SECTIONS);
    }

    /// A publisher that was killed in the middle leaves the number odd.
    #[test]
    fn a_torn_page_is_refused() {
        let page = page();
        page.publish(&Box::<Snapshot>::default());
        let write = SeqWrite::begin(&page.seq);
        assert!(!page.read(&mut Box::<Snapshot>::default()));
        write.end();
        assert!(page.read(&mut Box::<Snapshot>::default()));
    }

    #[test]
    fn readers_beside_a_publisher_see_whole_snapshots() {
        let page = page();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut snapshot = Box::<Snapshot>::default();
                for round in 1..=20_000 {
                    snapshot.pid = round;
                    snapshot.nr_classes = 64;
                    snapshot.classes.iter_mut().for_each(|class| class.nr_slabs = round);
                    page.publish(&snapshot);
                }
            });
            let mut read = Box::<Snapshot>::default();
            while read.pid < 20_000 {
                if page.read(&mut read) {
                    let pid = read.pid;
                    assert!(read.classes().iter().all(|class| class.nr_slabs == pid));
                }
            }
        });
    }
}
