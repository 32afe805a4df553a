//! A walk through all slabs of a heap that have free objects, class by class, in as many visits as that takes.
//!
//! Who looks for holes beside an owner that is at work has a short turn at a time. It goes on where the last turn
//! ended: from the first slab on it would come by what it has seen already, and never to the rest. Slabs that come
//! on a list meanwhile stand in front of the place, and are for the next walk.
//!
//! To come by a slab costs about a fifth of what it costs to purge a page. So no walk is begun while there is
//! nothing cold to be found: each notes when the oldest slab that it left was used last, and what changes
//! afterwards is younger. One beside a busy owner that found little is not begun anew at once, either.

use core::ptr::{self, NonNull};

use crate::class::SizeClass;
use crate::heap::Inner;
use crate::purge::is_past;
use crate::slab::Slab;

/// A walk has found little when it gained less than one page of so many slabs.
const SLABS_PER_PAGE: usize = 4;
/// Slabs for which the next walk then waits one generation: 17 ms, of which they took a tenth of one.
const SLABS_PER_GENERATION: usize = 1024;

/// Where a walk is.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The next slab, which is on the list of the class with this index; null for the first one there.
    next: *mut Slab,
    class: u8,
    nr_slabs: usize,
    nr_pages: usize,
    /// When the last one ended, and for how many generations the next one waits then.
    ended_at: u32,
    rest: u32,
    /// The generation in which the oldest slab was used last that was left so far,
    oldest: u32,
    /// and of those that the last one left, if it came to its end.
    left: Option<u32>,
}

impl Walk {
    pub(crate) const NEW: Walk = Walk {
        next: ptr::null_mut(),
        class: 0,
        nr_slabs: 0,
        nr_pages: 0,
        ended_at: 0,
        rest: 0,
        oldest: 0,
        left: None,
    };

    /// Whether none is under way.
    pub(crate) fn is_at_start(&self) -> bool {
        self.class == 0 && self.next.is_null()
    }

    /// Whether one is under way beside a busy owner, or may be begun.
    pub(crate) fn is_due(&self, generation: u32) -> bool {
        !self.is_at_start() || generation.wrapping_sub(self.ended_at) >= self.rest
    }

    /// Whether one is under way, or may come by a slab that was not used after the generation `border`.
    pub(crate) fn may_find(&self, border: Option<u32>) -> bool {
        let is_cold = |left| border.is_none_or(|border| is_past(left, border));
        !self.is_at_start() || self.left.is_none_or(is_cold)
    }

    /// It begins, or goes on.
    pub(crate) fn set_out(&mut self, generation: u32) {
        if self.is_at_start() {
            self.oldest = generation;
        }
    }

    /// It leaves a slab as it is that was used last in this generation.
    pub(crate) fn note_left(&mut self, generation: u32) {
        if is_past(generation, self.oldest) {
            self.oldest = generation;
        }
    }

    /// Slabs came that were used before others that it left, or may have been.
    pub(crate) fn forget_left(&mut self) {
        self.left = None;
    }

    /// It gained so many pages.
    pub(crate) fn note_gain(&mut self, nr_pages: usize) {
        self.nr_pages += nr_pages;
    }

    /// It has come to its end, and left nothing that another one would gain at once, unless it `leaves_more`.
    pub(crate) fn end(&mut self, generation: u32, leaves_more: bool) {
        let found_little = !leaves_more && self.nr_pages * SLABS_PER_PAGE < self.nr_slabs;
        let rest = if found_little { self.nr_slabs / SLABS_PER_GENERATION } else { 0 };
        let left = Some(self.oldest);
        *self = Walk { ended_at: generation, rest: rest as u32, left, ..Walk::NEW };
    }

    /// The next visit begins at the first slab again.
    pub(crate) fn begin_anew(&mut self) {
        *self = Walk { ended_at: self.ended_at, rest: self.rest, ..Walk::NEW };
    }

    /// Where it is: the slab and the index of its class.
    pub(crate) fn place(&self) -> Option<(NonNull<Slab>, usize)> {
        Some((NonNull::new(self.next)?, usize::from(self.class)))
    }

    /// Goes on behind `slab`.
    ///
    /// # Safety
    /// It is on the list of the class where the walk is.
    unsafe fn pass(&mut self, slab: *mut Slab) {
        // SAFETY: list members are live.
        self.next = unsafe { (*slab).next };
        self.class += u8::from(self.next.is_null());
    }
}

impl Inner {
    /// The next slab of the walk, if it is not at its end.
    pub(crate) fn walk_on(&mut self) -> Option<NonNull<Slab>> {
        while let Some(class) = SizeClass::from_index(usize::from(self.walk.class)) {
            let first = self.classes[class.index()].partial.head;
            let next = if self.walk.next.is_null() { first } else { self.walk.next };
            if let Some(slab) = NonNull::new(next) {
                // SAFETY: it is on that list: `unlist` keeps the walk off what has left it.
                unsafe { self.walk.pass(slab.as_ptr()) };
                self.walk.nr_slabs += 1;
                return Some(slab);
            }
            self.walk.class += 1;
        }
        None
    }

    /// Takes a slab off the list of its class.
    ///
    /// # Safety
    /// It is on that list, and the caller is inside the gate.
    #[inline]
    pub(crate) unsafe fn unlist(&mut self, slab: *mut Slab) {
        // SAFETY: the caller's promise. A walk that is at this slab is at the list of its class.
        unsafe {
            if self.walk.next == slab {
                self.walk.pass(slab);
            }
            let class = (*slab).class();
            self.classes[class.index()].partial.remove(slab);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_that_found_little_is_not_begun_anew_at_once() {
        let mut walk = Walk::NEW;
        let slabs = 3 * SLABS_PER_GENERATION;
        let mut rest_after = |nr_pages, leaves_more| {
            walk.nr_slabs = slabs;
            walk.note_gain(nr_pages);
            walk.end(u32::MAX, leaves_more);
            (0..10).find(|&passed| walk.is_due(u32::MAX.wrapping_add(passed)))
        };
        assert_eq!(rest_after(slabs / SLABS_PER_PAGE - 1, false), Some(3));
        assert_eq!(rest_after(slabs / SLABS_PER_PAGE, false), Some(0));
        assert_eq!(rest_after(0, true), Some(0));
        // One that is under way goes on.
        assert_eq!(rest_after(0, false), Some(3));
        walk.class = 1;
        assert!(walk.is_due(u32::MAX));
    }

    #[test]
    fn no_walk_is_begun_while_all_that_was_left_is_young() {
        let mut walk = Walk::NEW;
        assert!(walk.may_find(Some(7)), "nobody has looked");
        walk.set_out(100);
        [95, 90, 97].into_iter().for_each(|generation| walk.note_left(generation));
        walk.end(110, false);
        assert!(!walk.may_find(Some(89)) && walk.may_find(Some(90)) && walk.may_find(None));
        // What it came by first may have been used just then.
        walk.set_out(200);
        walk.end(202, false);
        assert!(!walk.may_find(Some(199)) && walk.may_find(Some(200)));
        // The clock wraps.
        walk.set_out(3);
        walk.note_left(u32::MAX);
        walk.end(4, false);
        assert!(!walk.may_find(Some(u32::MAX - 1)) && walk.may_find(Some(u32::MAX)));
        // It did not come to its end, or is under way.
        walk.begin_anew();
        assert!(walk.may_find(Some(7)));
        walk.end(5, false);
        walk.class = 1;
        assert!(walk.may_find(Some(7)));
    }
}
