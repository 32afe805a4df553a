//! Sizes of blocks: what lies at an address, and how many bytes it can hold.

use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use super::Mm;
use crate::misuse::{BadKind, BadPointer};
use crate::pfn::Pfn;
use crate::slab::Slab;
use crate::word::Kind;

impl Mm {
    /// Bytes that the live block at `block` can hold.
    ///
    /// # Errors
    /// A [`BadPointer`] when no live block starts there.
    pub fn usable_size(&self, block: NonNull<u8>) -> Result<usize, BadPointer> {
        if self.is_checked() {
            return self.checked_size(block);
        }
        let capacity = self.capacity(block)?;
        let addr = block.addr().get();
        let Some(pfn) = self.pages.map.pfn_of(addr) else { return Ok(capacity) };
        let word = self.pages.map.word_at(pfn);
        if word.kind() != Kind::Large {
            return Ok(capacity);
        }
        let size = self.size_before_slack(pfn, word);
        size.ok_or(BadPointer::new(addr, BadKind::Overrun))
    }

    /// Bytes of the live block at `block`, with what its checks take.
    pub(crate) fn capacity(&self, block: NonNull<u8>) -> Result<usize, BadPointer> {
        let addr = block.addr().get();
        let map = &self.pages.map;
        let Some(pfn) = map.pfn_of(addr) else {
            return match addr {
                _ if self.is_deferred(addr) => self.deferred.size_of(addr),
                _ if self.fence.contains(addr) => self.fence.size_of(addr),
                _ => self.huge.size_of(addr),
            };
        };
        let word = map.word_at(pfn);
        match word.kind() {
            Kind::Slab => {
                let Some((_, class)) = word.as_slab() else {
                    return Err(BadPointer::new(addr, self.kind_of_nothing(pfn)));
                };
                match self.object_at(class, Slab::offset_of(map, pfn, class, addr)) {
                    Some(_) => Ok(class.size()),
                    None => Err(BadPointer::new(addr, BadKind::Interior)),
                }
            }
            Kind::Large if addr.is_multiple_of(PAGE_SIZE) => Ok(word.large_pages() * PAGE_SIZE),
            Kind::Large => Err(BadPointer::new(addr, BadKind::Interior)),
            _ => Err(BadPointer::new(addr, BadKind::NotAllocated)),
        }
    }

    /// The same for a call that interrupted zonal on its own thread; none where that would take a
    /// lock which the thread may hold.
    pub fn usable_size_interrupted(&self, block: NonNull<u8>) -> Option<Result<usize, BadPointer>> {
        (self.is_sized_without_lock(block) || !self.huge.is_locked())
            .then(|| self.usable_size(block))
    }

    /// Whether [`Mm::usable_size`] of `block` takes no lock: all but huge blocks.
    pub fn is_sized_without_lock(&self, block: NonNull<u8>) -> bool {
        let addr = block.addr().get();
        self.pages.map.pfn_of(addr).is_some() || self.is_deferred(addr) || self.fence.contains(addr)
    }

    /// What a page without a word means for a pointer into it.
    pub(crate) fn kind_of_nothing(&self, pfn: Pfn) -> BadKind {
        match self.pages.map.live_run_at(pfn) {
            Some(_) => BadKind::Interior,
            None => BadKind::NotAllocated,
        }
    }
}
