//! Free runs of large blocks, found by their length and by their age.
//!
//! Each has a place: in a ring of all runs by age, and on a stack of those of its length. So a request finds the
//! newest run of its length in a few instructions, or looks on for the shortest that will do, and what is oldest
//! leaves first. What leaves from below the top of its stack is
//! searched for from there.
//!
//! Few stores, and what belongs to a run beside each other: a program that touches its new block for the first
//! time makes the processor wait for that line, and meanwhile only so many later stores can be under way.

use core::mem::{MaybeUninit, offset_of};

use zonal_numa::PAGE_SIZE;

use crate::class::MAX_SMALL;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::PageWord;

/// The longest run that is kept, in pages.
pub(crate) const MAX_PAGES: usize = u64::BITS as usize;
/// What is left of a run that is cut has so many pages at least, as the shortest large block.
const LEAST_REST: usize = MAX_SMALL / PAGE_SIZE + 2;
/// A run may be longer than what is asked for by one part in so many.
pub(crate) const FIT_PART: usize = 4;

/// Runs, fewer than `PLACES` of them, at most 256: the first place is none's. **All zeros are one without
/// runs.**
///
/// What stands behind the first place is written with the first runs, from the front: where there are none,
/// it needs no memory.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct KeptRuns<const PLACES: usize> {
    nr_pages: usize,
    /// The place that was left last, its `older` is the one before; `END`: none.
    left: u8,
    /// So many places were ever taken.
    opened: u8,
    /// The newest of each length; of none there is none.
    newest: [u8; MAX_PAGES + 1],
    /// That of `END` has the ends of the ring.
    places: [MaybeUninit<Place>; PLACES],
}

/// Where the ring of all runs begins and ends, and what lies below the last of a stack.
const END: u8 = 0;

/// A run, and its neighbours.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Place {
    head: Pfn,
    nr_pages: u8,
    known_zero: bool,
    /// The next older one of that length.
    below: u8,
    /// The neighbours in age.
    older: u8,
    newer: u8,
}

impl Place {
    const END: Place = Place {
        head: Pfn::new(0),
        nr_pages: 0,
        known_zero: false,
        below: END,
        older: END,
        newer: END,
    };
}

impl<const PLACES: usize> KeptRuns<PLACES> {
    /// Bytes at its front that are written before it has a run.
    pub(crate) const WRITTEN: usize = offset_of!(KeptRuns<PLACES>, places) + size_of::<Place>();

    /// Makes one without runs in `place`.
    ///
    /// # Safety
    /// `place` is valid for it.
    pub(crate) unsafe fn init(place: *mut KeptRuns<PLACES>) {
        // SAFETY: each write goes to a field of `*place`, which the caller gives. The others may be
        // anything.
        unsafe {
            (&raw mut (*place).nr_pages).write(0);
            (&raw mut (*place).left).write(END);
            (&raw mut (*place).opened).write(0);
            (&raw mut (*place).newest).write([END; MAX_PAGES + 1]);
            (&raw mut (*place).places[0]).write(MaybeUninit::new(Place::END));
        }
    }

    /// Pages of all of them.
    #[inline]
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Whether there is a place for another one.
    #[inline]
    pub(crate) fn has_place(&self) -> bool {
        self.left != END || usize::from(self.opened) + 1 < PLACES
    }

    /// Whether there is a run of just that length.
    pub(crate) fn has(&self, nr_pages: usize) -> bool {
        self.newest_of(nr_pages) != END
    }

    /// A run of `nr_pages` pages, at most [`MAX_PAGES`], or slightly more. **Its word still says that it is
    /// kept**: whoever gets it hands it out before anything can fail, and so writes another one.
    pub(crate) fn take(&mut self, nr_pages: usize) -> Option<PageRun> {
        self.shortest(nr_pages, nr_pages + nr_pages / FIT_PART)
    }

    /// The same of exactly that length, and not known to be zero.
    #[inline(always)]
    pub(crate) fn take_exact(&mut self, nr_pages: usize) -> Option<Pfn> {
        let newest = *self.newest.get(nr_pages)?;
        if newest == END || self.at(newest).known_zero {
            return None;
        }
        Some(self.pop(newest, nr_pages).into_head())
    }

    /// A run that is longer than what would do, so that what is left of it is long enough for others; its
    /// word as in [`KeptRuns::take`].
    pub(crate) fn take_longer(&mut self, nr_pages: usize) -> Option<PageRun> {
        self.shortest(nr_pages + LEAST_REST, MAX_PAGES)
    }

    /// The newest run of the least length there is, `least` to `most` pages.
    fn shortest(&mut self, least: usize, most: usize) -> Option<PageRun> {
        let lengths = self.newest.get(least..=most.min(MAX_PAGES))?;
        let length = least + lengths.iter().position(|&newest| newest != END)?;
        Some(self.pop(self.newest[length], length))
    }

    /// Pages of the run that came last.
    pub(crate) fn newest_pages(&mut self) -> Option<usize> {
        let newest = self.at(END).older;
        (newest != END).then(|| self.at(newest).nr_pages.into())
    }

    /// The same for who keeps it elsewhere: its word still says so.
    pub(crate) fn pop_newest(&mut self) -> Option<PageRun> {
        let newest = self.at(END).older;
        let nr_pages = self.at(newest).nr_pages.into();
        // Nothing newer lies above it.
        (newest != END).then(|| self.pop(newest, nr_pages))
    }

    /// The run that came last. The words of it are all 0.
    pub(crate) fn take_newest(&mut self, pages: &Pages) -> Option<PageRun> {
        let newest = self.at(END).older;
        (newest != END).then(|| self.let_go(pages, newest))
    }

    /// The one that came first; its words are all 0, too.
    pub(crate) fn take_oldest(&mut self, pages: &Pages) -> Option<PageRun> {
        let oldest = self.at(END).newer;
        (oldest != END).then(|| self.let_go(pages, oldest))
    }

    /// One that leaves so that `keep` pages stay: the oldest, or, where all leave, the newest, for which no
    /// stack is searched.
    pub(crate) fn take_to_keep(&mut self, pages: &Pages, keep: usize) -> Option<PageRun> {
        if keep == 0 { self.take_newest(pages) } else { self.take_oldest(pages) }
    }

    /// One that starts from `start` up to `end`; its words are all 0, too.
    pub(crate) fn take_from(&mut self, pages: &Pages, start: Pfn, end: Pfn) -> Option<PageRun> {
        let mut place = self.at(END).newer;
        while place != END {
            if (start..end).contains(&self.at(place).head) {
                return Some(self.let_go(pages, place));
            }
            place = self.at(place).newer;
        }
        None
    }

    /// Keeps a run of at most [`MAX_PAGES`], for which there is a place.
    pub(crate) fn keep(&mut self, pages: &Pages, run: PageRun) {
        pages.map.word(run.head()).store(PageWord::pcp(run.nr_pages() as u32).raw(), Relaxed);
        self.push(run);
    }

    /// The same where its word says so already.
    #[inline(always)]
    pub(crate) fn push(&mut self, run: PageRun) {
        let nr_pages = run.nr_pages();
        let known_zero = run.known_zero();
        let head = run.into_head();
        let place = self.open_place();
        let older = self.at(END).older;
        let below = self.newest_of(nr_pages);
        self.place(place).write(Place {
            head,
            nr_pages: nr_pages as u8,
            known_zero,
            below,
            older,
            newer: END,
        });
        self.at(older).newer = place;
        self.at(END).older = place;
        self.set_newest(nr_pages, place);
        self.nr_pages += nr_pages;
    }

    /// A place without a run: there is one.
    #[inline(always)]
    fn open_place(&mut self) -> u8 {
        let left = self.left;
        if left == END {
            assert!(usize::from(self.opened) + 1 < PLACES);
            self.opened += 1;
            return self.opened;
        }
        self.left = self.at(left).older;
        left
    }

    /// Takes the newest run of its length out, which is in `place`. Its word still says that it is kept.
    #[inline(always)]
    fn pop(&mut self, place: u8, nr_pages: usize) -> PageRun {
        let Place { head, known_zero, below, .. } = *self.at(place);
        self.set_newest(nr_pages, below);
        self.leave(place);
        self.nr_pages -= nr_pages;
        PageRun::new(head, nr_pages, known_zero)
    }

    /// Takes `place` out of the ring.
    #[inline(always)]
    fn leave(&mut self, place: u8) {
        let Place { older, newer, .. } = *self.at(place);
        self.at(older).newer = newer;
        self.at(newer).older = older;
        self.at(place).older = self.left;
        self.left = place;
    }

    /// Takes `place`, above `below`, out of the stack that it is in somewhere under `above`.
    #[cold]
    fn unlink(&mut self, mut above: u8, place: u8, below: u8) {
        while self.at(above).below != place {
            above = self.at(above).below;
            debug_assert!(above != END, "a run in no stack");
        }
        self.at(above).below = below;
    }

    /// Takes the run out that is in `place`, from wherever in its stack, for who does not hand it out.
    fn let_go(&mut self, pages: &Pages, place: u8) -> PageRun {
        let Place { head, nr_pages, known_zero, below, .. } = *self.at(place);
        let nr_pages = usize::from(nr_pages);
        let above = self.newest_of(nr_pages);
        let run = if above == place {
            self.pop(place, nr_pages)
        } else {
            self.unlink(above, place, below);
            self.leave(place);
            self.nr_pages -= nr_pages;
            PageRun::new(head, nr_pages, known_zero)
        };
        pages.map.word(head).store(PageWord::NOTHING.raw(), Relaxed);
        run
    }

    /// The place of the newest run of that length; `END` if there is none.
    #[inline]
    fn newest_of(&self, nr_pages: usize) -> u8 {
        debug_assert!((1..=MAX_PAGES).contains(&nr_pages));
        self.newest[nr_pages]
    }

    #[inline]
    fn set_newest(&mut self, nr_pages: usize, place: u8) {
        debug_assert!((1..=MAX_PAGES).contains(&nr_pages));
        self.newest[nr_pages] = place;
    }

    /// A place with a run, or that was left, or that of `END`.
    #[inline]
    fn at(&mut self, place: u8) -> &mut Place {
        // SAFETY: `END` was written by `init`, or is zero; another one by `push`, and whoever was linked
        // or left has been pushed before.
        unsafe { self.place(place).assume_init_mut() }
    }

    #[inline]
    fn place(&mut self, place: u8) -> &mut MaybeUninit<Place> {
        debug_assert!(place <= self.opened && usize::from(self.opened) < PLACES);
        // SAFETY: only places are named that were opened, and `open_place` opens no more than there are.
        unsafe { self.places.get_unchecked_mut(usize::from(place)) }
    }
}
