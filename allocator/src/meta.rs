//! Memory for zonal's own records: heaps, bin arrays, messages, slab bitmaps.
//!
//! Blocks of powers of two from 64 bytes to 32 KiB, carved from mappings of their own, so that no
//! overflow of a user's object reaches them. Freed blocks go to a list per size and are reused;
//! they are a fraction of a percent of the heap and never returned.

use core::ptr::NonNull;

use zonal_numa::{Machine, PAGE_SIZE};

use crate::lock::Mutex;

const MIN_SHIFT: u32 = 6;
const MAX_SHIFT: u32 = 15;
const NR_SIZES: usize = (MAX_SHIFT - MIN_SHIFT + 1) as usize;
/// The first mapping is small, since a short-lived process needs little; later ones are larger.
const FIRST_MAPPING: usize = 64 << 10;
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
    /// An empty store; maps nothing yet.
    pub(crate) fn new() -> Meta {
        Meta {
            state: Mutex::new(State {
                bump: core::ptr::null_mut(),
                end: core::ptr::null_mut(),
                free: [core::ptr::null_mut(); NR_SIZES],
                mapped: 0,
                used: 0,
            }),
        }
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

    /// Bytes mapped and bytes in use.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.mapped, state.used)
    }

    /// The lock, for the fork handlers.
    pub(crate) fn raw_lock(&self) -> &crate::lock::FutexLock {
        // SAFETY: only the fork handlers use it, in the order of the lock table.
        unsafe { self.state.raw() }
    }
}

impl Default for Meta {
    fn default() -> Meta {
        Meta::new()
    }
}

impl State {
    fn carve(&mut self, machine: &Machine, size: usize) -> Option<NonNull<u8>> {
        let align = size.min(PAGE_SIZE);
        let mut pad = self.bump.align_offset(align);
        if (self.end as usize) - (self.bump as usize) < pad + size {
            let len = if self.mapped == 0 { FIRST_MAPPING } else { MAPPING };
            let span = machine.map(len, PAGE_SIZE).ok()?;
            self.bump = core::ptr::with_exposed_provenance_mut(span.addr());
            // SAFETY: one past the end of the mapping just made.
            self.end = unsafe { self.bump.add(span.len()) };
            self.mapped += span.len();
            pad = 0;
        }
        // SAFETY: `pad + size` bytes are left in the mapping, checked above.
        let block = unsafe { self.bump.add(pad) };
        // SAFETY: as above.
        self.bump = unsafe { block.add(size) };
        self.used += size;
        NonNull::new(block)
    }
}
