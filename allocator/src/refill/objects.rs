//! Objects between bins and slabs: which slab serves a refill, and where what comes back belongs.

use super::Refilled;
use super::depth::refill_of;
use super::home::Home;
use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::{Heap, Inner};
use crate::misuse::{BadKind, BadPointer};
use crate::mm::Attempt;
use crate::slab::Slab;

impl Inner {
    pub(super) fn take_from_slabs(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
    ) -> Result<Refilled, AllocError> {
        let bin = heap.bin(class);
        let map = &heap.mm().pages().map;
        let slots = usize::from(self.classes[class.index()].slots);
        let half = refill_of(class, slots);
        let mut wanted = half;
        loop {
            let mut slab = self.first_chargeable(heap, class, from);
            if slab.is_null() {
                // Never build a new slab only to fill the bin.
                if wanted < half {
                    return Ok(Refilled::Bin);
                }
                if self.take_young(heap, class, from) {
                    return Ok(Refilled::Bin);
                }
                if from.node == heap.node() && self.adopt_common(heap, class) {
                    continue;
                }
                if from.node == heap.node()
                    && let Some(object) = self.take_reused(heap, class)
                {
                    return Ok(Refilled::Object(object));
                }
                slab = self.new_slab(heap, class, from)?;
            }
            // SAFETY: a slab on a partial list is live and has free objects; the bin's array has
            // `wanted` free slots above `top`, since it was empty and `wanted` is half of it.
            unsafe {
                let slab = &mut *slab;
                let was_empty = slab.is_empty();
                slab.touch(heap.mm().pages().generation());
                let out = core::slice::from_raw_parts_mut((*bin).top, wanted);
                let base = map.addr_of(slab.head());
                let got = out.len().min(slab.nr_free());
                // Slots are used up from the last one on.
                let turn = if heap.mm().is_shuffling() { random(&mut self.seed, got) } else { 0 };
                let (before, after) = out[..got].split_at_mut(got - turn);
                slab.take(base, before);
                slab.take(base, after);
                (*bin).top = (*bin).top.add(got);
                wanted -= got;
                self.note_taken(slab, was_empty);
            }
            if wanted == 0 {
                return Ok(Refilled::Bin);
            }
        }
    }

    /// After objects of `slab` were taken, which is listed and had all of them before, or not.
    #[inline(never)]
    pub(super) fn note_taken(&mut self, slab: &mut Slab, was_empty: bool) {
        let class = slab.class();
        if was_empty {
            self.count_empty(class, -1);
        }
        if slab.nr_free() == 0 {
            // SAFETY: it is on the list, and we are inside the gate.
            unsafe { self.unlist(slab) };
        }
    }

    /// The first partial slab of `class` that has no holes or whose holes the limits allow to fill;
    /// null if there is none.
    fn first_chargeable(&self, heap: &Heap, class: SizeClass, from: Attempt) -> *mut Slab {
        let mut slab = self.classes[class.index()].partial.head;
        // SAFETY: list members are live, and we are inside the gate.
        while let Some(s) = unsafe { slab.as_mut() } {
            if s.holes == 0 {
                return slab;
            }
            if heap.mm().pages().fill_holes(s.head(), s.holes, from.level) {
                s.holes = 0;
                return slab;
            }
            slab = s.next;
        }
        slab
    }

    /// Puts one object back into its slab. A misuse is kept for the report.
    pub(crate) fn put_object(&mut self, heap: &Heap, class: SizeClass, object: *mut u8) {
        self.put_objects(heap, class, &[object]);
    }

    /// Puts objects back into their slabs, and those of other heaps into messages. A misuse is kept for the report,
    /// and the object passed over.
    pub(super) fn put_objects(&mut self, heap: &Heap, class: SizeClass, mut objects: &[*mut u8]) {
        let home = Home::of(heap, class);
        while !objects.is_empty() {
            // SAFETY: we are inside the gate, and who calls this took them from a bin or from the way there.
            let (nr, slab) = unsafe { home.put(objects) };
            objects = &objects[nr..];
            if let Some(mut slab) = slab {
                // SAFETY: a slab of this heap's.
                self.note_freed(heap, unsafe { slab.as_mut() });
            } else if nr == 0 {
                objects = self.put_elsewhere(heap, class, &home, objects);
            }
        }
    }

    /// Puts the first of `objects`, which does not come back to the slabs of this heap, where it belongs. Returns what
    /// else there is to put back.
    #[inline(never)]
    fn put_elsewhere<'a>(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        home: &Home<'_>,
        mut objects: &'a [*mut u8],
    ) -> &'a [*mut u8] {
        if let [first, rest @ ..] = objects
            && home.has(*first)
        {
            // SAFETY: as above.
            if let Some(kind) = unsafe { home.kind_of(*first) } {
                self.note_bad(first.addr(), kind);
            }
            return rest;
        }
        // As a rule several in a row.
        while let [first, rest @ ..] = objects
            && !home.has(*first)
        {
            self.put_foreign(heap, class, *first);
            objects = rest;
        }
        objects
    }

    #[cold]
    pub(crate) fn note_bad(&mut self, addr: usize, kind: BadKind) {
        self.fault.get_or_insert(BadPointer::new(addr, kind));
    }
}

/// A random number below `end`, or 0: by how many places a batch is turned where batches are. So which of its
/// objects is handed out first, and which are neighbours of it that are still free, cannot be told. All but one
/// follow their neighbour.
pub(super) fn random(seed: &mut u64, end: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (((*seed >> u32::BITS) * end as u64) >> u32::BITS) as usize
}
