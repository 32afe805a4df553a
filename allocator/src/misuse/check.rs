//! Are the objects in the bins free, and whole, and there once?
//!
//! A hit does not ask whether an object begins at the pointer that it puts into a bin, nor whether
//! that object is free already: both would cost it a look at the slab, or at the object, whose line
//! may be cold (a key in free objects, which hits compare: 25 to 30 % more time). Both show when the bin
//! meets the bitmaps: at a spill, and here, where all objects of a bin go into the bitmaps, those of other
//! heaps home. Where somebody may be at work on the bin, it stays as it is: its objects are tried against the
//! bitmaps, and those of others are passed over, since their slabs may go while this looks.

use core::ptr::NonNull;

use crate::class::SizeClass;
use crate::heap::{Entered, Heap, OwnHeap, Patience};
use crate::misuse::{BadKind, BadPointer};
use crate::mm::Mm;
use crate::slab::Slab;

impl Mm {
    /// Looks for wrong pointers in everything that is free, of all heaps that can be visited, and
    /// returns the first. `own` is the calling thread's heap, whose bins are empty then; the caller is inside no
    /// gate.
    pub fn check_bins(&self, own: Option<OwnHeap>) -> Option<BadPointer> {
        self.barn().drain(self);
        self.visit_heaps(own, Patience::Wait, |entered| {
            let heap = entered.heap();
            // What came for another heap goes on to it, and what lies in its bins.
            entered.collect(heap, || false);
            if !entered.is_visitor() {
                SizeClass::all().for_each(|class| entered.flush_bin(heap, class));
            }
            entered.send_reused(heap, || false);
            entered.post_all(heap);
        });
        let mut bad = None;
        self.visit_heaps(own, Patience::Wait, |entered| {
            let heap = entered.heap();
            entered.collect(heap, || false);
            let found = entered.fault.take().or_else(|| entered.check_bins());
            bad = bad.or(found);
        });
        bad.or_else(|| self.fence().check())
    }
}

impl Entered<'_> {
    fn check_bins(&mut self) -> Option<BadPointer> {
        let heap = self.heap();
        let in_quarantine = self.quarantine.check(heap);
        in_quarantine.or_else(|| SizeClass::all().find_map(|class| self.check_bin(class)))
    }

    /// Each object of the bin that lies in a slab of this heap must start where an object starts, and not be
    /// free there.
    ///
    /// An owner that pops and pushes meanwhile does no harm: whatever ever was in the bin had to be
    /// right, and what is in its slabs stays there while it is kept out. Those of others are not.
    fn check_bin(&mut self, class: SizeClass) -> Option<BadPointer> {
        let heap = self.heap();
        let state = &self.classes[class.index()];
        let array = state.array;
        (1..=heap.bin_len(class, state)).find_map(|i| {
            // Volatile: the owner may be at work on the bin; its array stays while we are inside.
            // SAFETY: the array has more than so many slots.
            let object = unsafe { array.add(i).read_volatile() };
            if !heap.mm().is_checked() && !heap.is_of_own_slab(class, object) {
                return None;
            }
            let checked = heap.slab_of(class, object).and_then(|(slab, index)| {
                // SAFETY: a slab of this heap, and we are inside its gate.
                let is_free = unsafe { slab.as_ref() }.has(index);
                if is_free { Err(BadKind::DoubleFree) } else { Ok(()) }
            });
            checked.err().map(|kind| BadPointer::new(object.addr(), kind))
        })
    }
}

impl Heap {
    /// Whether the page of `object` belongs to a slab of `class` of this heap.
    fn is_of_own_slab(&self, class: SizeClass, object: *mut u8) -> bool {
        let map = &self.mm().pages().map;
        map.pfn_of(object.addr()).is_some_and(|pfn| map.word_at(pfn) == self.slab_word(class))
    }

    /// The slab of this heap with `object`, of `class`, and which object it is there. Only inside
    /// the gate.
    fn slab_of(
        &self,
        class: SizeClass,
        object: *mut u8,
    ) -> Result<(NonNull<Slab>, usize), BadKind> {
        let mm = self.mm();
        let map = &mm.pages().map;
        let pfn = map.pfn_of(object.addr()).filter(|_| self.is_of_own_slab(class, object));
        // If not, the slab was released although this object was in a bin: it was freed twice.
        let pfn = pfn.ok_or(BadKind::DoubleFree)?;
        let index = mm.object_at(class, Slab::offset_of(map, pfn, class, object.addr()));
        Ok((Slab::of(map, pfn, class), index.ok_or(BadKind::Interior)?))
    }
}
