//! The slack of a large block: what its last pages hold behind the bytes that were asked for.
//!
//! It is filled when the block is handed out, up to the end of the cache line, and looked at when the
//! block is freed or resized: a program that wrote past the end in between is told. Mostly that is the
//! line with the last bytes of the block, so it costs no other; what ends with a page costs no further
//! page. The size stands in the cold words of the block's head, which are links only while the pages are
//! free, so no overflow reaches it. The slack is not the program's: its usable size is what was asked
//! for, a word at least, since a free in a signal handler writes its link there.
//!
//! A block without slack has nothing to look at. What lies in fresh memory of huge pages is not filled,
//! as that would make two megabytes resident: it has to stay zero. Nor is it an error when a page's
//! part is zero from end to end: the kernel makes it so, in whole pages, where the program gives parts of
//! its block back by `madvise`.

use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use crate::checked::WORD;
use crate::class::MAX_SMALL;
use crate::mm::Mm;
use crate::pfn::Pfn;
use crate::sync::atomic::Ordering::Relaxed;

/// Bytes of a cache line: so many are filled at most.
const LINE: usize = 64;
const FILL: u8 = 0xf5;
/// The cold words of the head: what was asked for, and what the slack is filled with.
const SIZE: usize = 0;
const BYTE: usize = 1;

impl Mm {
    /// Fills the slack of the block of `nr_pages` pages at `head`, of which `size` bytes are asked
    /// for; `is_zero`: all of it is known to be zero. The caller owns it.
    pub(crate) fn fill_slack(&self, head: Pfn, nr_pages: usize, size: usize, is_zero: bool) {
        if !self.has_slack() {
            return;
        }
        let capacity = nr_pages * PAGE_SIZE;
        // What does not fit into the word is a row of pageblocks: it goes without.
        let size = u32::try_from(size).map_or(capacity, |size| size as usize).max(WORD);
        // Relaxed: passes on with the pointer, as the page word does.
        let map = &self.pages().map;
        let fill = if is_zero && map.chunk(head).is_huge() { 0 } else { FILL };
        map.cold(head)[SIZE].store(size as u32, Relaxed);
        map.cold(head)[BYTE].store(fill.into(), Relaxed);
        if fill == 0 {
            return;
        }
        if let Some((start, len)) = self.slack(head, capacity, size) {
            // SAFETY: inside the block, behind what the program may use.
            unsafe { start.write_bytes(fill, len) };
        }
    }

    /// The bytes that were asked for; none if somebody wrote behind them. The block of `nr_pages`
    /// pages at `head` is live.
    pub(crate) fn size_before_slack(&self, head: Pfn, nr_pages: usize) -> Option<usize> {
        let capacity = nr_pages * PAGE_SIZE;
        if !self.has_slack() {
            return Some(capacity);
        }
        let cold = self.pages().map.cold(head);
        let size = match cold[SIZE].load(Relaxed) as usize {
            size if u32::try_from(capacity).is_ok() => size.min(capacity),
            _ => capacity,
        };
        let is_whole = self.slack(head, capacity, size).is_none_or(|(start, len)| {
            // SAFETY: inside the block, initialised by `fill_slack`, and not the program's to write.
            let slack = unsafe { core::slice::from_raw_parts(start.as_ptr(), len) };
            let fill = cold[BYTE].load(Relaxed) as u8;
            is_all(slack, fill) || is_all(slack, 0)
        });
        is_whole.then_some(size)
    }

    /// Where it begins, and how much of it is filled. It lies in one page, since it does in one line.
    fn slack(&self, head: Pfn, capacity: usize, size: usize) -> Option<(NonNull<u8>, usize)> {
        let start = NonNull::new(self.pages().map.addr_of(head).wrapping_add(size))?;
        let is_page_apart = size.is_multiple_of(PAGE_SIZE) && size > MAX_SMALL;
        (size < capacity && !is_page_apart).then_some((start, LINE - size % LINE))
    }
}

fn is_all(bytes: &[u8], byte: u8) -> bool {
    let (bytes, words) = bytes.as_rchunks();
    let differ = words.iter().map(|&word| u64::from_ne_bytes(word) ^ u64::from_ne_bytes([byte; 8]));
    let differ = differ.chain(bytes.iter().map(|&each| u64::from(each ^ byte)));
    // Without a way out in the middle, which would be taken for nobody.
    differ.fold(0, |all, each| all | each) == 0
}
