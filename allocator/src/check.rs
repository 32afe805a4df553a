//! Are the objects in the bins free, and whole, and there once?
//!
//! A hit does not ask whether an object begins at the pointer that it puts into a bin, nor whether
//! that object is free already: both would cost it a look at the slab, or at the object, whose line
//! may be cold. (Tried: a key in the first word of free objects, compared and written by the hit.
//! Within the bound of instructions, but 25 % more time for a malloc and free of one object, 30 %
//! where objects die at random.) Both show when the bin meets the bitmaps: at a spill, and here,
//! where all objects of a bin are tried against the bitmaps and the bin is left as it was. But
//! objects of other heaps go home before, where nobody is at work on the bin; where somebody may be, they are
//! passed over, since their slabs may go while this looks.

use core::ptr::NonNull;

use crate::class::SizeClass;
use crate::heap::{Entered, Heap, Patience};
use crate::misuse::{BadKind, BadPointer};
use crate::mm::Mm;
use crate::slab::Slab;

impl Mm {
    /// Looks for wrong pointers in everything that is free, of all heaps that can be visited, and
    /// returns the first. `own` is the calling thread's heap; the caller is inside no gate.
    pub fn check_bins(&self, own: Option<NonNull<Heap>>) -> Option<BadPointer> {
        self.visit_heaps(own, Patience::Wait, |entered| {
            let heap = entered.heap();
            // What came for another heap goes on to it, and what lies in its bins.
            entered.collect(heap, || false);
            if !entered.is_visitor() {
                entered.send_foreign();
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

    /// Takes objects of other heaps out of the bins, into messages. Only while nobody is at work on the bins.
    fn send_foreign(&mut self) {
        let heap = self.heap();
        for class in SizeClass::all() {
            let state = &self.classes[class.index()];
            let (array, nr) = (state.array, heap.bin_len(class, state));
            let mut nr_left = 0;
            for i in 1..=nr {
                // SAFETY: slots of the bin, which is ours alone: nobody sees that what was sent, or moved down,
                // lies there still until `cut_bin`.
                unsafe {
                    let object = *array.add(i);
                    if heap.foreign_word(class, object).is_some() {
                        self.put_foreign(heap, class, object);
                    } else {
                        nr_left += 1;
                        *array.add(nr_left) = object;
                    }
                }
            }
            self.cut_bin(heap, class, nr_left);
        }
    }

    /// Each object of the bin must start where an object starts, in a slab of this heap, and not
    /// be free there. While nobody else is at work on the bin, also no two may be the same: the
    /// bits of all are set on the way, and cleared again.
    ///
    /// An owner that pops and pushes meanwhile does no harm: whatever ever was in the bin had to be
    /// right, and what is in its slabs stays there while it is kept out. Those of others are not.
    fn check_bin(&mut self, class: SizeClass) -> Option<BadPointer> {
        let heap = self.heap();
        let at_rest = !self.is_visitor();
        let state = &self.classes[class.index()];
        let (array, nr) = (state.array, heap.bin_len(class, state));
        // Volatile: the owner may be at work on the bin; its array stays while we are inside.
        // SAFETY: the array has more than `nr` slots.
        let object = |i| unsafe { array.add(i).read_volatile() };
        let mut bad = None;
        let mut nr_good = 0;
        for i in 1..=nr {
            let object = object(i);
            let may_be_foreign = if at_rest {
                heap.foreign_word(class, object).is_some()
            } else {
                !heap.mm().is_checked() && !heap.is_of_own_slab(class, object)
            };
            if may_be_foreign {
                nr_good = i;
                continue;
            }
            let checked = heap.slab_of(class, object).and_then(|(mut slab, index)| {
                // SAFETY: a slab of this heap, and we are inside its gate.
                let slab = unsafe { slab.as_mut() };
                if slab.has(index) {
                    return Err(BadKind::DoubleFree);
                }
                if at_rest {
                    slab.set(index, true);
                }
                Ok(())
            });
            if let Err(kind) = checked {
                bad = Some(BadPointer::new(object.addr(), kind));
                break;
            }
            nr_good = i;
        }
        for i in (1..=nr_good).filter(|_| at_rest) {
            if let Ok((mut slab, index)) = heap.slab_of(class, object(i)) {
                // SAFETY: as above.
                unsafe { slab.as_mut() }.set(index, false);
            }
        }
        bad
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
