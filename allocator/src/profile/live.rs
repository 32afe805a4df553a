//! Which objects are sampled and alive.
//!
//! # Synchronisation
//!
//! | word        | writers                        | readers   | carries               |
//! |-------------|--------------------------------|-----------|-----------------------|
//! | `Slot.addr` | who claims FREE, who frees it  | all       | the slot's `Object`   |
//! | `Pages`     | who samples, who frees         | all       | nothing               |
//!
//! A slot goes FREE -> CLAIMED -> address -> CLAIMED -> FREE. Whoever made it CLAIMED has the
//! object in it alone; FREE is stored with Release and claimed with Acquire [live-slot], and so is the
//! address: the program that frees an object got its pointer from the thread that allocated it, in
//! order, but a profile that is started again clears the slots of all threads. Two frees of one
//! object at a time, a mistake of the program, meet at the compare-exchange. A thread that vanishes in
//! a fork leaves a slot CLAIMED: lost, and harmless.

use crate::fault::weakened_by;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU8, AtomicUsize};
use crate::sync::cell::UnsafeCell;

use super::countdown::Weight;

const FREE: usize = 0;
/// No object has this address.
const CLAIMED: usize = 1;
/// Slots in which an address may stand.
const WINDOW: usize = if cfg!(zonal_loom) { 1 } else { 64 };

/// A sampled object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) addr: usize,
    pub(crate) size: usize,
    /// Index of the stack that allocated it.
    pub(crate) stack: u32,
    pub(crate) weight: Weight,
}

/// A place for one.
#[derive(Debug)]
pub(crate) struct Slot {
    addr: AtomicUsize,
    object: UnsafeCell<Object>,
}

// SAFETY: `object` is touched by the one alone who made `addr` CLAIMED.
unsafe impl Sync for Slot {}

impl Slot {
    /// The object at `addr` if it is here, and not any more.
    fn take(&self, addr: usize) -> Option<Object> {
        if self.addr.load(Relaxed) != addr
            // ORDERING: Acquire, pairs with the Release in `insert` [live-slot].
            || self.addr.compare_exchange(addr, CLAIMED, Acquire, Relaxed).is_err()
        {
            return None;
        }
        // SAFETY: CLAIMED by us.
        let object = self.object.with(|place| unsafe { *place });
        // ORDERING: Release, pairs with the Acquire in `insert` [live-slot].
        self.addr.store(FREE, weakened_by("live_free_relaxed", Release));
        Some(object)
    }
}

#[cfg(test)]
impl Slot {
    pub(crate) fn new() -> Slot {
        let object = Object { addr: 0, size: 0, stack: 0, weight: Weight::default() };
        Slot { addr: AtomicUsize::new(FREE), object: UnsafeCell::new(object) }
    }
}

/// All sampled objects by address: open addressing with a bounded window and no tombstones.
#[derive(Debug)]
pub(crate) struct Live {
    slots: &'static [Slot],
}

impl Live {
    /// A table of so many slots, a power of two.
    pub(crate) fn new(slots: &'static [Slot]) -> Live {
        Live { slots }
    }

    fn window(&self, addr: usize) -> impl Iterator<Item = &'static Slot> {
        let slots = self.slots;
        let first = mix(addr);
        (0..WINDOW).filter_map(move |step| slots.get(first.wrapping_add(step) & (slots.len() - 1)))
    }

    /// Remembers `object`; false if there is no place.
    pub(crate) fn insert(&self, object: Object) -> bool {
        for slot in self.window(object.addr) {
            // ORDERING: Acquire, pairs with the Release in `take` [live-slot].
            if slot.addr.load(Relaxed) == FREE
                && slot.addr.compare_exchange(FREE, CLAIMED, Acquire, Relaxed).is_ok()
            {
                // SAFETY: CLAIMED by us.
                slot.object.with_mut(|place| unsafe { *place = object });
                // ORDERING: Release, pairs with the Acquire in `take` [live-slot].
                slot.addr.store(object.addr, weakened_by("live_insert_relaxed", Release));
                return true;
            }
        }
        false
    }

    /// Forgets the object at `addr`, if it is there.
    pub(crate) fn remove(&self, addr: usize) -> Option<Object> {
        self.window(addr).find_map(|slot| slot.take(addr))
    }

    /// Forgets all but those that somebody is about to change.
    pub(crate) fn clear(&self) {
        for slot in self.slots {
            let addr = slot.addr.load(Relaxed);
            if addr != FREE && addr != CLAIMED {
                slot.take(addr);
            }
        }
    }
}

/// Objects are at least 8 bytes apart, and neighbours shall not crowd one window.
fn mix(addr: usize) -> usize {
    let x = (addr as u64 >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 32) as usize
}

/// How many sampled objects start in the pages that share this byte. Stays at its limit once
/// reached.
pub(crate) type Pages = AtomicU8;

/// The question of every `free`, answered by one load. Neighbours share a byte, so the bytes in
/// use are few and stay in the cache.
#[derive(Debug)]
pub(crate) struct Filter<const N: usize> {
    pages: &'static [Pages; N],
}

impl<const N: usize> Filter<N> {
    /// For a table of a power of two.
    pub(crate) fn new(pages: &'static [Pages; N]) -> Filter<N> {
        const { assert!(N.is_power_of_two()) };
        Filter { pages }
    }

    #[inline(always)]
    fn page(&self, addr: usize) -> &'static Pages {
        &self.pages[(addr >> zonal_numa::PAGE_SHIFT) & (N - 1)]
    }

    /// Whether there may be a sampled object at `addr`.
    #[inline(always)]
    pub(crate) fn has(&self, addr: usize) -> bool {
        // Relaxed: see the module for what orders a free behind its allocation.
        self.page(addr).load(Relaxed) != 0
    }

    pub(crate) fn add(&self, addr: usize) {
        self.change(addr, |count| count.checked_add(1));
    }

    pub(crate) fn remove(&self, addr: usize) {
        self.change(addr, |count| (count > 0 && count < u8::MAX).then(|| count - 1));
    }

    pub(crate) fn clear(&self) {
        self.pages.iter().for_each(|page| page.store(0, Relaxed));
    }

    fn change(&self, addr: usize, change: impl Fn(u8) -> Option<u8>) {
        let page = self.page(addr);
        let mut count = page.load(Relaxed);
        while let Some(new) = change(count) {
            match page.compare_exchange_weak(count, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => count = now,
            }
        }
    }
}
