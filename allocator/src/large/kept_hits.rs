//! Hits of large blocks: their thread keeps a run that will do, or has room for one that is freed; or else the
//! threads of the node leave such runs for each other.
//!
//! The common case comes first, each time: it is as a hit of a bin, by a thread that has marked its heap and no more
//! (`heap/kept.rs` tells who has the runs), and goes back to the caller before anything
//! is changed where it is not the case. What is less common follows, inside the gate but still without a visit, and
//! changes nothing but the room that it reserves where it cannot be done: [`Mm::alloc_large`] and
//! [`Mm::free_large`] do all of it.

use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use crate::class::MAX_SMALL;
use crate::free::Remote;
use crate::heap::Heap;
use crate::hot::HeapHot;
use crate::large::kept_pages_for;
use crate::large::kept_runs::MAX_PAGES;
use crate::misuse::checked::WORD;
use crate::mm::Mm;
use crate::run::PageRun;
use crate::word::{Kind, PageWord};

/// What became of a block that is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: it is none, or there is no room, or something is wrong with it.
    No,
    /// Its thread keeps it, or the threads of its node do.
    Yes,
    /// The same, as so many before that it is time to see whether anything else is to be done.
    YesAfterMany,
}

impl Heap {
    /// Whether a thread may keep a block of that size when it is freed.
    #[inline(always)]
    pub fn may_keep(size: usize) -> bool {
        (MAX_SMALL + 1..=MAX_PAGES * PAGE_SIZE).contains(&size)
    }

    /// A block that the thread keeps, of the right length or slightly longer, whatever lies in it: the common case.
    /// None, and nothing changed, in every other case. Its start is that of a page.
    ///
    /// # Safety
    /// The calling thread owns this heap, of which [`Heap::has_large_hits`] is true, and has marked it by a hit, with
    /// no slow path under way; [`Heap::may_keep`] is true of `size`.
    #[inline(always)]
    pub unsafe fn take_large_at_once(&self, size: usize) -> Option<NonNull<u8>> {
        debug_assert!(Heap::may_keep(size));
        if self.is_visited() {
            return None;
        }
        let nr_pages = kept_pages_for(size);
        // SAFETY: a marked heap's are its owner's, unless somebody has claimed it.
        let runs = unsafe { &mut *self.kept_runs() };
        let exact = runs.take_exact(nr_pages).map(|head| (head, nr_pages));
        let (head, nr_pages) = exact.or_else(|| runs.take_fit(nr_pages))?;
        let start = self.mm().set_kept(head, nr_pages, size);
        // SAFETY: the window does not begin at address 0.
        Some(unsafe { NonNull::new_unchecked(start) })
    }

    /// The same of any length that will do, of what others left, too.
    ///
    /// # Safety
    /// The calling thread owns this heap, of which [`Heap::keeps_large`] is true, outside the gate; [`Heap::may_keep`] is true of `size`.
    pub unsafe fn take_large(&self, size: usize) -> Option<NonNull<u8>> {
        let mm = self.mm();
        if mm.has_deferred() {
            return None;
        }
        let nr_pages = kept_pages_for(size);
        let run = self.try_enter()?.large().find(mm.pages(), self.node(), nr_pages)?;
        let nr_pages = run.nr_pages();
        NonNull::new(mm.set_kept(run.into_head(), nr_pages, size))
    }

    /// Keeps a block that the program gives up, if the thread has room, and if the size that the program tells can be
    /// the one that was asked for: the common case, where nothing is changed in every other case.
    ///
    /// # Safety
    /// As for [`Heap::free`]; [`Heap::has_large_hits`] is true of this heap, which is marked as for
    /// [`Heap::take_large_at_once`], and in which `block` was found.
    #[inline(always)]
    pub unsafe fn keep_large_at_once(&self, block: Remote, told: Option<usize>) -> bool {
        let mm = self.mm();
        let (start, word) = (block.object(), block.word());
        let nr_pages = word.keepable_pages();
        // With one that waits, this may be the second free of that block.
        if nr_pages > MAX_PAGES
            || !start.addr().is_multiple_of(PAGE_SIZE)
            || mm.has_deferred()
            || self.is_visited()
        {
            return false;
        }
        let size = nr_pages * PAGE_SIZE - word.slack();
        // SAFETY: a marked heap's are its owner's, unless somebody has claimed it.
        let runs = unsafe { &mut *self.kept_runs() };
        // SAFETY: the caller gives the block up, if it is one; it has so many pages.
        let is_whole = || unsafe { Mm::is_end_whole(start, size) };
        if told.is_some_and(|told| is_wrong(told, size, nr_pages))
            || !runs.takes_at_once(nr_pages)
            || !is_whole()
        {
            return false;
        }
        // SAFETY: the hit path found the word of its page.
        let pfn = unsafe { HeapHot::pfn_of(self.hot(), start.addr()) };
        // Nobody else can have it when it is found twice at a time.
        if !mm.pages().map.claim(pfn, word, PageWord::pcp(nr_pages as u32)) {
            return false;
        }
        runs.push(pfn, nr_pages);
        self.note_use();
        mm.doorbell().ring();
        true
    }

    /// The same among nodes as well, where room is to be made, and where slack is not as it was filled but may be so.
    /// What finds no room is left for others.
    ///
    /// # Safety
    /// As for [`Heap::free`]; `block` was found in this heap.
    pub unsafe fn keep_large(&self, block: Remote, told: Option<usize>) -> Kept {
        let mm = self.mm();
        let (start, word) = (block.object(), block.word());
        let nr_pages = word.large_pages();
        if word.kind() != Kind::Large
            || nr_pages > MAX_PAGES
            || !start.addr().is_multiple_of(PAGE_SIZE)
            || mm.has_deferred()
            || mm.is_checked()
        {
            return Kept::No;
        }
        let pages = mm.pages();
        // SAFETY: the hit path found the word of its page.
        let pfn = unsafe { HeapHot::pfn_of(self.hot(), start.addr()) };
        // What is wrong with it the long way says.
        let Some(size) = mm.size_before_slack(pfn, word) else { return Kept::No };
        if told.is_some_and(|told| is_wrong(told, size, nr_pages))
            || !pages.may_rest(pfn, self.node())
        {
            return Kept::No;
        }
        let Some(mut inner) = self.try_enter() else { return Kept::No };
        let mut large = inner.large();
        let is_time = large.look_after_many(pages);
        let has_room = large.make_room(pages, nr_pages);
        if !pages.map.claim(pfn, word, PageWord::pcp(nr_pages as u32)) {
            return Kept::No;
        }
        if has_room {
            large.runs.push(pfn, nr_pages);
        } else if let Err(run) = large.leave(pages, self.node(), PageRun::new(pfn, nr_pages, false))
        {
            // As it was, for the long way: it stays the caller's, and a second free was refused meanwhile.
            pages.map.set_word(run.into_head(), word);
            return Kept::No;
        }
        mm.doorbell().ring();
        if is_time { Kept::YesAfterMany } else { Kept::Yes }
    }
}

/// Whether a block of `nr_pages` pages and `known` bytes cannot have the size that the program tells.
#[inline(always)]
fn is_wrong(told: usize, known: usize, nr_pages: usize) -> bool {
    // A block is a word long at least. Where no slack is left, it may be that the size is not known.
    let told = told.max(WORD);
    told != known && (told > known || known != nr_pages * PAGE_SIZE)
}

#[cfg(test)]
impl Heap {
    /// What a request comes to first, where it may.
    ///
    /// # Safety
    /// The calling thread owns this heap.
    pub(crate) unsafe fn try_alloc_large(&self, size: usize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.keeps_large() || !Heap::may_keep(size) {
                return None;
            }
            let at_once = self.has_large_hits().then(|| self.take_large_at_once(size));
            at_once.flatten().or_else(|| self.take_large(size))
        }
    }

    /// Only the common case of a free.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub(crate) unsafe fn try_keep_at_once(&self, object: *mut u8, told: Option<usize>) -> bool {
        self.sync_hot();
        // SAFETY: the caller's promise.
        unsafe {
            let word = HeapHot::word_of(self.hot(), object);
            let block = word.map(|word| Remote::new(object, word));
            block.is_some_and(|block| self.keep_large_at_once(block, told))
        }
    }

    /// What a free comes to first, after a push that missed.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub(crate) unsafe fn try_keep_large(&self, object: NonNull<u8>, told: Option<usize>) -> Kept {
        self.sync_hot();
        // SAFETY: the caller's promise.
        unsafe {
            let Some(word) = HeapHot::word_of(self.hot(), object.as_ptr()) else { return Kept::No };
            let block = Remote::new(object.as_ptr(), word);
            if self.has_large_hits() && self.keep_large_at_once(block, told) {
                return Kept::Yes;
            }
            self.keep_large(block, told)
        }
    }

    /// Whether it is kept so.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    pub(crate) unsafe fn try_free_large(&self, object: NonNull<u8>, told: Option<usize>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.try_keep_large(object, told) != Kept::No }
    }
}
