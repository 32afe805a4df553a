//! Holes: pages inside partly used slabs that no live object touches.
//!
//! The bitmap of a slab tells which of its pages are free from end to end. They are purged one by
//! one, inside the gate of the heap, so that nobody can hand out an object of them meanwhile, and
//! in batches that keep a waiting owner waiting for a fraction of a millisecond. The slab remembers
//! its holes only for the accounts: objects on them can be handed out as they are, and the next
//! refill from that slab charges the pages again.
//!
//! In a section of huge pages a hole costs a huge page, so only slabs that are half empty have
//! them purged there, and the kernel is told not to fill them again.

use core::ptr::NonNull;

use zonal_numa::{PAGE_SIZE, Span};

use crate::class::SizeClass;
use crate::heap::Entered;
use crate::purge::PurgeHow;
use crate::slab::Slab;

/// Ranges given to one call.
const BATCH: usize = 32;

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
}

impl Entered<'_> {
    /// Purges holes of this heap's slabs as `how` says, until `goal_pages` are back or the owner
    /// waits.
    pub(crate) fn purge_holes(&mut self, how: PurgeHow, goal_pages: usize) -> HolesPurged {
        let mm = self.heap().mm();
        let mut done = HolesPurged::default();
        let mut batch = Batch {
            spans: [Span::EMPTY; BATCH],
            owners: [(core::ptr::null_mut(), 0, 0); BATCH],
            nr: 0,
            nr_pages: 0,
            how,
        };
        if goal_pages == 0 {
            return HolesPurged { is_partial: true, ..done };
        }
        for class in SizeClass::all() {
            let mut slab = self.classes[class.index()].partial.head;
            while let Some(mut s) = NonNull::new(slab) {
                // SAFETY: list members are live, and we are inside the gate.
                let s = unsafe { s.as_mut() };
                slab = s.next;
                if how.up_to.is_none_or(|border| s.is_cold(border)) {
                    self.collect_holes(s, how, &mut batch, &mut done);
                }
                let is_over = mm.is_over(how.deadline_ns);
                let is_enough = done.nr_pages + batch.nr_pages >= goal_pages;
                if is_enough || is_over || self.is_wanted() {
                    self.flush(&mut batch, &mut done);
                    done.is_partial = true;
                    return done;
                }
            }
        }
        self.flush(&mut batch, &mut done);
        done
    }

    fn collect_holes(
        &mut self,
        slab: &mut Slab,
        how: PurgeHow,
        batch: &mut Batch,
        done: &mut HolesPurged,
    ) {
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
            return;
        }
        if is_whole {
            let nr_pages = mask.count_ones() as usize;
            if nr_pages * 2 < Slab::pages(slab.class()) {
                return;
            }
            let is_old = how.sparing.is_none_or(|border| slab.is_cold(border));
            if !mm.pages().is_worth_holing(chunk, nr_pages, how, is_old) {
                // It may be in a later round, with the wishes of others.
                done.is_partial = true;
                return;
            }
            if !mm.pages().hole_section(chunk.section()) {
                return;
            }
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
