//! Objects between bins and slabs: which slab serves a refill, and where what comes back belongs.

use zonal_numa::PAGE_SHIFT;

use super::Refilled;
use super::depth::refill_of;
use crate::class::{SizeClass, Slicing};
use crate::error::AllocError;
use crate::heap::{Heap, Inner};
use crate::misuse::{BadKind, BadPointer};
use crate::mm::Attempt;
use crate::pfn::Pfn;
use crate::slab::Slab;
use crate::sync::atomic::Ordering::Relaxed;

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

    /// Puts objects back into their slabs, and those of other heaps into messages. Neighbours in
    /// `objects` are mostly neighbours in memory, so a slab is looked up once for all that follow each
    /// other. A misuse is kept for the report, and the object passed over.
    pub(super) fn put_objects(&mut self, heap: &Heap, class: SizeClass, mut objects: &[*mut u8]) {
        let pages = heap.mm().pages();
        let map = &pages.map;
        let expected = heap.slab_word(class).raw();
        let slicing = Slicing::of(class);
        let generation = pages.generation();
        let map_base = map.base();
        while let [first, rest @ ..] = objects {
            let addr = first.addr();
            let offset = addr - map_base;
            let pfn = Pfn::new((offset >> PAGE_SHIFT) as u32);
            // Relaxed: pages of this heap's slabs change their word inside this gate only.
            if map.word(pfn).load(Relaxed) != expected {
                self.put_foreign(heap, class, *first);
                objects = rest;
                continue;
            }
            let mut slab = Slab::of(map, pfn, class);
            // SAFETY: the word says a slab of this heap and class lies here; we are inside the gate.
            let slab = unsafe { slab.as_mut() };
            let offset = slicing.offset_of(addr);
            if rest.first().is_none_or(|next| !slicing.is_same_slab(addr, next.addr())) {
                // As a rule where objects come back in random order: the short way.
                objects = rest;
                match slab.put_one(slicing, offset) {
                    Ok(()) => self.note_put(heap, slab, generation),
                    Err(kind) => self.note_bad(addr, kind),
                }
                continue;
            }
            let (nr, bad) = slab.put(slicing, addr - offset, objects);
            if nr > 0 {
                self.note_put(heap, slab, generation);
            }
            objects = &objects[nr..];
            if let Some(kind) = bad {
                self.note_bad(objects[0].addr(), kind);
                objects = &objects[1..];
            }
        }
    }

    /// Objects came back into `slab` now.
    #[inline(always)]
    fn note_put(&mut self, heap: &Heap, slab: &mut Slab, generation: u32) {
        slab.touch(generation);
        if !slab.listed || slab.is_empty() {
            self.note_freed(heap, slab);
        }
    }

    #[cold]
    pub(crate) fn note_bad(&mut self, addr: usize, kind: BadKind) {
        self.fault.get_or_insert(BadPointer::new(addr, kind));
    }
}

/// A random number below `end`, or 0: by how many places a batch is turned. So which of its objects
/// is handed out first, and which are neighbours of it that are still free, cannot be told. All but
/// one follow their neighbour, as the processor's caches and the kernel like it: a finer order cost
/// 5 to 15 %.
pub(super) fn random(seed: &mut u64, end: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (((*seed >> u32::BITS) * end as u64) >> u32::BITS) as usize
}
