//! Memory for zonal's own records: heaps, bin arrays, messages, slab bitmaps.
//!
//! Blocks of powers of two from 64 bytes to 32 KiB, carved from mappings of their own, so that no
//! overflow of a user's object reaches them. Freed blocks go to a list per size and are reused;
//! they are a fraction of a percent of the heap and never returned.

use core::ptr::NonNull;

use zonal_numa::{Machine, PAGE_SIZE, Span};

use crate::lock::Mutex;

const MIN_SHIFT: u32 = 6;
const MAX_SHIFT: u32 = 15;
const NR_SIZES: usize = (MAX_SHIFT - MIN_SHIFT + 1) as usize;
/// What a store starts with is small, since a short-lived process needs little.
pub(crate) const FIRST_PART: usize = 64 << 10;
const MAPPING: usize = 2 << 20;

/// The store of metadata blocks.
#[derive(Debug)]
pub(crate) struct Meta {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bump: *mut u8,
    end: *mut u8,
    free: [*mut FreeBlock; NR_SIZES],
    mapped: usize,
    used: usize,
}

#[derive(Debug)]
struct FreeBlock {
    next: *mut FreeBlock,
}

// SAFETY: the pointers are to memory that the state owns; it moves with the lock.
unsafe impl Send for State {}

/// Bytes that [`Meta::alloc`] really gives for a request of `size`.
pub(crate) fn block_size(size: usize) -> usize {
    size.next_power_of_two().max(1 << MIN_SHIFT)
}

fn list_of(size: usize) -> usize {
    (block_size(size).trailing_zeros() - MIN_SHIFT) as usize
}

impl Meta {
    /// A store that has these bytes, and maps more when they are used up.
    pub(crate) fn new(first: Span) -> Meta {
        let mut state = State {
            bump: core::ptr::null_mut(),
            end: core::ptr::null_mut(),
            free: [core::ptr::null_mut(); NR_SIZES],
            mapped: 0,
            used: 0,
        };
        state.take(first);
        Meta { state: Mutex::new(state) }
    }

    /// A block of at least `size` bytes (at most 32 KiB), aligned to its size up to 4 KiB, with
    /// undefined contents. None when the system gives no memory.
    pub(crate) fn alloc(&self, machine: &Machine, size: usize) -> Option<NonNull<u8>> {
        let size = block_size(size);
        debug_assert!(size <= 1 << MAX_SHIFT);
        let mut state = self.state.lock();
        let list = list_of(size);
        let head = state.free[list];
        if let Some(block) = NonNull::new(head) {
            // SAFETY: blocks on the list are free and were linked by `free` below.
            state.free[list] = unsafe { block.as_ref().next };
            state.used += size;
            return Some(block.cast());
        }
        state.carve(machine, size)
    }

    /// Takes back a block of [`Meta::alloc`].
    ///
    /// # Safety
    /// `block` came from `alloc` with the same `size` and is not used any more.
    pub(crate) unsafe fn free(&self, block: NonNull<u8>, size: usize) {
        let mut state = self.state.lock();
        let list = list_of(size);
        let block = block.cast::<FreeBlock>();
        // SAFETY: the caller gives the block away; it is large and aligned enough for a link.
        unsafe { block.write(FreeBlock { next: state.free[list] }) };
        state.free[list] = block.as_ptr();
        state.used -= block_size(size);
    }

    /// Bytes mapped, bytes in use, and bytes touched: all but the end that was never carved.
    pub(crate) fn usage(&self) -> [usize; 3] {
        let state = self.state.lock();
        let untouched = (state.end.addr() - state.bump.addr()) / PAGE_SIZE * PAGE_SIZE;
        [state.mapped, state.used, state.mapped - untouched]
    }

    /// The lock, for the fork handlers.
    pub(crate) fn raw_lock(&self) -> &crate::lock::FutexLock {
        // SAFETY: for the fork handlers, in the order of the lock table, and its figures.
        unsafe { self.state.raw() }
    }
}

impl State {
    /// Carves from `span` from now on.
    fn take(&mut self, span: Span) {
        debug_assert!(span.addr().is_multiple_of(1 << MIN_SHIFT));
        self.bump = core::ptr::with_exposed_provenance_mut(span.addr());
        self.end = core::ptr::with_exposed_provenance_mut(span.end());
        self.mapped += span.len();
    }

    fn carve(&mut self, machine: &Machine, size: usize) -> Option<NonNull<u8>> {
        let align = size.min(PAGE_SIZE);
        if (self.end as usize) - (self.bump as usize) < self.bump.align_offset(align) + size {
            self.take(machine.map(MAPPING, PAGE_SIZE).ok()?);
        }
        self.fill_up_to(align);
        let block = self.bump;
        // SAFETY: `size` bytes are left, checked above.
        self.bump = unsafe { block.add(size) };
        self.used += size;
        NonNull::new(block)
    }

    /// Makes free blocks of what lies before the next multiple of `align`: on the page that was
    /// carved last, and so no page more.
    fn fill_up_to(&mut self, align: usize) {
        while !self.bump.addr().is_multiple_of(align) {
            let size = 1 << self.bump.addr().trailing_zeros();
            let block = self.bump.cast::<FreeBlock>();
            let list = list_of(size);
            // SAFETY: nobody has these bytes, and `carve` saw that they are there. The start is a
            // multiple of their size, which is not below the smallest one.
            unsafe { block.write(FreeBlock { next: self.free[list] }) };
            self.free[list] = block;
            // SAFETY: as above.
            self.bump = unsafe { self.bump.add(size) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is lost before a block that has to be aligned, and blocks do not overlap.
    #[test]
    fn gaps_become_blocks() {
        let machine = Machine::linux();
        let span = machine.map(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        let meta = Meta::new(span.part(192, 4 * PAGE_SIZE - 192).unwrap());
        let alloc = |size| {
            let addr = meta.alloc(&machine, size).unwrap().addr().get();
            assert!(addr.is_multiple_of(block_size(size).min(PAGE_SIZE)));
            addr - span.addr()
        };
        assert_eq!(alloc(5000), PAGE_SIZE);
        let in_the_gap = [2048, 1000, 512, 200, 1].map(&alloc);
        assert_eq!(in_the_gap, [2048, 1024, 512, 256, 192]);
        assert_eq!(alloc(64), 3 * PAGE_SIZE);
        let used = 8192 + 3840 + 64 + 64;
        assert_eq!(meta.usage(), [4 * PAGE_SIZE - 192, used, 4 * PAGE_SIZE - 192]);
        // The rest is too small: another mapping.
        assert!(meta.alloc(&machine, 8192).is_some());
        assert_eq!(meta.usage()[0], 4 * PAGE_SIZE - 192 + MAPPING);
    }
}
