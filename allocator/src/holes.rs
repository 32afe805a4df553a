//! Holes: pages inside partly used slabs that no live object touches.
//!
//! The bitmap of a slab tells which of its pages are free from end to end. They are purged one by
//! one, inside the gate of the heap, so that nobody can hand out an object of them meanwhile. The slab
//! remembers its holes only for the accounts: objects on them can be handed out as they are, and the next
//! refill from that slab charges the pages again.
//!
//! An owner that comes meanwhile does not wait, but works beside its heap ([`crate::heap`]), with objects of
//! another one. That costs it something, and new memory, so the visitor then leaves after a short turn. It does
//! not leave at once: owners that miss all the time come all the time, and would keep their garbage for ever.
//! The next turn goes on where this one ended ([`crate::visit::walk`]). Where somebody sleeps until the visitor leaves,
//! as a fork does, it leaves before the next slab.
//!
//! In a section of huge pages a hole costs a huge page, so only slabs that are half empty have
//! them purged there, and the kernel is told not to fill them again.

use zonal_numa::{PAGE_SIZE, Span};

use crate::heap::Entered;
use crate::purge::PurgeHow;
use crate::slab::Slab;

/// Ranges given to one call.
pub(crate) const BATCH: usize = 32;

struct Batch {
    spans: [Span; BATCH],
    /// The slab of each range, its pages, and how often its section was holed so far.
    owners: [(*mut Slab, u16, u8); BATCH],
    nr: usize,
    nr_pages: usize,
    how: PurgeHow,
}

/// What a purge of holes did.
#[derive(Clone, Copy, Default, Debug)]
pub struct HolesPurged {
    /// Pages given back.
    pub nr_pages: usize,
    /// The owner wanted its heap, the goal was reached, or a section is not worth it yet: there may
    /// be more.
    pub is_partial: bool,
    /// It ended since the owner wanted its heap.
    pub is_cut: bool,
}

impl Entered<'_> {
    /// Purges holes of this heap's slabs as `how` says, until `goal_pages` are back, or for a turn if the owner
    /// wants in: goes on where the last look ended. One for all, whatever its age, looks at all slabs.
    pub(crate) fn purge_holes(&mut self, how: PurgeHow, goal_pages: usize) -> HolesPurged {
        let mut done = HolesPurged::default();
        if goal_pages == 0 {
            return HolesPurged { is_partial: true, ..done };
        }
        let mut turn_end = None;
        let mut is_from_start = self.walk.is_at_start();
        while self.purge_holes_on(how, goal_pages, &mut turn_end, &mut done) && !is_from_start {
            if how.up_to.is_some() {
                done.is_partial = true;
                break;
            }
            is_from_start = true;
        }
        done
    }

    /// The same to the end of the walk that is under way; whether it came there.
    fn purge_holes_on(
        &mut self,
        how: PurgeHow,
        goal_pages: usize,
        turn_end: &mut Option<u64>,
        done: &mut HolesPurged,
    ) -> bool {
        let mm = self.heap().mm();
        let nr_before = done.nr_pages;
        let mut batch = Batch {
            spans: [Span::EMPTY; BATCH],
            owners: [(core::ptr::null_mut(), 0, 0); BATCH],
            nr: 0,
            nr_pages: 0,
            how,
        };
        let generation = mm.pages().generation();
        self.walk.set_out(generation);
        let mut is_over = false;
        while !is_over && let Some(mut slab) = self.walk_on() {
            // SAFETY: list members are live, and we are inside the gate.
            let s = unsafe { slab.as_mut() };
            let is_cold = how.up_to.is_none_or(|border| s.is_cold(border));
            if !is_cold || !self.collect_holes(s, how, &mut batch, done) {
                self.walk.note_left(s.used_in(generation));
            }
            done.is_cut = self.is_turn_over(how, turn_end);
            let is_enough = done.nr_pages + batch.nr_pages >= goal_pages;
            is_over = done.is_cut || is_enough || how.deadline.has_passed(mm);
        }
        self.flush(&mut batch, done);
        self.walk.note_gain(done.nr_pages - nr_before);
        if is_over {
            done.is_partial = true;
            if turn_end.is_none() {
                // Nobody is in the way: the next round looks at all again, since a section of huge pages is holed for
                // what one round finds in it.
                self.walk.begin_anew();
            }
        } else {
            self.walk.end(mm.pages().generation(), mm.pages().has_wishes());
        }
        !is_over
    }

    /// Whether the visitor has to go: it has been here for a turn since it first saw that the owner wants in, or
    /// somebody sleeps until it does.
    fn is_turn_over(&self, how: PurgeHow, turn_end: &mut Option<u64>) -> bool {
        if !self.is_wanted() {
            return false;
        }
        let now = self.heap().mm().machine().now_ns();
        self.is_awaited() || now >= *turn_end.get_or_insert(now + how.turn_ns)
    }

    /// Purges the holes of a slab; whether another look would find nothing more before it is used again.
    fn collect_holes(
        &mut self,
        slab: &mut Slab,
        how: PurgeHow,
        batch: &mut Batch,
        done: &mut HolesPurged,
    ) -> bool {
        let mm = self.heap().mm();
        let map = &mm.pages().map;
        let head = slab.head();
        let chunk = map.chunk(head);
        let section = mm.pages().sections.get(chunk.section());
        // Both are read before anything is purged: what becomes of the section meanwhile counts as later.
        let is_whole = chunk.is_whole();
        let mut holing = section.nr_holings();
        let mut mask = slab.purgeable_pages();
        if is_whole || holing != slab.holing() {
            // The kernel may have filled them.
            mask |= slab.holes;
        }
        if mask == 0 || mm.machine().page_size() != PAGE_SIZE {
            return true;
        }
        let mut is_seen = true;
        if is_whole {
            let nr_pages = mask.count_ones() as usize;
            if nr_pages * 2 < Slab::pages(slab.class()) {
                return true;
            }
            let is_old = how.sparing.is_none_or(|border| slab.is_cold(border));
            if !mm.pages().is_worth_holing(chunk, nr_pages, how, is_old) {
                // It may be in a later round, with the wishes of others.
                done.is_partial = true;
                return false;
            }
            if !mm.pages().hole_section(chunk.section()) {
                return true;
            }
            // It may have come by denser slabs of that section before.
            is_seen = false;
            holing = section.nr_holings();
        }
        while mask != 0 {
            let first = mask.trailing_zeros() as usize;
            let len = (mask >> first).trailing_ones() as usize;
            let run = (((1u32 << len) - 1) << first) as u16;
            mask &= !run;
            // SAFETY: pages of a live slab of ours that hold no live object.
            batch.spans[batch.nr] =
                unsafe { Span::new(map.addr_of(head.add(first)).addr(), len * PAGE_SIZE) };
            batch.owners[batch.nr] = (slab, run, holing);
            batch.nr += 1;
            batch.nr_pages += len;
            if batch.nr == BATCH {
                self.flush(batch, done);
            }
        }
        is_seen
    }

    fn flush(&mut self, batch: &mut Batch, done: &mut HolesPurged) {
        if batch.nr == 0 {
            return;
        }
        let pages = self.heap().mm().pages();
        let spans = &batch.spans[..batch.nr];
        let (gone, nr_held) = pages.purge_counted(spans, batch.how.asks_kernel);
        let mut nr_gone = 0;
        for (i, &(slab, run, holing)) in batch.owners[..batch.nr].iter().enumerate() {
            // SAFETY: the slab is live while we are inside the gate.
            let slab = unsafe { &mut *slab };
            if gone & 1 << i == 0 {
                slab.touch(pages.generation_after_refusal());
                let nr_known = slab.remove_holes(run);
                pages.note_purge_fail(slab.head(), run.count_ones() as usize, nr_known);
                continue;
            }
            let nr_pages = slab.add_holes(run, holing);
            pages.note_holes(slab.head(), nr_pages, batch.how.by);
            nr_gone += nr_pages;
        }
        done.nr_pages += nr_held.unwrap_or(nr_gone);
        (batch.nr, batch.nr_pages) = (0, 0);
    }
}
