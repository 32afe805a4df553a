//! What a heap keeps behind its gate: slabs, caches and unsent messages.

use core::ptr;

use zonal_stats::HeapEvents;

use super::Heap;
use crate::class::{NR_CLASSES, SizeClass};
use crate::large::cache::LargeCache;
use crate::misuse::BadPointer;
use crate::misuse::checked::Quarantine;
use crate::mm::Mm;
use crate::pcp::Pcp;
use crate::remote::Message;
use crate::remote::outbox::Outbox;
use crate::remote::reuse::Reuse;
use crate::slab::SlabList;
use crate::visit::walk::Walk;

/// What a heap keeps for one class besides its bin.
#[derive(Debug)]
pub(crate) struct ClassState {
    /// Slabs with free objects.
    pub(crate) partial: SlabList,
    pub(crate) nr_slabs: u32,
    /// Slabs on `partial` of which all objects are free.
    pub(crate) nr_empty: u32,
    /// Slabs that were given up for want of room, and not missed since.
    pub(crate) given_up: u16,
    /// So many empty ones may stay, since others were given up and missed.
    pub(crate) depth: u16,
    /// The bin's array, slot 0 null; null while the class was never used.
    pub(crate) array: *mut *mut u8,
    /// Slots of the array, with slot 0.
    pub(crate) slots: u16,
    /// Refills since the array last grew.
    pub(crate) refills: u8,
    /// The bin overflowed since the array last grew.
    pub(crate) spilled: bool,
    /// Some of its objects left for other threads since the last refill.
    pub(crate) left: bool,
    /// Misses that were served from the commons, as the first ones are.
    pub(crate) young_misses: u8,
    /// Requests that found the bin empty, and the bytes that they asked for: a sample of all.
    pub(crate) sampled: u32,
    pub(crate) sampled_bytes: u64,
}

impl ClassState {
    const NEW: ClassState = ClassState {
        partial: SlabList::EMPTY,
        nr_slabs: 0,
        nr_empty: 0,
        given_up: 0,
        depth: 0,
        array: ptr::null_mut(),
        slots: 0,
        refills: 0,
        spilled: false,
        left: false,
        young_misses: 0,
        sampled: 0,
        sampled_bytes: 0,
    };

    /// Notes the size of a request that found the bin empty.
    pub(crate) fn sample(&mut self, size: usize) {
        // After four thousand million requests the sample is good enough.
        if let Some(sampled) = self.sampled.checked_add(1) {
            self.sampled = sampled;
            self.sampled_bytes += size as u64;
        }
    }
}

/// What only the one inside the gate may touch.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Inner {
    pub(crate) classes: [ClassState; NR_CLASSES],
    pub(crate) pcp: Pcp,
    pub(crate) outbox: Outbox,
    /// Bytes sent less those taken in, since that was last added to the sum.
    pub(crate) flight: isize,
    pub(crate) reuse: Reuse,
    /// Messages taken out of the inbox and not opened yet, and the bytes of the objects in them.
    pub(crate) received: *mut Message,
    pub(crate) received_bytes: usize,
    /// Refills so far when kswapd last looked.
    pub(crate) refills_seen: u64,
    pub(crate) quarantine: Quarantine,
    /// Of the random order in which objects of a page are handed out. Not 0.
    pub(crate) seed: u64,
    /// Bytes that all bins together can hold, against the budget.
    pub(crate) bin_bytes: usize,
    /// Classes whose bins are deep, one bit each.
    pub(crate) deep: u64,
    /// Bytes of the slabs on lists of which all objects are free.
    pub(crate) empty_bytes: usize,
    /// How far the look for holes has come.
    pub(crate) walk: Walk,
    /// The first misuse found here, where it could not be returned.
    pub(crate) fault: Option<BadPointer>,
    /// Counted here; those of the page cache, in it.
    pub(crate) events: HeapEvents,
    /// How many large runs stay with the heap: [`super::Heap::kept_pages`].
    pub(crate) large: LargeCache,
}

impl Inner {
    /// Writes each field of `*place`, as `Heap::init` does.
    ///
    /// # Safety
    /// `place` is valid for an `Inner`.
    pub(super) unsafe fn init(place: *mut Inner, mm: &Mm) {
        // SAFETY: each write goes to a field of `*place`, which the caller gives.
        unsafe {
            for class in 0..NR_CLASSES {
                (&raw mut (*place).classes[class]).write(ClassState::NEW);
            }
            (&raw mut (*place).pcp).write(Pcp::new());
            (&raw mut (*place).large).write(LargeCache::NEW);
            (&raw mut (*place).outbox).write(Outbox::new());
            (&raw mut (*place).flight).write(0);
            (&raw mut (*place).reuse).write(Reuse::NEW);
            (&raw mut (*place).received).write(ptr::null_mut());
            (&raw mut (*place).received_bytes).write(0);
            (&raw mut (*place).refills_seen).write(0);
            (&raw mut (*place).quarantine).write(Quarantine::EMPTY);
            (&raw mut (*place).seed).write(mm.machine().random() | 1);
            (&raw mut (*place).bin_bytes).write(0);
            (&raw mut (*place).deep).write(0);
            (&raw mut (*place).empty_bytes).write(0);
            (&raw mut (*place).walk).write(Walk::NEW);
            (&raw mut (*place).fault).write(None);
            (&raw mut (*place).events).write(HeapEvents::default());
        }
    }
}

impl Heap {
    /// Objects in the bin of `class`. Owner only; others get an estimate.
    pub(crate) fn bin_len(&self, class: SizeClass, state: &ClassState) -> usize {
        if state.array.is_null() {
            return 0;
        }
        // Volatile: the owner may be at work on the bin.
        // SAFETY: a word of the heap. It points into the array, above slot 0; what is stale, into some array of this
        // bin; the caller only counts.
        let top = unsafe { (&raw const (*self.hot()).bins[class.index()].top).read_volatile() };
        (top.addr().saturating_sub(state.array.addr()) / size_of::<*mut u8>()).saturating_sub(1)
    }
}
