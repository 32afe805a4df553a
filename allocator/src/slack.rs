//! The slack of a large block: what its last pages hold behind the bytes that were asked for.
//!
//! It is filled when the block is handed out, one cache line at most, and looked at when the block is
//! freed or resized: a program that wrote past the end in between is told. The size stands in the cold
//! words of the block's head, which are links only while the pages are free, so no overflow reaches
//! it. The slack is not the program's: its usable size is what was asked for, a word at least, since a
//! free in a signal handler writes its link there.
//!
//! A block without slack has nothing to look at. What lies in fresh memory of huge pages is not filled,
//! as that would make two megabytes resident: it has to stay zero. Nor is it an error when a page's
//! part is zero from end to end: the kernel makes it so, in whole pages, where the program gives parts of
//! its block back by `madvise`.

use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use crate::checked::WORD;
use crate::mm::Mm;
use crate::pfn::Pfn;
use crate::sync::atomic::Ordering::Relaxed;

/// Bytes that are filled.
const FILLED: usize = 64;
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
            if *slack == [fill; FILLED] {
                return true;
            }
            let in_first_page = (PAGE_SIZE - size % PAGE_SIZE).min(len);
            let (first, second) = slack.split_at(in_first_page);
            [first, second].into_iter().all(|part| is_all(part, fill) || is_all(part, 0))
        });
        is_whole.then_some(size)
    }

    fn slack(&self, head: Pfn, capacity: usize, size: usize) -> Option<(NonNull<u8>, usize)> {
        let start = NonNull::new(self.pages().map.addr_of(head).wrapping_add(size))?;
        (size < capacity).then_some((start, (capacity - size).min(FILLED)))
    }
}

fn is_all(bytes: &[u8], byte: u8) -> bool {
    *bytes == [byte; FILLED][..bytes.len()]
}
