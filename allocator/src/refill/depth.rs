//! How deep a bin is: it follows the traffic. Its array starts small and doubles when it overflows
//! between refills, or after a few refills in a row, bounded by bytes for the class and for the
//! heap.

use core::ptr::NonNull;

use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::{Heap, Inner};

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
/// Refills in a row after which a bin counts as too small.
const REFILLS_TO_GROW: u8 = 3;

/// What the bins of one heap may hold, in bytes, when so many threads have one.
pub(super) fn share_of_heap(nr_threads: usize) -> usize {
    (ALL_BYTES / nr_threads.max(1)).min(HEAP_BYTES)
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

impl Inner {
    /// Gives the class an array if it has none, and a larger one when it has earned it.
    pub(super) fn prepare_bin(&mut self, heap: &Heap, class: SizeClass) -> Result<(), AllocError> {
        let state = &mut self.classes[class.index()];
        state.refills = state.refills.saturating_add(1);
        if state.array.is_null() || state.spilled || state.refills > REFILLS_TO_GROW {
            self.grow_bin(heap, class);
        }
        if self.classes[class.index()].array.is_null() {
            return Err(AllocError::Exhausted { node: heap.node(), order: 0 });
        }
        Ok(())
    }

    /// Doubles the array of the class's bin (or makes the first one); false when it stays.
    pub(super) fn grow_bin(&mut self, heap: &Heap, class: SizeClass) -> bool {
        let state = &self.classes[class.index()];
        let old = usize::from(state.slots);
        let share = share_of_heap(heap.mm().pages().nr_threads());
        let max = max_slots(class, share);
        let new = if old == 0 { FIRST_SLOTS.min(max) } else { old * 2 };
        let more_bytes = (new - old) * class.size();
        if new > max || (old != 0 && self.bin_bytes + more_bytes > share) {
            return false;
        }
        let mm = heap.mm();
        let Some(array) = mm.meta().alloc(mm.machine(), new * size_of::<*mut u8>()) else {
            return false;
        };
        let array = array.as_ptr().cast::<*mut u8>();
        let bin = heap.bin(class);
        let state = &mut self.classes[class.index()];
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
        self.bin_bytes += more_bytes;
        true
    }
}
