//! What lies at an address of the arena, and whether anybody wrote where nobody had a right to.

use core::ptr::NonNull;

use zonal_numa::{PAGE_SIZE, Span};

use super::{Fence, NR_PAGES, Slot};
use crate::misuse::{BadKind, BadPointer};
use crate::sync::atomic::Ordering::{Acquire, Relaxed};

impl Fence {
    /// Whether `addr` lies in the arena.
    #[inline]
    pub(crate) fn contains(&self, addr: usize) -> bool {
        // Relaxed: see `grow`.
        let base = self.base.load(Relaxed);
        !base.is_null() && addr.wrapping_sub(base.addr()) < NR_PAGES * PAGE_SIZE
    }

    /// The slot around `addr`, which lies in the arena, and its first byte.
    pub(super) fn slot_at(&self, addr: usize) -> Option<Slot> {
        let offset = addr.wrapping_sub(self.base.load(Relaxed).addr());
        let page = offset / PAGE_SIZE;
        // ORDERING: Acquire, pairs with Release in `grow`: its slots are filled.
        let bytes = self.pages.get(page)?.slot.load(Acquire) as usize;
        let index = (offset % PAGE_SIZE).checked_div(bytes)?;
        Some(Slot { page, index, extent: self.extent(page, index, bytes)? })
    }

    /// Whether nobody has it.
    fn is_freed(&self, slot: &Slot) -> bool {
        self.pages[slot.page].freed.load(Relaxed) & 1 << slot.index != 0
    }

    /// Whether it was taken in, too, and so is filled.
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
        if self.is_freed(&slot) {
            return Err(bad(BadKind::DoubleFree));
        }
        slot.extent.size().ok_or(bad(BadKind::Overrun))
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
}
