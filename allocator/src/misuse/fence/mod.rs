//! Fenced objects: a few small objects that are checked, the first of each class and then some by chance.
//! After the kernel's KFENCE, but without its guard pages: a fenced object costs no system call, and no
//! fault of the program's.
//!
//! ```text
//!   live:  | the program's bytes | 0xf5 ... 0xf5 | seal |        a slot of 64 to 4096 bytes
//!   free:  | key | key | key | ....................key |
//! ```
//!
//! The first misses of a class are served from here before anything is put into its bin, so that the next
//! request misses, too: a small program, or the test of one function, is checked in whole. Later, it
//! is one miss in so many ([`crate::Config::fence`]), of smaller objects. Hits know nothing of it, and a
//! free of such an object misses, since it lies outside of all sections. An object
//! has the seal of a checked block ([`crate::misuse::checked`]), and what was freed is filled with a key that
//! is no address. When a slot is used again, and at the end of the process, each byte that differs was
//! written by a program that had no right to.
//!
//! What was freed rests: its slot is used again when enough others of its size were freed after it. The
//! arena is mapped when the first object is chosen, between two pages that nobody can touch; pages of
//! it become slots of a size when no slot of that size has rested. When there are no more pages, the slot
//! that rested longest is used, and when all are in use, no more objects are chosen.
//!
//! # Synchronisation
//!
//! | word             | writers          | readers | carries                                |
//! |------------------|------------------|---------|----------------------------------------|
//! | `base`           | first use, lock  | all     | nothing; the arena is mapped           |
//! | `pages[].slot`   | growth, lock     | all     | the size of the slots; 0 for none yet  |
//! | `pages[].freed`  | who frees, lock  | all     | which nobody has                       |
//! | `pages[].free`   | lock             | all     | which of them were taken in            |
//! | `is_left`        | who frees, lock  | lock    | some were not                          |
//! | `nr_pages`       | growth, lock     | all     | pages with slots                       |
//! | `wanted`         | lock             | all     | classes whose first are to come        |
//!
//! Release on `slot`, Acquire where it is read without the lock: who has a pointer into the arena, be it a
//! wrong one, finds slots that are filled and known to be free. An object passes on with its pointer, a
//! slot under the lock, which is held for no call of the system but those of the mapping. A free waits for
//! nobody: it sets its bit in `freed`, Release, so that of two frees one counts, and takes the slot in,
//! Acquire; where the lock is held it leaves that to who has it next, and says so by `is_left`. The bit goes
//! when the slot is used again. Model: `loom/fence.rs`.

mod choice;
mod look;
#[cfg(test)]
mod tests;
mod turns;

use core::ptr::{self, NonNull};

use zonal_numa::{Machine, NodeId, PAGE_SIZE};

use self::turns::Turns;
use crate::class::{NR_CLASSES, SizeClass};
use crate::fault::{fault, weakened_by};
use crate::lock::{FutexLock, Mutex};
use crate::misuse::checked::{Extent, WORD};
use crate::misuse::{BadKind, BadPointer};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

const NR_PAGES: usize = if cfg!(zonal_loom) { 1 } else { 64 };
/// Bytes of the smallest slots; each size is twice the one before.
const FIRST_SLOT: usize = 64;
const NR_SIZES: usize = 7;
/// The largest object that is fenced, in bytes.
pub(crate) const MAX_SIZE: usize = (FIRST_SLOT << (NR_SIZES - 1)) - WORD;
/// Slots of a size that rest: so many are freed before the first of them is used again.
const NR_RESTING: usize = 31;

/// The arena and who is in it.
#[derive(Debug)]
pub(crate) struct Fence {
    /// One miss in so many; 0 for none.
    period: u64,
    key: u64,
    base: AtomicPtr<u8>,
    pages: [SlotPage; NR_PAGES],
    nr_pages: AtomicUsize,
    /// By class: whether some of its first objects are still to come.
    wanted: AtomicU64,
    /// Some slots were freed and not taken in.
    is_left: AtomicBool,
    turns: Mutex<Turns>,
}

const _: () = assert!(NR_CLASSES <= u64::BITS as usize);

#[derive(Debug)]
struct SlotPage {
    /// Bytes of a slot.
    slot: AtomicU32,
    /// Those that were taken in.
    free: AtomicU64,
    /// And those that nobody took in yet.
    freed: AtomicU64,
}

/// A slot and where it is entered.
struct Slot {
    page: usize,
    index: usize,
    extent: Extent,
}

impl Fence {
    pub(crate) fn new(period: u64, key: u64) -> Fence {
        Fence {
            period,
            key,
            base: AtomicPtr::new(ptr::null_mut()),
            pages: [(); NR_PAGES].map(|()| SlotPage {
                slot: AtomicU32::new(0),
                free: AtomicU64::new(0),
                freed: AtomicU64::new(0),
            }),
            nr_pages: AtomicUsize::new(0),
            wanted: AtomicU64::new(if period == 0 { 0 } else { u64::MAX }),
            is_left: AtomicBool::new(false),
            turns: Mutex::new(Turns::NEW),
        }
    }

    /// An object of zeros in memory of `node`, where the caller runs; none where it is too large, there
    /// is no slot left, or another thread is at work here. What was wrong with the slot is an error, and
    /// the slot is lost.
    pub(crate) fn alloc(
        &self,
        (machine, node): (&Machine, NodeId),
        class: SizeClass,
        size: usize,
    ) -> Result<Option<NonNull<u8>>, BadPointer> {
        let which = match (size + WORD).div_ceil(FIRST_SLOT).next_power_of_two().ilog2() as usize {
            _ if size > MAX_SIZE => return Ok(None),
            which => which,
        };
        let Some(mut turns) = self.turns.try_lock() else { return Ok(None) };
        if self.is_left.load(Relaxed) {
            self.take_in(&mut turns);
        }
        self.count_first(&mut turns, class);
        let Some(extent) = self.take((machine, node), &mut turns, which) else { return Ok(None) };
        if !extent.is_filled() {
            return Err(extent.bad(BadKind::UsedAfterFree));
        }
        // SAFETY: the slot is the caller's.
        unsafe { extent.start.write_bytes(0, size) };
        // A free in a signal handler may write a link into it.
        extent.arm(size.max(WORD));
        Ok(Some(extent.start))
    }

    /// A slot of a size that has rested, taken; one that rests where there are no more pages.
    fn take(&self, place: (&Machine, NodeId), turns: &mut Turns, which: usize) -> Option<Extent> {
        let (_, node) = place;
        let bytes = FIRST_SLOT << which;
        let last = turns.last[which];
        let found = (last..NR_PAGES).chain(0..last).find(|&page| {
            let slot = self.pages[page].slot.load(Relaxed) as usize;
            turns.ready[page] != 0 && slot == bytes && turns.nodes[page] == node
        });
        let (page, index) = match found.or_else(|| self.grow(place, turns, bytes)) {
            Some(page) => (page, turns.ready[page].trailing_zeros() as usize),
            None => {
                let nodes = &turns.nodes;
                let (page, index) = turns.resting[which].take(|page| nodes[page] == node)?;
                (page.into(), index.into())
            }
        };
        turns.last[which] = page;
        turns.ready[page] &= !(1 << index);
        let free = &self.pages[page].free;
        free.store(free.load(Relaxed) & !(1 << index), Relaxed);
        self.pages[page].freed.fetch_and(!(1 << index), Relaxed);
        self.extent(page, index, bytes)
    }

    /// One more page with slots of so many bytes, from where the caller runs.
    fn grow(
        &self,
        (machine, node): (&Machine, NodeId),
        turns: &mut Turns,
        bytes: usize,
    ) -> Option<usize> {
        if self.base.load(Relaxed).is_null() {
            let base = map_between_guards(machine)?;
            // Relaxed: what is in the arena comes with `slot`.
            self.base.store(base, Relaxed);
        }
        let page = Some(self.nr_pages.load(Relaxed)).filter(|&page| page < NR_PAGES)?;
        let nr_slots = PAGE_SIZE / bytes;
        self.extent(page, 0, PAGE_SIZE)?.fill();
        let all = u64::MAX.checked_shr((u64::BITS as usize - nr_slots) as u32)?;
        (turns.ready[page], turns.nodes[page]) = (all, node);
        self.pages[page].free.store(all, Relaxed);
        self.pages[page].freed.store(all, Relaxed);
        // ORDERING: Release, pairs with Acquire in `slot_at`.
        self.pages[page].slot.store(bytes as u32, weakened_by("fence_slots_relaxed", Release));
        self.nr_pages.store(page + 1, Relaxed);
        Some(page)
    }

    fn extent(&self, page: usize, index: usize, bytes: usize) -> Option<Extent> {
        let start = self.base.load(Relaxed).wrapping_add(page * PAGE_SIZE + index * bytes);
        Some(Extent { start: NonNull::new(start)?, len: bytes, key: self.key })
    }

    /// Frees the object at `addr`, which lies in the arena.
    pub(crate) fn free(&self, addr: usize) -> Result<(), BadPointer> {
        let Some(slot) = self.slot_at(addr) else {
            return Err(BadPointer::new(addr, BadKind::NotAllocated));
        };
        let freed = &self.pages[slot.page].freed;
        let bit = 1 << slot.index;
        let second = Err(BadPointer::new(addr, BadKind::DoubleFree));
        let is_right = self.size_of(addr).and_then(|_| {
            let is_whole = slot.extent.is_whole();
            is_whole.then_some(()).ok_or_else(|| slot.extent.bad(BadKind::Overrun))
        });
        match is_right {
            // Another free came first, and the slot was filled since: an exchange reads the newest value.
            // ORDERING: Acquire, pairs with Release below, in that free.
            Err(bad) if bad.kind == BadKind::Overrun && freed.fetch_or(0, Acquire) & bit != 0 => {
                return second;
            }
            other => other?,
        }
        // ORDERING: Release, pairs with Acquire in `take_in`: who takes it in may write to it.
        let order = weakened_by("fence_free_relaxed", Release);
        if freed.fetch_or(bit, order) & bit != 0 && !fault("fence_frees_twice") {
            return second;
        }
        match self.turns.try_lock() {
            Some(mut turns) => self.take_in_slot(&mut turns, slot.page, slot.index),
            // ORDERING: Release, pairs with Acquire in `take_in`: who sees it sees the bit.
            None => {
                let order = weakened_by("fence_left_relaxed", Release);
                self.is_left.store(!fault("fence_forgets_left"), order);
            }
        }
        Ok(())
    }

    /// Takes in what was freed while somebody had the lock.
    #[cold]
    fn take_in(&self, turns: &mut Turns) {
        // ORDERING: Acquire, pairs with Release in `free`. What comes later sets it again.
        self.is_left.swap(false, Acquire);
        for (number, page) in self.pages[..self.nr_pages.load(Relaxed)].iter().enumerate() {
            let mut left = page.freed.load(Relaxed) & !page.free.load(Relaxed);
            while left != 0 {
                self.take_in_slot(turns, number, left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }

    /// Takes the slot in, unless somebody else did.
    fn take_in_slot(&self, turns: &mut Turns, page: usize, index: usize) {
        let free = &self.pages[page].free;
        // ORDERING: Acquire, pairs with Release in `free`.
        let left = self.pages[page].freed.load(Acquire) & !free.load(Relaxed);
        if left & 1 << index == 0 {
            return;
        }
        let bytes = self.pages[page].slot.load(Relaxed) as usize;
        let Some(extent) = self.extent(page, index, bytes) else { return };
        extent.fill();
        free.store(free.load(Relaxed) | 1 << index, Relaxed);
        let which = (bytes / FIRST_SLOT).ilog2() as usize;
        let last = (page as u8, index as u8);
        if let Some((page, index)) = turns.resting[which].exchange(Some(last)) {
            turns.ready[usize::from(page)] |= 1 << index;
        }
    }

    /// In a forked child: a thread of the parent may have been about to say that it left one.
    pub(crate) fn after_fork(&self) {
        self.is_left.store(true, Relaxed);
    }

    pub(crate) fn raw_lock(&self) -> &FutexLock {
        // SAFETY: for the fork handlers only, in the order of the lock table.
        unsafe { self.turns.raw() }
    }
}

/// The arena; pages before and behind it cannot be touched, if the system has it so.
fn map_between_guards(machine: &Machine) -> Option<*mut u8> {
    let guard = machine.page_size();
    let span = machine.map(NR_PAGES * PAGE_SIZE + 2 * guard, PAGE_SIZE).ok()?;
    let (before, rest) = span.split_at(guard);
    let (arena, behind) = rest.split_at(NR_PAGES * PAGE_SIZE);
    for guard in [before, behind] {
        let _ = machine.protect_none(guard);
    }
    Some(ptr::with_exposed_provenance_mut(arena.addr()))
}
