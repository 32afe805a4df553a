//! Free runs of large blocks, found by their length and by their age.
//!
//! Each lies on a stack of those of its length, with the time at which it came: a hit takes the newest of the length
//! that it wants, or else of the shortest that will do, in a few instructions. What leaves is the oldest of all
//! stacks: for that they are searched, which only who asks the zone has to do.
//!
//! Time is what came so far, in pages. So a run's age tells how much was kept since, and how much of that was used.
//!
//! # Whose they are
//!
//! What a thread keeps goes with its heap, see [`crate::heap::Heap::kept_runs`]: a hit that has marked the heap takes
//! and leaves a run without the gate. It may be left in the middle, by a jump out of a handler, and so may what a
//! forked child finds. **`[K1]` A run is on its stack by one store, which comes last as it is put there, and
//! first as it is taken.** So what is left has no run twice, and at worst misses a run and a place; the pages
//! that it counts are no fewer than it has. **`[K2]` A place that was left leads to such places only**, at any time:
//! else a place would be given to two runs.

#[cfg(all(test, target_arch = "x86_64", not(zonal_loom)))]
mod tests;

use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::compiler_fence;

use zonal_numa::PAGE_SIZE;

use crate::class::MAX_SMALL;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Release;
use crate::word::PageWord;

/// The longest run that is kept, in pages.
pub(crate) const MAX_PAGES: usize = u64::BITS as usize;
/// What is left of a run that is cut has so many pages at least, as the shortest large block.
const LEAST_REST: usize = MAX_SMALL / PAGE_SIZE + 2;
/// A run may be longer than what is asked for by one part in so many.
pub(crate) const FIT_PART: usize = 4;

/// So many lengths are looked at in one go.
const AT_A_TIME: usize = size_of::<u128>();

/// Runs, fewer than `PLACES` of them, at most 256: the first place is none's. **All zeros are one without
/// runs, that keeps none.**
///
/// What stands behind the first place is written with the first runs, from the front: where there are none,
/// it needs no memory.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct KeptRuns<const PLACES: usize> {
    nr_pages: usize,
    /// Hits keep no more pages than that,
    pub(crate) limit: usize,
    /// and none that comes then or later.
    pause: u32,
    /// Pages that came so far.
    now: u32,
    /// The place that was left last, its `below` is the one before; `NONE`: none.
    left: u8,
    /// So many places were ever taken.
    opened: u8,
    /// The newest of each length; of none there is none, nor of what is longer than the longest.
    newest: [u8; MAX_PAGES + AT_A_TIME],
    places: [MaybeUninit<Place>; PLACES],
}

/// No place.
const NONE: u8 = 0;

/// A run.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Place {
    head: Pfn,
    came: u32,
    /// The next older one of that length.
    below: u8,
}

impl<const PLACES: usize> KeptRuns<PLACES> {
    /// Bytes at its front that are written before it has a run.
    pub(crate) const WRITTEN: usize = offset_of!(KeptRuns<PLACES>, places);

    /// Makes one without runs in `place`.
    ///
    /// # Safety
    /// `place` is valid for it.
    pub(crate) unsafe fn init(place: *mut KeptRuns<PLACES>) {
        // SAFETY: what the caller gives; what is not written may be anything.
        unsafe { place.cast::<u8>().write_bytes(0, Self::WRITTEN) };
    }

    /// Pages of all of them.
    #[inline]
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// The same of what may change meanwhile: an estimate.
    ///
    /// # Safety
    /// `this` was initialised.
    pub(crate) unsafe fn peek_pages(this: *const KeptRuns<PLACES>) -> usize {
        // SAFETY: the caller's promise.
        unsafe { (&raw const (*this).nr_pages).read() }
    }

    /// Pages that came so far; begins again after the largest number.
    pub(crate) fn now(&self) -> u32 {
        self.now
    }

    /// Whether there is a place for another one.
    #[inline(always)]
    pub(crate) fn has_place(&self) -> bool {
        self.left != NONE || usize::from(self.opened) + 1 < PLACES
    }

    /// Whether a hit keeps a run of that length.
    #[inline(always)]
    pub(crate) fn takes_at_once(&self, nr_pages: usize) -> bool {
        self.nr_pages + nr_pages <= self.limit && !self.is_paused() && self.has_place()
    }

    /// Whether hits keep nothing: until [`KeptRuns::pause_after`].
    #[inline(always)]
    pub(crate) fn is_paused(&self) -> bool {
        self.now.wrapping_sub(self.pause).cast_signed() >= 0
    }

    /// Lets hits keep so many pages from now on.
    pub(crate) fn pause_after(&mut self, nr_pages: u32) {
        self.pause = self.now.wrapping_add(nr_pages);
    }

    /// Whether there is a run of just that length.
    pub(crate) fn has(&self, nr_pages: usize) -> bool {
        self.newest_of(nr_pages) != NONE
    }

    /// A run of `nr_pages` pages, at most [`MAX_PAGES`], or slightly more. **Its word still says that it is
    /// kept**: whoever gets it hands it out before anything can fail, and so writes another one.
    pub(crate) fn take(&mut self, nr_pages: usize) -> Option<PageRun> {
        let (head, length) = self.take_fit(nr_pages)?;
        Some(PageRun::new(head, length, false))
    }

    /// The same of exactly that length.
    #[inline(always)]
    pub(crate) fn take_exact(&mut self, nr_pages: usize) -> Option<Pfn> {
        let newest = *self.newest.get(nr_pages)?;
        (newest != NONE).then(|| self.pop(newest, nr_pages))
    }

    /// The shortest that is no more than slightly longer.
    #[inline(always)]
    pub(crate) fn take_fit(&mut self, nr_pages: usize) -> Option<(Pfn, usize)> {
        // One look sees all that will do.
        const { assert!(MAX_PAGES / (FIT_PART + 1) < AT_A_TIME) };
        let length = self.first_from(nr_pages)?;
        let is_fit = length <= nr_pages + nr_pages / FIT_PART;
        is_fit.then(|| (self.pop(self.newest[length], length), length))
    }

    /// A run that is longer than what would do, so that what is left of it is long enough for others; its
    /// word as in [`KeptRuns::take`].
    pub(crate) fn take_longer(&mut self, nr_pages: usize) -> Option<PageRun> {
        self.shortest_from(nr_pages + LEAST_REST)
    }

    /// The newest run of the least length there is, `least` pages or more.
    fn shortest_from(&mut self, least: usize) -> Option<PageRun> {
        let length =
            (least..=MAX_PAGES).step_by(AT_A_TIME).find_map(|least| self.first_from(least))?;
        Some(PageRun::new(self.pop(self.newest[length], length), length, false))
    }

    /// The least length of which there is a run, of `least` and the next ones.
    #[inline(always)]
    fn first_from(&self, least: usize) -> Option<usize> {
        let lengths = self.newest.get(least..)?.first_chunk()?;
        // The first byte that is not `NONE`, as one number.
        let newest = u128::from_le_bytes(*lengths);
        (newest != 0).then(|| least + newest.trailing_zeros() as usize / 8)
    }

    /// Any run. The words of it are all 0.
    pub(crate) fn take_any(&mut self, pages: &Pages) -> Option<PageRun> {
        let run = self.shortest_from(1);
        match &run {
            Some(run) => pages.map.set_word(run.head(), PageWord::NOTHING),
            // One may have been lost, see [K1].
            None => self.nr_pages = 0,
        }
        run
    }

    /// The one that came first; its words are all 0, too.
    pub(crate) fn take_oldest(&mut self, pages: &Pages) -> Option<PageRun> {
        let now = self.now;
        let age = |place: &Place| now.wrapping_sub(place.came);
        let mut oldest: Option<(u32, usize)> = None;
        for nr_pages in 1..=MAX_PAGES {
            let bottom = self.stack(nr_pages).last();
            let found = bottom.map(|at| (age(self.at(at)), nr_pages));
            oldest = oldest.max(found);
        }
        let (age_of_oldest, nr_pages) = oldest?;
        let is_it = |place: &Place| age(place) == age_of_oldest;
        self.let_go(pages, nr_pages, is_it)
    }

    /// One that leaves so that `keep` pages stay: the oldest, or, where all leave, any.
    pub(crate) fn take_to_keep(&mut self, pages: &Pages, keep: usize) -> Option<PageRun> {
        if keep == 0 { self.take_any(pages) } else { self.take_oldest(pages) }
    }

    /// One that starts from `start` up to `end`; its words are all 0, too.
    pub(crate) fn take_from(&mut self, pages: &Pages, start: Pfn, end: Pfn) -> Option<PageRun> {
        let is_it = |place: &Place| (start..end).contains(&place.head);
        (1..=MAX_PAGES).find_map(|nr_pages| self.let_go(pages, nr_pages, is_it))
    }

    /// Keeps a run of at most [`MAX_PAGES`] that the program did not free just now, for which there is a place.
    pub(crate) fn keep(&mut self, pages: &Pages, run: PageRun) {
        let nr_pages = run.nr_pages();
        let head = run.into_head();
        pages.map.set_word(head, PageWord::pcp(nr_pages as u32));
        self.keep_kept(head, nr_pages);
    }

    /// The same where its word says so already.
    pub(crate) fn keep_kept(&mut self, head: Pfn, nr_pages: usize) {
        self.push(head, nr_pages);
        self.pause = self.pause.wrapping_add(nr_pages as u32);
    }

    /// A run that the program freed goes elsewhere.
    pub(crate) fn note_elsewhere(&mut self, nr_pages: usize) {
        self.pause = self.pause.wrapping_sub(nr_pages as u32);
    }

    /// Keeps a run that the program freed, for which there is a place, and whose word says so already.
    #[inline(always)]
    pub(crate) fn push(&mut self, head: Pfn, nr_pages: usize) {
        let place = self.open_place();
        let below = self.newest_of(nr_pages);
        let came = self.now.wrapping_add(nr_pages as u32);
        self.now = came;
        self.place(place).write(Place { head, came, below });
        self.nr_pages += nr_pages;
        // [K1]
        compiler_fence(Release);
        self.newest[nr_pages] = place;
    }

    /// A place without a run: there is one.
    #[inline(always)]
    fn open_place(&mut self) -> u8 {
        let left = self.left;
        if left == NONE {
            assert!(usize::from(self.opened) + 1 < PLACES);
            self.opened += 1;
            return self.opened;
        }
        self.left = self.at(left).below;
        // [K2]
        compiler_fence(Release);
        left
    }

    /// Takes the newest run of its length out, which is in `place`. Its word still says that it is kept.
    #[inline(always)]
    fn pop(&mut self, place: u8, nr_pages: usize) -> Pfn {
        let Place { head, below, .. } = *self.at(place);
        self.newest[nr_pages] = below;
        // [K1]
        compiler_fence(Release);
        self.leave(place, nr_pages);
        head
    }

    /// What was in `place` is on no stack any more.
    #[inline(always)]
    fn leave(&mut self, place: u8, nr_pages: usize) {
        let left = self.left;
        self.at_mut(place).below = left;
        // [K2]
        compiler_fence(Release);
        self.left = place;
        self.nr_pages -= nr_pages;
    }

    /// Takes the newest run of that length out that is the one, for who does not hand it out.
    fn let_go(
        &mut self,
        pages: &Pages,
        nr_pages: usize,
        is_it: impl Fn(&Place) -> bool,
    ) -> Option<PageRun> {
        let place = self.stack(nr_pages).find(|&at| is_it(self.at(at)))?;
        let above = self.stack(nr_pages).take_while(|&at| at != place).last();
        let Place { head, below, .. } = *self.at(place);
        match above {
            Some(above) => self.at_mut(above).below = below,
            None => self.newest[nr_pages] = below,
        }
        self.leave(place, nr_pages);
        pages.map.set_word(head, PageWord::NOTHING);
        Some(PageRun::new(head, nr_pages, false))
    }

    /// The places of the runs of that length, the newest first.
    fn stack(&self, nr_pages: usize) -> impl Iterator<Item = u8> {
        let is_one = |&at: &u8| at != NONE;
        let newest = Some(self.newest_of(nr_pages)).filter(is_one);
        core::iter::successors(newest, move |&at| Some(self.at(at).below).filter(is_one))
    }

    /// The place of the newest run of that length; `NONE` if there is none.
    #[inline]
    fn newest_of(&self, nr_pages: usize) -> u8 {
        debug_assert!((1..=MAX_PAGES).contains(&nr_pages));
        self.newest[nr_pages]
    }

    /// A place with a run, or that was left.
    #[inline]
    fn at(&self, place: u8) -> &Place {
        debug_assert!(place != NONE && place <= self.opened);
        // SAFETY: only places are named that were opened, and `open_place` opens no more than there are; `push` wrote
        // to each of them.
        unsafe { self.places.get_unchecked(usize::from(place)).assume_init_ref() }
    }

    #[inline]
    fn at_mut(&mut self, place: u8) -> &mut Place {
        debug_assert!(place != NONE && place <= self.opened);
        // SAFETY: as in `at`.
        unsafe { self.places.get_unchecked_mut(usize::from(place)).assume_init_mut() }
    }

    #[inline]
    fn place(&mut self, place: u8) -> &mut MaybeUninit<Place> {
        debug_assert!(place <= self.opened && usize::from(self.opened) < PLACES);
        // SAFETY: as in `at`.
        unsafe { self.places.get_unchecked_mut(usize::from(place)) }
    }
}
