//! Slabs of a heap come and go: a new one from the page cache, an empty one back to it, or with holes to
//! the zone.

use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use super::depth::share_of_heap;
use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::{Heap, Inner};
use crate::mm::Attempt;
use crate::run::PageRun;
use crate::slab::Slab;
use crate::word::{Migratetype, PageWord};

/// Slabs of a class that stay although they are empty: one, and one of so many or what this part of
/// the bins' bytes makes, as long as those of all classes together hold no more than the bins may.
const EMPTY_SHARE: u32 = 16;
const EMPTY_PART: usize = 8;
/// What those that were given up and missed again may make, of the same.
const DEEP_PART: usize = 2;
/// Slabs looked at before somebody asks whether to go on.
const LOOKS_PER_STEP: usize = 64;

/// What draining a heap did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    /// Pages that went back to the zones.
    pub(crate) nr_pages: usize,
    /// Nothing was left for later.
    pub(crate) is_whole: bool,
}

impl Inner {
    /// A slab of `class` with all objects free, on the partial list.
    pub(super) fn new_slab(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
    ) -> Result<*mut Slab, AllocError> {
        let run = self.slab_run(heap, class, from)?;
        let exhausted = AllocError::Exhausted { node: heap.node(), order: 0 };
        let slab = self.make_slab(heap, class, run).ok_or(exhausted)?.as_ptr();
        self.list_slab(heap, slab);
        heap.mm().note_taken(heap, from.node, class.slab_order().nr_pages());
        heap.sync_hot();
        if from.node == heap.node() {
            self.note_missed(heap, class);
        }
        Ok(slab)
    }

    /// Pages for a slab of `class`.
    pub(super) fn slab_run(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
    ) -> Result<PageRun, AllocError> {
        let pages = heap.mm().pages();
        let order = class.slab_order();
        heap.read_policy();
        if from.node == heap.node() {
            return self.pcp.alloc(pages, order, from);
        }
        pages.alloc_run(from.node, order.nr_pages(), order, Migratetype::Slab, from.level)
    }

    /// Makes a run a slab of `class` with all objects free, of no heap yet; gives it back where there is no memory
    /// for the slab's bitmap.
    #[inline(never)]
    pub(super) fn make_slab(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        run: PageRun,
    ) -> Option<NonNull<Slab>> {
        let mm = heap.mm();
        let pages = mm.pages();
        let order = class.slab_order();
        let head = run.head();
        // SAFETY: the run is ours.
        let slab = unsafe {
            let nr_objects = mm.objects_in(class);
            Slab::create(&pages.map, mm.meta(), mm.machine(), (head, class), nr_objects)
        };
        let Some(slab) = slab else {
            self.pcp.free(pages, heap.node(), order, run);
            return None;
        };
        if mm.is_checked() {
            if !run.known_zero() {
                // SAFETY: the pages of the run, which is ours.
                unsafe { pages.map.addr_of(head).write_bytes(0, order.nr_pages() * PAGE_SIZE) };
            }
            mm.close_guard(mm.slab_guard(head, class));
        }
        let _ = run.into_head();
        Some(slab)
    }

    /// Gives the pages of a slab that no heap got back to the page cache.
    #[inline(never)]
    pub(super) fn unmake_slab(&mut self, heap: &Heap, mut slab: NonNull<Slab>) {
        let mm = heap.mm();
        let pages = mm.pages();
        // SAFETY: it was just made and is the caller's alone, as its pages are.
        let (order, run) = unsafe {
            let slab = slab.as_mut();
            slab.destroy(mm.meta());
            let order = slab.class().slab_order();
            (order, pages.run_from_head(slab.head(), order.nr_pages()))
        };
        self.pcp.free(pages, heap.node(), order, run);
    }

    /// Makes a slab that no heap has one of `heap`, on the partial list.
    #[inline(never)]
    pub(super) fn list_slab(&mut self, heap: &Heap, slab: *mut Slab) {
        let pages = heap.mm().pages();
        // SAFETY: it was just made.
        let (class, head) = unsafe { ((*slab).class(), (*slab).head()) };
        // Another thread learns of the slab only with an object of it.
        pages.map.set_words(head, class.slab_order().nr_pages(), heap.slab_word(class));
        let state = &mut self.classes[class.index()];
        // SAFETY: just made, on no list.
        unsafe { state.partial.push(slab) };
        self.count_slabs(heap, class, 1);
        self.count_empty(class, 1);
        self.events.slab_alloc += 1;
    }

    /// After objects of `slab` came back, which was on no list or now has all: puts it on the list,
    /// or gives it up when it is one empty slab too many.
    #[inline(never)]
    pub(super) fn note_freed(&mut self, heap: &Heap, slab: &mut Slab) {
        let state = &mut self.classes[slab.class().index()];
        if !slab.listed {
            // SAFETY: it was full and so on no list.
            unsafe { state.partial.push(slab) };
        }
        if slab.is_empty() {
            let class = slab.class();
            self.count_empty(class, 1);
            let state = &self.classes[class.index()];
            let share = share_of_heap(heap.mm().pages());
            let few = (share / EMPTY_PART / slab_bytes(class)) as u32;
            let may_stay = 1 + few.max(u32::from(state.depth)).max(state.nr_slabs / EMPTY_SHARE);
            let nr_slabs = state.nr_slabs;
            let is_share_full = self.empty_bytes > share;
            if is_share_full || state.nr_empty > may_stay {
                self.release_slab(heap, slab);
                let state = &mut self.classes[class.index()];
                // Where all classes together have too much, a deeper one would not help.
                if !is_share_full && state.nr_slabs < nr_slabs {
                    state.given_up = state.given_up.saturating_add(1);
                }
            }
        }
    }

    /// A slab of the class was made anew. If one was given up that would have done, there shall be room for
    /// it, however long ago that was: `DEEP_PART` and the next drain bound what that comes to.
    fn note_missed(&mut self, heap: &Heap, class: SizeClass) {
        let state = &mut self.classes[class.index()];
        if state.given_up == 0 {
            return;
        }
        state.given_up -= 1;
        let share = share_of_heap(heap.mm().pages());
        let depth = usize::from(state.depth).max(share / EMPTY_PART / slab_bytes(class)) + 1;
        if depth * slab_bytes(class) <= share / DEEP_PART {
            state.depth = depth as u16;
        }
    }

    /// One slab of the class more or less.
    pub(crate) fn count_slabs(&mut self, heap: &Heap, class: SizeClass, by: i32) {
        let nr_slabs = &mut self.classes[class.index()].nr_slabs;
        let had_none = *nr_slabs == 0;
        *nr_slabs = nr_slabs.wrapping_add_signed(by);
        if had_none || *nr_slabs == 0 {
            let nr_pages = class.slab_order().nr_pages() as isize;
            heap.mm().pages().count_first(heap.node(), by as isize * nr_pages);
        }
    }

    /// One slab more or less on the lists of which all objects are free.
    pub(crate) fn count_empty(&mut self, class: SizeClass, by: i32) {
        let nr_empty = &mut self.classes[class.index()].nr_empty;
        *nr_empty = nr_empty.wrapping_add_signed(by);
        let bytes = slab_bytes(class) as isize;
        self.empty_bytes = self.empty_bytes.wrapping_add_signed(by as isize * bytes);
    }

    /// Gives the pages of an empty, listed slab back to the page cache, or where some are holes to the
    /// zone. Returns how many went to the zone with their memory. The slab stays if the system does not
    /// open its guard page.
    pub(crate) fn release_slab(&mut self, heap: &Heap, slab: *mut Slab) -> usize {
        let mm = heap.mm();
        let pages = mm.pages();
        // SAFETY: the slab is live, listed and ours.
        unsafe {
            let class = (*slab).class();
            let head = (*slab).head();
            if mm.is_checked() && !mm.open_guard(mm.slab_guard(head, class)) {
                return 0;
            }
            let order = class.slab_order();
            self.unlist(slab);
            self.count_slabs(heap, class, -1);
            self.count_empty(class, -1);
            let (holes, holing) = ((*slab).holes, (*slab).holing());
            (*slab).destroy(mm.meta());
            // No live object names these pages any more.
            pages.map.set_words(head, order.nr_pages(), PageWord::NOTHING);
            let run = pages.run_from_head(head, order.nr_pages());
            self.events.slab_free += 1;
            if holes == 0 {
                self.pcp.free(pages, heap.node(), order, run);
                return 0;
            }
            pages.free_holed(run, holes, holing)
        }
    }

    /// Releases every empty slab, until it shall `stop`.
    pub(crate) fn release_empty_slabs(&mut self, heap: &Heap, stop: impl Fn() -> bool) -> Drained {
        let mut nr_pages = 0;
        let mut looks = 0_usize;
        for class in SizeClass::all() {
            let state = &mut self.classes[class.index()];
            (state.given_up, state.depth) = (0, 0);
            let mut slab = self.classes[class.index()].partial.head;
            while self.classes[class.index()].nr_empty > 0
                && let Some(s) = NonNull::new(slab)
            {
                looks += 1;
                if looks.is_multiple_of(LOOKS_PER_STEP) && stop() {
                    return Drained { nr_pages, is_whole: false };
                }
                // SAFETY: list members are live; the successor is read before the release.
                unsafe {
                    slab = s.as_ref().next;
                    if s.as_ref().is_empty() {
                        nr_pages += self.release_slab(heap, s.as_ptr());
                    }
                }
            }
        }
        Drained { nr_pages, is_whole: true }
    }
}

fn slab_bytes(class: SizeClass) -> usize {
    class.slab_order().nr_pages() * PAGE_SIZE
}
