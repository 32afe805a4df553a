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
//! has the seal of a checked block ([`crate::checked`]), and what was freed is filled with a key that
//! is no address. When a slot is used again, and at the end of the process, each byte that differs was
//! written by a program that had no right to.
//!
//! What was freed rests: its slot is used again when enough others of its size were freed after it. The
//! arena is mapped when the first object is chosen, between two pages that nobody can touch; pages of
//! it become slots of a size when no slot of that size has rested. When there are no more pages, the slot that rested longest is used, and when all
//! are in use, no more objects are chosen.
//!
//! # Synchronisation
//!
//! | word             | writers          | readers | carries                                |
//! |------------------|------------------|---------|----------------------------------------|
//! | `base`           | first use, lock  | all     | nothing; the arena is mapped           |
//! | `pages[].slots`  | growth, lock     | all     | the size of the slots; 0 for none yet  |
//! | `pages[].free`   | lock             | all     | which are free                         |
//! | `nr_pages`       | growth, lock     | all     | pages with slots                       |
//! | `wanted`         | lock             | all     | classes whose first are to come        |
//!
//! Release on `slots`, Acquire where it is read without the lock: who has a pointer into the arena, be it a
//! wrong one, finds slots that are filled and known to be free. An object passes on with its pointer, a
//! slot under the lock, which is held for no call of the system but those of the mapping. What is wrong
//! with a pointer is asked under it, so that of two frees one counts. Model: `loom/fence.rs`.

use core::mem;
use core::ptr::{self, NonNull};

use zonal_numa::{Machine, NodeId, PAGE_SIZE, Span};

use crate::checked::{Extent, WORD};
use crate::class::{MAX_SMALL, NR_CLASSES, SizeClass};
use crate::fault::{fault, weakened_by};
use crate::lock::{FutexLock, Mutex};
use crate::misuse::{BadKind, BadPointer};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

const NR_PAGES: usize = if cfg!(zonal_loom) { 1 } else { 64 };
/// Bytes of the smallest slots; each size is twice the one before.
const FIRST_SLOT: usize = 64;
const NR_SIZES: usize = 7;
/// The largest object that is fenced, in bytes.
pub(crate) const MAX_SIZE: usize = (FIRST_SLOT << (NR_SIZES - 1)) - WORD;
/// The largest class of which some are fenced by chance.
const MAX_BY_CHANCE: usize = 1024;
/// Slots of a size that rest: so many are freed before the first of them is used again.
const NR_RESTING: usize = 31;
/// From so many pages on objects are chosen half as often for each further sixteenth of the arena, so that those
/// which live long do not use it up.
const EASY_PAGES: usize = NR_PAGES * 3 / 4;
/// Bytes of a class and how many of its objects are fenced before chance decides: so many that those
/// which the C library takes when a program begins, mostly small ones, leave some.
const NR_FIRSTS: [(usize, u8); 5] = [(48, 72), (128, 30), (256, 8), (1024, 4), (MAX_SMALL, 2)];

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
    turns: Mutex<Turns>,
}

const _: () = assert!(NR_CLASSES <= u64::BITS as usize);

#[derive(Debug)]
struct SlotPage {
    /// Bytes of a slot.
    slot: AtomicU32,
    free: AtomicU64,
}

#[derive(Debug)]
struct Turns {
    /// By page: the slots that were never used, or have rested.
    ready: [u64; NR_PAGES],
    /// By page: whose memory it is.
    nodes: [NodeId; NR_PAGES],
    /// By size: the page where a slot was found last.
    last: [usize; NR_SIZES],
    /// By size: those freed last.
    resting: [Resting; NR_SIZES],
    /// By class: how many of its first objects there were.
    nr_firsts: [u8; NR_CLASSES],
}

/// A ring of pages and slots in them, the oldest at `next`.
#[derive(Clone, Copy, Debug)]
struct Resting {
    slots: [Option<(u8, u8)>; NR_RESTING],
    next: usize,
}

impl Resting {
    const NONE: Resting = Resting { slots: [None; NR_RESTING], next: 0 };

    /// The oldest, for a new one.
    fn exchange(&mut self, slot: Option<(u8, u8)>) -> Option<(u8, u8)> {
        let oldest = mem::replace(&mut self.slots[self.next], slot);
        self.next = (self.next + 1) % NR_RESTING;
        oldest
    }

    /// The oldest in a page that `fits`.
    fn take(&mut self, fits: impl Fn(usize) -> bool) -> Option<(u8, u8)> {
        let (newer, older) = self.slots.split_at_mut(self.next);
        let mut slots = older.iter_mut().chain(newer);
        slots.find(|slot| slot.is_some_and(|(page, _)| fits(page.into())))?.take()
    }
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
            pages: [(); NR_PAGES]
                .map(|()| SlotPage { slot: AtomicU32::new(0), free: AtomicU64::new(0) }),
            nr_pages: AtomicUsize::new(0),
            wanted: AtomicU64::new(if period == 0 { 0 } else { u64::MAX }),
            turns: Mutex::new(Turns {
                ready: [0; NR_PAGES],
                nodes: [NodeId::ZERO; NR_PAGES],
                last: [0; NR_SIZES],
                resting: [Resting::NONE; NR_SIZES],
                nr_firsts: [0; NR_CLASSES],
            }),
        }
    }

    /// Whether each miss of the class is to be fenced.
    #[inline]
    pub(crate) fn wants(&self, class: SizeClass) -> bool {
        // Relaxed: a hint; the lock decides.
        self.period == 1 || self.wanted.load(Relaxed) & 1 << class.index() != 0
    }

    /// One miss in so many is to be fenced; 0 for none.
    #[inline]
    pub(crate) fn period(&self) -> u64 {
        match self.period {
            all_or_none @ 0..=1 => all_or_none,
            period => {
                // Relaxed: how often, not whether.
                let nr_uneasy = self.nr_pages.load(Relaxed).saturating_sub(EASY_PAGES);
                period.saturating_mul(1 << (nr_uneasy * 16 / NR_PAGES))
            }
        }
    }

    /// Whether a miss of the class can be chosen by chance.
    #[inline]
    pub(crate) fn chooses(class: SizeClass) -> bool {
        class.size() <= MAX_BY_CHANCE
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

    /// Whether an object of the class that has no slot here shall be checked in another way.
    pub(crate) fn take_turn(&self, class: SizeClass) -> bool {
        let Some(mut turns) = self.turns.try_lock() else { return false };
        self.count_first(&mut turns, class);
        true
    }

    /// One more of the class had its turn, whether or not there is a slot for it.
    fn count_first(&self, turns: &mut Turns, class: SizeClass) {
        let nr = &mut turns.nr_firsts[class.index()];
        *nr = nr.saturating_add(1);
        if *nr >= nr_firsts(class) {
            self.wanted.store(self.wanted.load(Relaxed) & !(1 << class.index()), Relaxed);
        }
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
        // ORDERING: Release, pairs with Acquire in `slot_at`.
        self.pages[page].slot.store(bytes as u32, weakened_by("fence_slots_relaxed", Release));
        self.nr_pages.store(page + 1, Relaxed);
        Some(page)
    }

    fn extent(&self, page: usize, index: usize, bytes: usize) -> Option<Extent> {
        let start = self.base.load(Relaxed).wrapping_add(page * PAGE_SIZE + index * bytes);
        Some(Extent { start: NonNull::new(start)?, len: bytes, key: self.key })
    }

    /// Whether `addr` lies in the arena.
    #[inline]
    pub(crate) fn contains(&self, addr: usize) -> bool {
        // Relaxed: see `grow`.
        let base = self.base.load(Relaxed);
        !base.is_null() && addr.wrapping_sub(base.addr()) < NR_PAGES * PAGE_SIZE
    }

    /// The slot around `addr`, which lies in the arena, and its first byte.
    fn slot_at(&self, addr: usize) -> Option<Slot> {
        let offset = addr.wrapping_sub(self.base.load(Relaxed).addr());
        let page = offset / PAGE_SIZE;
        // ORDERING: Acquire, pairs with Release in `grow`: its slots are filled.
        let bytes = self.pages.get(page)?.slot.load(Acquire) as usize;
        let index = (offset % PAGE_SIZE).checked_div(bytes)?;
        Some(Slot { page, index, extent: self.extent(page, index, bytes)? })
    }

    fn is_free(&self, slot: &Slot) -> bool {
        self.pages[slot.page].free.load(Relaxed) & 1 << slot.index != 0
    }

    /// Bytes of the live object at `addr`, which lies in the arena. Without a lock.
    pub(crate) fn size_of(&self, addr: usize) -> Result<usize, BadPointer> {
        let bad = |kind| BadPointer::new(addr, kind);
        let slot = self.slot_at(addr).ok_or(bad(BadKind::NotAllocated))?;
        if slot.extent.start.addr().get() != addr {
            return Err(bad(BadKind::Interior));
        }
        if self.is_free(&slot) {
            return Err(bad(BadKind::DoubleFree));
        }
        slot.extent.size().ok_or(bad(BadKind::Overrun))
    }

    /// Frees the object at `addr`, which lies in the arena.
    pub(crate) fn free(&self, addr: usize) -> Result<(), BadPointer> {
        let too_early = fault("fence_check_unlocked").then(|| self.size_of(addr));
        let mut turns = self.turns.lock();
        too_early.unwrap_or_else(|| self.size_of(addr))?;
        let Some(slot) = self.slot_at(addr) else { return Ok(()) };
        if !slot.extent.is_whole() {
            return Err(slot.extent.bad(BadKind::Overrun));
        }
        slot.extent.fill();
        let free = &self.pages[slot.page].free;
        free.store(free.load(Relaxed) | 1 << slot.index, Relaxed);
        let which = (slot.extent.len / FIRST_SLOT).ilog2() as usize;
        let last = (slot.page as u8, slot.index as u8);
        if let Some((page, index)) = turns.resting[which].exchange(Some(last)) {
            turns.ready[usize::from(page)] |= 1 << index;
        }
        Ok(())
    }

    /// The first object that was written past its end, or written to after it was freed. Nothing
    /// where somebody is at work here.
    pub(crate) fn check(&self) -> Option<BadPointer> {
        let _turns = self.turns.try_lock()?;
        let base = self.base.load(Relaxed).addr();
        (0..self.nr_pages.load(Relaxed)).find_map(|page| {
            let bytes = self.pages[page].slot.load(Relaxed) as usize;
            (0..PAGE_SIZE / bytes).find_map(|index| {
                let slot = self.slot_at(base + page * PAGE_SIZE + index * bytes)?;
                let kind = match self.is_free(&slot) {
                    true if !slot.extent.is_filled() => BadKind::UsedAfterFree,
                    false if !slot.extent.is_whole() => BadKind::Overrun,
                    _ => return None,
                };
                Some(slot.extent.bad(kind))
            })
        })
    }

    /// What lies at `addr`: bytes of the slot, distance from its first one, whether it is free.
    pub(crate) fn place_of(&self, addr: usize) -> Option<(usize, usize, bool)> {
        let slot = self.slot_at(addr).filter(|_| self.contains(addr))?;
        let offset = addr - slot.extent.start.addr().get();
        Some((slot.extent.len, offset, self.is_free(&slot)))
    }

    /// Bytes of the slots whose objects are live, while others go on.
    pub(crate) fn live_bytes(&self) -> usize {
        let slots = self.pages[..self.nr_pages.load(Relaxed)].iter();
        let live = slots.map(|page| {
            let bytes = page.slot.load(Relaxed) as usize;
            PAGE_SIZE.saturating_sub(bytes * page.free.load(Relaxed).count_ones() as usize)
        });
        live.sum()
    }

    /// Where the arena lies, if there is one.
    pub(crate) fn span(&self) -> Option<Span> {
        let base = NonNull::new(self.base.load(Relaxed))?;
        // SAFETY: mapped by `grow`, for ever; it is only looked at.
        Some(unsafe { Span::new(base.addr().get(), NR_PAGES * PAGE_SIZE) })
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

/// How many of the first objects of a class are fenced.
fn nr_firsts(class: SizeClass) -> u8 {
    NR_FIRSTS.iter().find(|&&(upto, _)| class.size() <= upto).map_or(0, |&(_, nr)| nr)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 0x8123_4567_89ab_cdef;

    fn fence() -> (Fence, Machine) {
        (Fence::new(4, KEY), Machine::linux())
    }

    fn try_take(
        fence: &Fence,
        machine: &Machine,
        size: usize,
    ) -> Result<Option<NonNull<u8>>, BadPointer> {
        fence.alloc((machine, NodeId::ZERO), SizeClass::of(size).unwrap(), size)
    }

    fn take(fence: &Fence, machine: &Machine, size: usize) -> NonNull<u8> {
        try_take(fence, machine, size).unwrap().unwrap()
    }

    #[test]
    fn objects_are_apart_and_know_their_size() {
        let (fence, machine) = fence();
        assert!(!fence.contains(0) && fence.check().is_none());
        let mut taken = Vec::new();
        for size in (0..=MAX_SIZE).step_by(61) {
            let object = take(&fence, &machine, size);
            let addr = object.addr().get();
            assert!(fence.contains(addr) && addr.is_multiple_of(16));
            assert_eq!(fence.size_of(addr), Ok(size.max(WORD)));
            // SAFETY: an object of that size.
            let bytes = unsafe { core::slice::from_raw_parts_mut(object.as_ptr(), size) };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(0xa5);
            taken.push(addr..addr + size.max(WORD));
        }
        taken.sort_by_key(|range| range.start);
        assert!(taken.windows(2).all(|pair| pair[0].end + WORD <= pair[1].start));
        assert_eq!(fence.check(), None);
        for range in taken {
            assert_eq!(fence.free(range.start + 16).unwrap_err().kind, BadKind::Interior);
            assert_eq!(fence.free(range.start), Ok(()));
            assert_eq!(fence.free(range.start).unwrap_err().kind, BadKind::DoubleFree);
        }
        assert_eq!(fence.check(), None);
        assert!(try_take(&fence, &machine, MAX_SIZE + 1).unwrap().is_none());
    }

    #[test]
    fn what_was_written_outside_is_found() {
        for (size, at) in [(100, 100), (100, 119), (100, 120), (1016, 1016), (8, 8)] {
            let (fence, machine) = fence();
            let object = take(&fence, &machine, size);
            // SAFETY: inside the arena.
            let byte = unsafe { object.add(at) };
            // SAFETY: as above.
            unsafe { byte.write(!byte.read()) };
            let bad = BadPointer::new(object.addr().get(), BadKind::Overrun);
            assert_eq!(fence.check(), Some(bad));
            assert_eq!(fence.free(bad.addr), Err(bad));
            // SAFETY: as above.
            unsafe { byte.write(!byte.read()) };
            assert_eq!(fence.free(bad.addr), Ok(()));
            // SAFETY: as above. A zero where an address could have been.
            unsafe { object.add(size / 2).write(0) };
            let bad = BadPointer { kind: BadKind::UsedAfterFree, ..bad };
            assert_eq!(fence.check(), Some(bad));
            let later = core::iter::from_fn(|| try_take(&fence, &machine, size).transpose());
            let found: Vec<_> = later.filter_map(Result::err).collect();
            assert_eq!(found, [bad], "{size} {at}");
        }
    }

    #[test]
    fn the_first_of_each_class_are_wanted() {
        let (fence, machine) = fence();
        for class in SizeClass::all() {
            let firsts = core::iter::from_fn(|| {
                fence.wants(class).then(|| match class.size() - WORD {
                    size @ ..=MAX_SIZE => {
                        let place = (&machine, NodeId::ZERO);
                        assert!(fence.alloc(place, class, size).unwrap().is_some());
                    }
                    _ => assert!(fence.take_turn(class)),
                })
            });
            assert_eq!(firsts.count(), usize::from(nr_firsts(class)), "{class:?}");
        }
        assert!(fence.nr_pages.load(Relaxed) <= EASY_PAGES, "and leave room for others");
        assert_eq!(fence.period(), 4);
        assert!(SizeClass::all().all(|class| !Fence::new(0, KEY).wants(class)));
    }

    #[test]
    fn a_slot_is_used_again_late_and_the_arena_ends() {
        let (fence, machine) = fence();
        let first = take(&fence, &machine, 1000);
        assert_eq!(fence.live_bytes(), 1024);
        fence.free(first.addr().get()).unwrap();
        assert_eq!(fence.live_bytes(), 0);
        let others = (0..NR_RESTING).map(|_| {
            let object = take(&fence, &machine, 1000);
            fence.free(object.addr().get()).unwrap();
            object
        });
        assert!(others.into_iter().all(|object| object != first));
        assert_eq!(take(&fence, &machine, 1000), first);
        assert_eq!(fence.period(), 4);

        let mut nr = 1;
        while try_take(&fence, &machine, 1000).unwrap().is_some() {
            nr += 1;
        }
        assert_eq!(nr, NR_PAGES * PAGE_SIZE / 1024);
        assert!(fence.period() >= 4 << 3);
        assert!(try_take(&fence, &machine, 10).unwrap().is_none());
        fence.free(first.addr().get()).unwrap();
        assert_eq!(take(&fence, &machine, 1000), first);
    }

    #[test]
    fn a_freed_slot_rests_whatever_else_is_in_use() {
        for (nr_live, size) in [(0, 1000), (3, 1000), (31, 1000), (100, 1000), (63, 8), (31, 100)] {
            let (fence, machine) = fence();
            for _ in 0..nr_live {
                take(&fence, &machine, size);
            }
            let earlier = [(); 5].map(|()| take(&fence, &machine, size));
            let first = take(&fence, &machine, size);
            fence.free(first.addr().get()).unwrap();
            // As many freed after it, some of them in use since before.
            for i in 0..NR_RESTING {
                let (other, live) = (take(&fence, &machine, size), take(&fence, &machine, size));
                assert!(other != first && live != first, "{i} after it, {nr_live} of {size}");
                fence.free(earlier.get(i).unwrap_or(&other).addr().get()).unwrap();
            }
            let mut later = core::iter::from_fn(|| try_take(&fence, &machine, size).unwrap());
            assert!(later.any(|object| object == first));
        }
    }

    /// Where there are no more pages, what rested longest comes first.
    #[test]
    fn a_full_arena_uses_what_rests() {
        let (fence, machine) = fence();
        let mut all: Vec<_> =
            core::iter::from_fn(|| try_take(&fence, &machine, 500).unwrap()).collect();
        assert_eq!(all.len(), NR_PAGES * PAGE_SIZE / 512);
        for nr in [1, 5, NR_RESTING] {
            let freed = all.split_off(all.len() - nr);
            freed.iter().for_each(|object| fence.free(object.addr().get()).unwrap());
            all.extend((0..nr).map(|_| take(&fence, &machine, 500)));
            assert!(all.ends_with(&freed));
            assert_eq!(try_take(&fence, &machine, 500), Ok(None));
        }
    }
}
