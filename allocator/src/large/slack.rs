//! The slack of a large block: what its last pages hold behind the bytes that were asked for.
//!
//! It is filled when the block is handed out, up to the end of the cache line, and looked at when the
//! block is freed or resized: a program that wrote past the end in between is told. Mostly that is the
//! line with the last bytes of the block, so it costs no other; what ends with a page costs no further
//! page. How much there is stands in the page word of a block that a thread may keep; of others the size stands in
//! the cold words of the head, which are links only while the pages are
//! free. So no overflow reaches it. The slack is not the program's: its usable size is what was asked
//! for, a word at least, since a free in a signal handler writes its link there.
//!
//! A block without slack has nothing to look at. What lies in fresh memory of huge pages is not filled,
//! as that would make two megabytes resident: it has to stay zero. Nor is it an error when a page's
//! part is zero from end to end: the kernel makes it so, in whole pages, where the program gives parts of
//! its block back by `madvise`.

use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use crate::class::MAX_SMALL;
use crate::large::kept_runs::MAX_PAGES;
use crate::misuse::checked::WORD;
use crate::mm::Mm;
use crate::pfn::Pfn;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::PageWord;

/// Bytes of a cache line: so many are filled at most.
const LINE: usize = 64;
const FILL: u8 = 0xf5;
/// Ones for the bytes of a line from one of them on: the line that begins here at `LINE` less its number.
static FROM: [u8; 2 * LINE] = {
    let mut from = [0; 2 * LINE];
    let mut at = LINE;
    while at < from.len() {
        from[at] = u8::MAX;
        at += 1;
    }
    from
};
/// The cold words of the head: what was asked for, and what the slack is filled with.
const SIZE: usize = 0;
const BYTE: usize = 1;

impl Mm {
    /// Makes the `nr_pages` pages at `head` a live block of `size` bytes, and fills its slack; `is_zero`: all of it is
    /// known to be zero. The caller owns it.
    pub(crate) fn set_large(&self, head: Pfn, nr_pages: usize, size: usize, is_zero: bool) {
        let capacity = nr_pages * PAGE_SIZE;
        // What does not fit into the cold word is a row of pageblocks: it goes without.
        let size = u32::try_from(size).map_or(capacity, |size| size as usize).max(WORD);
        let size = if self.has_slack() { size } else { capacity };
        let map = &self.pages().map;
        let chunk = map.chunk(head);
        let fill = if is_zero && chunk.is_huge() { 0 } else { FILL };
        let slack = u16::try_from(capacity - size);
        let is_kept = self.is_one_node() && !self.is_checked() && chunk.may_rest();
        // Relaxed: passes on with the pointer, as the cold words do.
        if let Ok(slack) = slack
            && is_kept
            && fill == FILL
            && size > MAX_SMALL
            && nr_pages <= MAX_PAGES
        {
            map.set_word(head, PageWord::keepable(nr_pages, slack));
        } else {
            map.set_word(head, PageWord::large(nr_pages as u32));
            map.cold(head)[SIZE].store(size as u32, Relaxed);
            map.cold(head)[BYTE].store(fill.into(), Relaxed);
        }
        if fill == FILL
            && self.has_slack()
            && let Some(slack) = self.slack(head, capacity, size)
        {
            // SAFETY: inside the block, behind what the program may use.
            unsafe { slack.start().write_bytes(fill, slack.len()) };
        }
    }

    /// The same for a run that its thread kept, of a size that it may keep, where there is one node only.
    #[inline(always)]
    pub(crate) fn set_kept(&self, head: Pfn, nr_pages: usize, size: usize) -> *mut u8 {
        debug_assert!(size > MAX_SMALL && size <= nr_pages * PAGE_SIZE);
        let map = &self.pages().map;
        let start = map.addr_of(head);
        let slack = if self.has_slack() { nr_pages * PAGE_SIZE - size } else { 0 };
        debug_assert!(slack <= super::blocks::MOST_SLACK);
        map.set_word(head, PageWord::keepable(nr_pages, slack as u16));
        if !slack.is_multiple_of(PAGE_SIZE) {
            let line = start.wrapping_add(size & !(LINE - 1)).cast::<[u8; LINE]>();
            // All of the line, which takes the fewest instructions.
            // SAFETY: inside the block, of which the program has not got any yet.
            unsafe { line.write([FILL; LINE]) };
        }
        start
    }

    /// Whether the slack behind the `size` bytes of a block that is given up is as it was filled, in the common case.
    /// False in every other case. Of two frees at a time one may come late, and find anything here: what is read lies
    /// in pages of the instance in any case, and the claim that follows tells.
    ///
    /// # Safety
    /// At `start` begin pages that were a block, more than `size` bytes if that is no multiple of a page. If it is one,
    /// nobody uses it any more.
    #[inline(always)]
    pub(crate) unsafe fn is_end_whole(start: *mut u8, size: usize) -> bool {
        if size.is_multiple_of(PAGE_SIZE) {
            // There is no slack, or it is in pages apart.
            return true;
        }
        let line = start.wrapping_add(size & !(LINE - 1)).cast::<[u8; LINE]>();
        // SAFETY: there are so many from each of them on.
        let from = unsafe { &*FROM.as_ptr().add(LINE - size % LINE).cast::<[u8; LINE]>() };
        // SAFETY: inside the block, of which it is not the end.
        let line = unsafe { line.read() };
        // All of the line, and without a way out in the middle: so many bytes are compared at a time.
        let wrong = line.iter().zip(from).fold(0, |all, (each, from)| all | ((each ^ FILL) & from));
        wrong == 0
    }

    /// The bytes that were asked for; none if somebody wrote behind them. The block at `head` is live, or its last
    /// owner has it, and has, or had, that word.
    pub(crate) fn size_before_slack(&self, head: Pfn, word: PageWord) -> Option<usize> {
        let capacity = word.large_pages() * PAGE_SIZE;
        let (size, fill) = self.noted(head, word);
        let is_keepable = word.keepable_pages() <= MAX_PAGES;
        // SAFETY: the block has so many bytes, and is the caller's.
        if is_keepable && unsafe { Mm::is_end_whole(self.pages().map.addr_of(head), size) } {
            return Some(size);
        }
        let is_whole = !self.has_slack()
            || self.slack(head, capacity, size).is_none_or(|slack| {
                // SAFETY: inside the block, initialised by `set_large`, and not the program's to write.
                let bytes = unsafe { core::slice::from_raw_parts(slack.start(), slack.len()) };
                [fill, 0].iter().any(|fill| bytes.iter().all(|byte| byte == fill))
            });
        is_whole.then_some(size)
    }

    /// What is noted of the block: the bytes that were asked for, and what follows them.
    fn noted(&self, head: Pfn, word: PageWord) -> (usize, u8) {
        let capacity = word.large_pages() * PAGE_SIZE;
        if word.keepable_pages() <= MAX_PAGES {
            return (capacity - word.slack().min(capacity), FILL);
        }
        let cold = self.pages().map.cold(head);
        let size = match cold[SIZE].load(Relaxed) as usize {
            size if u32::try_from(capacity).is_ok() => size.min(capacity),
            _ => capacity,
        };
        (size, cold[BYTE].load(Relaxed) as u8)
    }

    /// Where it is; it ends with its line.
    #[inline]
    fn slack(&self, head: Pfn, capacity: usize, size: usize) -> Option<Slack> {
        let line = self.pages().map.addr_of(head).wrapping_add(size - size % LINE);
        let is_page_apart = size.is_multiple_of(PAGE_SIZE) && size > MAX_SMALL;
        (size < capacity && !is_page_apart)
            .then_some(Slack { line: NonNull::new(line)?.cast(), before: size % LINE })
    }
}

/// The slack of a block.
#[derive(Clone, Copy)]
struct Slack {
    /// The line that it lies in.
    line: NonNull<[u8; LINE]>,
    /// Bytes of the line that are not part of it.
    before: usize,
}

impl Slack {
    fn start(self) -> *mut u8 {
        self.line.as_ptr().cast::<u8>().wrapping_add(self.before)
    }

    fn len(self) -> usize {
        LINE - self.before
    }
}
