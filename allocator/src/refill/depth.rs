//! How deep a bin is: it follows the traffic. Its array starts small and doubles when it overflows
//! between refills, or after a few refills in a row, bounded by bytes for the class and for the
//! heap.

use core::ptr::NonNull;

use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::{Heap, Inner};
use crate::pages::Pages;

use super::young;

/// Slots of a bin's first array, slot 0 included.
const FIRST_SLOTS: usize = 32;
const MAX_SLOTS: usize = 2048;
/// Slots that the deepest bin of any class has, of a heap with a small share.
const MIN_SLOTS: usize = 8;
/// Of one with the largest share: batches of 64 are usual, but of the largest classes they are too much
/// to lie in the bins of a thread that sleeps.
const MIN_SLOTS_OF_FEW: [usize; 2] = [32, 128];
const BYTES_OF_FEW: usize = 512 << 10;
/// What all bins of all heaps together may hold, in bytes.
const ALL_BYTES: usize = 16 << 20;
/// What all bins of a heap together may hold, in bytes.
const HEAP_BYTES: usize = 4 << 20;
/// The part of that for one class.
const CLASS_PART: usize = 16;
/// The part for a class whose bin is full and empty by turns, as batches leave it. The slabs that a heap keeps
/// for such a class ([`super::slabs`]) may make as much, but from there each object comes by a miss.
const DEEP_PART: usize = 2;
/// What such classes leave to the others.
const DEEP_REST: usize = 4;
/// What such a class has at most: enough for usual batches, and little enough for a thread that sleeps.
const DEEP_SLOTS: usize = 256;
/// What a refill takes from slabs at most, in bytes or in objects.
const REFILL_BYTES: usize = 256 << 10;
const MIN_REFILL: usize = 16;
/// Refills in a row after which a bin counts as too small.
const REFILLS_TO_GROW: u8 = 3;

/// What the bins of one heap may hold, in bytes.
pub(super) fn share_of_heap(pages: &Pages) -> usize {
    pages.share_of(ALL_BYTES).min(HEAP_BYTES)
}

fn max_slots(class: SizeClass, share: usize) -> usize {
    let least = if share == HEAP_BYTES {
        (BYTES_OF_FEW / class.size()).clamp(MIN_SLOTS_OF_FEW[0], MIN_SLOTS_OF_FEW[1])
    } else {
        MIN_SLOTS
    };
    let slots = (share / CLASS_PART / class.size()).clamp(least, MAX_SLOTS);
    slots.next_power_of_two().min(MAX_SLOTS)
}

/// The same where the bin was full and is empty now, beside others that may hold so many bytes. With slot 0, so that
/// a batch of 64 of the largest fits.
fn deep_slots(class: SizeClass, share: usize, others: usize) -> usize {
    let rest = (share - share / DEEP_REST).saturating_sub(others);
    (1 + rest.min(share / DEEP_PART) / class.size()).min(DEEP_SLOTS)
}

/// Objects that a refill takes from slabs: half of the bin, but no more bytes than a shallow one takes. Deep ones
/// are filled by frees.
pub(super) fn refill_of(class: SizeClass, slots: usize) -> usize {
    let most = (REFILL_BYTES / class.size()).max(MIN_REFILL);
    (slots / 2).clamp(1, most)
}

impl Inner {
    /// Gives the class an array if it has none, and a larger one when it has earned it.
    pub(super) fn prepare_bin(&mut self, heap: &Heap, class: SizeClass) -> Result<(), AllocError> {
        let state = &mut self.classes[class.index()];
        state.refills = state.refills.saturating_add(1);
        state.left = false;
        let was_full = core::mem::take(&mut state.spilled);
        let is_first = usize::from(state.slots) == young::SLOTS;
        let enough = if is_first { young::MISSES } else { REFILLS_TO_GROW };
        if state.array.is_null() || was_full || state.refills > enough {
            self.grow_bin(heap, class, was_full);
        }
        if self.classes[class.index()].array.is_null() {
            return Err(AllocError::Exhausted { node: heap.node(), order: 0 });
        }
        Ok(())
    }

    /// Doubles the array of the class's bin (or makes the first one); false when it stays. What `was_full` and is
    /// empty may become deep; what has no room for less takes that of a deep one.
    pub(super) fn grow_bin(&mut self, heap: &Heap, class: SizeClass, was_full: bool) -> bool {
        let old = usize::from(self.classes[class.index()].slots);
        let share = share_of_heap(heap.mm().pages());
        let others = self.bin_bytes - old * class.size();
        let usual = max_slots(class, share);
        let deep = if was_full { deep_slots(class, share, others) } else { 0 };
        let first = FIRST_SLOTS.min(usual);
        let wanted = match old {
            0 if self.is_young(heap, class) => young::SLOTS,
            old if old < first => first,
            old => old * 2,
        };
        let new = wanted.min(usual.max(deep));
        if new <= old {
            return false;
        }
        let more = (new - old) * class.size();
        while old >= first && self.bin_bytes + more > share {
            if new > usual || !self.cut_deep(heap, share) {
                return false;
            }
        }
        let is_made = self.resize_bin(heap, class, new);
        if is_made && new > usual {
            self.deep |= 1 << class.index();
        }
        is_made
    }

    /// Makes the first bin that is deep as others are; false if there is none.
    fn cut_deep(&mut self, heap: &Heap, share: usize) -> bool {
        let Some(class) = SizeClass::from_index(self.deep.trailing_zeros() as usize) else {
            return false;
        };
        // What was deep beside many threads may be less than usual beside few.
        let has = usize::from(self.classes[class.index()].slots);
        let slots = max_slots(class, share).min(has);
        self.spill_down_to(heap, class, slots - 1);
        let is_cut = self.resize_bin(heap, class, slots);
        if is_cut {
            self.deep &= !(1 << class.index());
        }
        is_cut
    }

    /// Gives the class an array of `new` slots, which what is in its bin does not fill; false when there is no
    /// memory for it.
    pub(super) fn resize_bin(&mut self, heap: &Heap, class: SizeClass, new: usize) -> bool {
        let mm = heap.mm();
        let Some(array) = mm.meta().alloc(mm.machine(), new * size_of::<*mut u8>()) else {
            return false;
        };
        let array = array.as_ptr().cast::<*mut u8>();
        let bin = heap.bin(class);
        let state = &mut self.classes[class.index()];
        let old = usize::from(state.slots);
        // SAFETY: both arrays are this class's own; the bin's `top` points into the old one. The
        // store of `top` makes the new array the bin, and `limit` follows it.
        unsafe {
            array.write(core::ptr::null_mut());
            let used = if old == 0 { 1 } else { (*bin).top.offset_from_unsigned(state.array) };
            if old != 0 {
                array.add(1).copy_from_nonoverlapping(state.array.add(1), used - 1);
            }
            (*bin).top = array.add(used);
            (*bin).limit = array.add(new);
            if let Some(block) = NonNull::new(state.array.cast::<u8>()) {
                mm.meta().free(block, old * size_of::<*mut u8>());
            }
        }
        state.array = array;
        state.slots = new as u16;
        state.refills = 0;
        state.spilled = false;
        self.bin_bytes = self.bin_bytes - old * class.size() + new * class.size();
        true
    }
}
