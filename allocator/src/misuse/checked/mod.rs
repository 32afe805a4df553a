//! Checked blocks: what an instance with [`crate::Config::checked`] does at each allocation and free.
//!
//! ```text
//!   live:   | the program's bytes          | 0xf5 ... 0xf5 | seal |  guard page, if the block is large
//!   freed:  | key | 0 ......................................... 0 |
//! ```
//!
//! The **seal** is the last word of a block: the size that was asked for, mixed with the block's
//! address and the instance's key, above one byte that is never 0. A free breaks it, by one exchange, so
//! that of two frees only one finds it, whichever threads they come from. Without its seal a block is
//! free already, or was written past its end; so it was if a byte between the program's part and the
//! seal has changed.
//!
//! A freed small object is cleared, with the key in its first word, which is no address (bit 63 is
//! set and bit 62 is not): a program that follows a pointer in it faults. It waits in the
//! **quarantine** of the thread that freed it and is looked at when it leaves, and again when it is
//! handed out: whatever is in it but zeros and the key was written after it was free. Pages of new
//! slabs are cleared for that.
//!
//! Large blocks and slabs end in a page that nobody can touch, where the system allows it
//! ([`crate::misuse::guard`]).

mod quarantine;
mod seal;

use core::ptr::NonNull;

use zonal_numa::Span;

use crate::class::{MAX_SMALL, SizeClass};
use crate::error::AllocError;
use crate::heap::Heap;
use crate::misuse::{BadKind, BadPointer};
use crate::mm::{Attempt, Block, Mm, Request};
use crate::slab::Slab;
use crate::sync::atomic::Ordering::Relaxed;

pub(crate) use self::quarantine::Quarantine;
use self::seal::FILL;
pub(crate) use self::seal::{Extent, WORD, make_key};

/// Larger blocks are not written to when they are cleared, but their pages given back.
const CLEAR_BYTES: usize = 4 << 20;

impl Mm {
    /// The small object at `object`, if one starts there.
    fn small_extent(&self, object: NonNull<u8>) -> Option<Extent> {
        let map = &self.pages().map;
        let addr = object.addr().get();
        let pfn = map.pfn_of(addr)?;
        let (_, class) = map.word_at(pfn).as_slab()?;
        self.object_at(class, Slab::offset_of(map, pfn, class, addr))?;
        Some(Extent { start: object, len: class.size(), key: self.key() })
    }

    /// Whether the small object at `object` was freed, and not handed out since.
    pub(crate) fn is_cleared(&self, object: NonNull<u8>) -> bool {
        self.is_checked() && self.small_extent(object).is_some_and(Extent::is_clear)
    }

    /// A large block of `capacity` bytes.
    fn large_extent(&self, start: NonNull<u8>, capacity: usize) -> Extent {
        Extent { start, len: capacity - self.guard_bytes(), key: self.key() }
    }

    /// Puts right what a link in the first word has overwritten while `block` waited for its free.
    pub(crate) fn unlink(&self, block: NonNull<u8>) {
        let Some(extent) = self.small_extent(block) else { return };
        if let Some(size) = extent.size_in(extent.seal().load(Relaxed)).filter(|&size| size < WORD)
        {
            // SAFETY: inside the block, which the program gave up.
            unsafe { block.add(size).write_bytes(FILL, WORD - size) };
        }
    }

    /// How large a block of pages has to be that a program can use `size` bytes of: with its seal and
    /// its guard.
    pub(crate) fn pages_for(&self, size: usize) -> Option<usize> {
        let guard = self.guard_bytes();
        size.checked_add(WORD)?.checked_next_multiple_of(guard)?.checked_add(guard)
    }

    /// [`Mm::resize`] of a checked block. Small objects move, so that what still points to them is found
    /// out; large ones would be copied in whole each time a string or an array grows by a little.
    pub(crate) fn resize_checked(&self, block: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        if self.small_extent(block).is_some() || self.is_deferred(block.addr().get()) {
            return None;
        }
        let size = size.max(1);
        let nr_bytes = self.pages_for(size)?;
        let old = self.large_extent(block, self.capacity(block).ok()?);
        let before = old.size()?;
        // What is wrong with the block is told when it is freed, after it was copied. The seal comes
        // first: whoever breaks it has the block, of two threads only one.
        if nr_bytes <= MAX_SMALL || !old.is_whole() || old.disarm().is_err() {
            return None;
        }
        if !self.open_guard(old.end()) {
            old.arm(before);
            return None;
        }
        let is_run = self.pages().map.pfn_of(block.addr().get()).is_some();
        let len = nr_bytes - self.guard_bytes();
        if is_run && len < old.len {
            // Of a run what is cut off goes back as it is. The part that stays is never refused.
            // SAFETY: whole pages of the block, which the program gives up.
            unsafe { self.clear_pages(old.part(len, old.len), true) };
        }
        let moved = self.resize_plain(block, nr_bytes);
        let start = moved.unwrap_or(block);
        let new = self.large_extent(start, self.capacity(start).ok()?);
        if moved.is_some() && is_run && new.len > old.len {
            // SAFETY: whole pages that the block grew by. They may be needed on this node at once.
            unsafe { self.clear_pages(new.part(old.len, new.len), false) };
        }
        new.arm(if moved.is_some() { size } else { before });
        self.close_guard(new.end());
        moved
    }

    /// Clears pages of a large block before its guard; `gives_back` says whether large parts may lose their
    /// memory with that.
    ///
    /// # Safety
    /// Nobody uses them.
    unsafe fn clear_pages(&self, extent: Extent, gives_back: bool) {
        // SAFETY: whole pages, which are the caller's.
        let span = unsafe { Span::new(extent.start.addr().get(), extent.len) };
        // Pages that were locked stay.
        let is_gone =
            gives_back && extent.len > CLEAR_BYTES && self.machine().purge(&[span]).is_ok();
        if !is_gone {
            // SAFETY: inside the block, which is the caller's.
            unsafe { extent.start.write_bytes(0, extent.len) };
        }
    }

    /// Bytes that the program asked for when it got `block`.
    pub(crate) fn checked_size(&self, block: NonNull<u8>) -> Result<usize, BadPointer> {
        let capacity = self.capacity(block)?;
        let extent = match self.small_extent(block) {
            Some(extent) => extent,
            None if self.is_deferred(block.addr().get()) => return Ok(capacity),
            None => self.large_extent(block, capacity),
        };
        let seal = extent.seal().load(Relaxed);
        extent.size_in(seal).ok_or_else(|| {
            let is_free = seal == 0 && extent.is_clear();
            extent.bad(if is_free { BadKind::DoubleFree } else { BadKind::Overrun })
        })
    }
}

impl Heap {
    /// [`Heap::alloc`] of a checked block. Always known to be zero.
    pub(crate) fn alloc_checked(
        &self,
        request: Request,
        from: Attempt,
    ) -> Result<Block, AllocError> {
        let mm = self.mm();
        let size = request.size.max(1);
        let sealed = size.checked_add(WORD).ok_or(AllocError::TooLarge)?;
        let small = Request { size: sealed, align: request.align.max(2 * WORD), ..request };
        let is_small = sealed.checked_next_multiple_of(small.align).and_then(SizeClass::of);
        if is_small.is_some() {
            let block = self.alloc_plain(small, from)?;
            let Some(extent) = mm.small_extent(block.start) else { return Ok(block) };
            if !extent.is_clear() {
                self.note_fault(extent.bad(BadKind::UsedAfterFree));
            }
            // SAFETY: the first word of a block of ours.
            unsafe { extent.start.cast::<u64>().write(0) };
            extent.arm(size);
            return Ok(Block { known_zero: true, ..block });
        }
        let size_large = mm.pages_for(size).ok_or(AllocError::TooLarge)?;
        let block = self.alloc_plain(Request { size: size_large, ..request }, from)?;
        let capacity = mm.capacity(block.start).unwrap_or(size_large);
        let extent = mm.large_extent(block.start, capacity);
        if !block.known_zero {
            // On a bound node near full, whose memory it was given already, it keeps that.
            let gives_back = !mm.pages().is_bound(from.node);
            // SAFETY: whole pages of a block that nobody knows yet.
            unsafe { mm.clear_pages(extent, gives_back) };
        }
        extent.arm(size);
        mm.close_guard(extent.end());
        Ok(Block { known_zero: true, ..block })
    }

    /// [`Heap::free`] of a checked block.
    pub(crate) fn free_checked(&self, block: NonNull<u8>) -> Result<(), BadPointer> {
        let mm = self.mm();
        if let Some(extent) = mm.small_extent(block) {
            extent.disarm()?;
            extent.clear();
            self.hold_back(extent);
            return Ok(());
        }
        if mm.is_deferred(block.addr().get()) {
            return self.free_plain(block);
        }
        let extent = mm.large_extent(block, mm.capacity(block)?);
        extent.disarm()?;
        if !mm.open_guard(extent.end()) {
            // Lost, as it cannot be used again.
            return Ok(());
        }
        // SAFETY: whole pages of a block that the program gave up.
        unsafe { mm.clear_pages(extent, true) };
        self.free_plain(block)
    }

    /// Seals an object that was cleared, for one more free.
    pub(crate) fn seal_again(&self, object: NonNull<u8>) {
        if let Some(extent) = self.mm().small_extent(object) {
            extent.arm(0);
        }
    }
}
