//! Memory for zonal's own records: heaps, bin arrays, messages, slab bitmaps.
//!
//! Blocks of powers of two from 64 bytes to 32 KiB, carved from mappings of their own, so that no
//! overflow of a user's object reaches them. Freed blocks go to a list per size and are reused;
//! they are a fraction of a percent of the heap and never returned.
//!
//! Any of several stores serves any request and takes any block back. All is in the first, but what comes
//! or goes while somebody is at it, who may have lost its processor: that goes to the next that is free.

use core::ptr::NonNull;

use zonal_numa::{Machine, PAGE_SIZE, Span};

use crate::lock::{FutexLock, Mutex, MutexGuard};

const MIN_SHIFT: u32 = 6;
const MAX_SHIFT: u32 = 15;
const NR_SIZES: usize = (MAX_SHIFT - MIN_SHIFT + 1) as usize;
/// What a store starts with is small, since a short-lived process needs little.
pub(crate) const FIRST_PART: usize = 64 << 10;
const MAPPING: usize = 2 << 20;
const NR_STORES: usize = 4;
/// Sizes below a page.
const NR_PARTS: usize = (PAGE_SIZE.trailing_zeros() - MIN_SHIFT) as usize;

/// The metadata blocks.
#[derive(Debug)]
pub(crate) struct Meta {
    stores: [Mutex<Store>; NR_STORES],
}

#[derive(Debug)]
struct Store {
    bump: *mut u8,
    end: *mut u8,
    /// A part of a page of each size below, never used.
    parts: [*mut u8; NR_PARTS],
    free: [*mut FreeBlock; NR_SIZES],
    mapped: usize,
    /// What was taken here less what came back here: a block may go back elsewhere.
    used: usize,
}

#[derive(Debug)]
struct FreeBlock {
    next: *mut FreeBlock,
}

// SAFETY: the pointers are to memory that the store owns; it moves with the lock.
unsafe impl Send for Store {}

/// Bytes that [`Meta::alloc`] really gives for a request of `size`.
pub(crate) fn block_size(size: usize) -> usize {
    size.next_power_of_two().max(1 << MIN_SHIFT)
}

fn list_of(size: usize) -> usize {
    (block_size(size).trailing_zeros() - MIN_SHIFT) as usize
}

impl Meta {
    /// Has these bytes, and maps more when they are used up.
    pub(crate) fn new(first: Span) -> Meta {
        let meta = Meta { stores: [(); NR_STORES].map(|()| Mutex::new(Store::EMPTY)) };
        meta.stores[0].lock().take(first);
        meta
    }

    /// The first store at which nobody is.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.stores.iter().find_map(Mutex::try_lock).unwrap_or_else(|| self.stores[0].lock())
    }

    /// A block of at least `size` bytes (at most 32 KiB), aligned to its size up to 4 KiB, with
    /// undefined contents. None when the system gives no memory.
    pub(crate) fn alloc(&self, machine: &Machine, size: usize) -> Option<NonNull<u8>> {
        let size = block_size(size);
        debug_assert!(size <= 1 << MAX_SHIFT);
        let first = self.lock().take_block(size);
        let from_any = || {
            let mut free = self.stores.iter().filter_map(Mutex::try_lock);
            free.find_map(|mut store| store.take_block(size))
        };
        let block = first.or_else(from_any);
        if block.is_some() {
            return block;
        }
        // Nobody waits for the system: who finds nothing meanwhile asks it, too.
        let span = machine.map(MAPPING, PAGE_SIZE).ok()?;
        let block = from_any();
        if block.is_none() {
            let mut store = self.lock();
            store.take(span);
            return store.take_block(size);
        }
        // Another thread was faster; what cannot be unmapped is address space lost.
        let _ = machine.unmap(span);
        block
    }

    /// Takes back a block of [`Meta::alloc`].
    ///
    /// # Safety
    /// `block` came from `alloc` with the same `size` and is not used any more.
    pub(crate) unsafe fn free(&self, block: NonNull<u8>, size: usize) {
        let list = list_of(size);
        let block = block.cast::<FreeBlock>();
        // Touched before the lock is held: it may have been of no use.
        // SAFETY: the caller gives the block away; it is large and aligned enough for a link.
        unsafe { block.write(FreeBlock { next: core::ptr::null_mut() }) };
        let mut store = self.lock();
        // SAFETY: as above.
        unsafe { block.write(FreeBlock { next: store.free[list] }) };
        store.free[list] = block.as_ptr();
        store.used = store.used.wrapping_sub(block_size(size));
    }

    /// Bytes mapped, bytes in use, and bytes touched: all but the end that was never carved.
    pub(crate) fn usage(&self) -> [usize; 3] {
        // All at one time: a block may go from one to another.
        let stores = self.stores.each_ref().map(Mutex::lock);
        stores.iter().fold([0; 3], |[mapped, used, touched], store| {
            let untouched = (store.end.addr() - store.bump.addr()) / PAGE_SIZE * PAGE_SIZE;
            let all_touched = touched + store.mapped - untouched;
            [mapped + store.mapped, used.wrapping_add(store.used), all_touched]
        })
    }

    /// The locks, for the fork handlers.
    pub(crate) fn raw_locks(&self) -> impl Iterator<Item = &FutexLock> {
        // SAFETY: for the fork handlers, in the order of the lock table, and their figures.
        self.stores.iter().map(|store| unsafe { store.raw() })
    }
}

impl Store {
    const EMPTY: Store = Store {
        bump: core::ptr::null_mut(),
        end: core::ptr::null_mut(),
        parts: [core::ptr::null_mut(); NR_PARTS],
        free: [core::ptr::null_mut(); NR_SIZES],
        mapped: 0,
        used: 0,
    };

    /// Carves from `span` from now on, of which the last byte is the last of a page. Parts of pages are
    /// there only before the first one.
    fn take(&mut self, span: Span) {
        debug_assert!(span.addr().is_multiple_of(1 << MIN_SHIFT));
        self.bump = core::ptr::with_exposed_provenance_mut(span.addr());
        self.end = core::ptr::with_exposed_provenance_mut(span.end());
        self.mapped += span.len();
        while !self.bump.addr().is_multiple_of(PAGE_SIZE) {
            let size = 1 << self.bump.addr().trailing_zeros();
            self.parts[list_of(size)] = self.bump;
            // SAFETY: the span has these bytes, since it ends with a page.
            self.bump = unsafe { self.bump.add(size) };
        }
    }

    /// A block of that size, from those that were freed or from what was never used. No page is touched
    /// here that was not touched before: others may wait.
    fn take_block(&mut self, size: usize) -> Option<NonNull<u8>> {
        let list = list_of(size);
        let block = match NonNull::new(self.free[list]) {
            Some(block) => {
                // SAFETY: blocks on the list are free and were linked by `free` above.
                self.free[list] = unsafe { block.as_ref().next };
                block.cast()
            }
            None if list < NR_PARTS => self.take_part(list)?,
            None => self.carve(size)?,
        };
        self.used = self.used.wrapping_add(size);
        Some(block)
    }

    /// The first part of the smallest part of a page that is large enough, or of a new page; what is left
    /// becomes parts of sizes of which there are none.
    fn take_part(&mut self, list: usize) -> Option<NonNull<u8>> {
        let found = (list..NR_PARTS).find(|&i| !self.parts[i].is_null());
        let block = match found {
            Some(i) => NonNull::new(core::mem::replace(&mut self.parts[i], core::ptr::null_mut())),
            None => self.carve(PAGE_SIZE),
        }?;
        for i in list..found.unwrap_or(NR_PARTS) {
            // SAFETY: the block is twice as long at least.
            self.parts[i] = unsafe { block.as_ptr().add(1 << (MIN_SHIFT as usize + i)) };
        }
        Some(block)
    }

    /// Whole pages.
    fn carve(&mut self, size: usize) -> Option<NonNull<u8>> {
        if self.end.addr() - self.bump.addr() < size {
            return None;
        }
        let block = self.bump;
        // SAFETY: `size` bytes are left.
        self.bump = unsafe { block.add(size) };
        NonNull::new(block)
    }
}

#[cfg(test)]
mod tests {
    use zonal_numa::fake::{Call, FakeBuilder};

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

    /// Who asks the system for more keeps nobody waiting.
    #[test]
    fn others_have_blocks_while_one_maps() {
        let fake = FakeBuilder::new().build();
        let machine = Machine::fake(fake);
        let meta = Meta::new(machine.map(FIRST_PART, PAGE_SIZE).unwrap());
        let [kept, freed] = [(); 2].map(|()| meta.alloc(&machine, FIRST_PART / 2).unwrap());
        fake.hold(Call::Map);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| meta.alloc(&machine, 64).map(NonNull::addr));
            while !fake.is_holding(Call::Map) {
                std::thread::yield_now();
            }
            // SAFETY: from `alloc`, with that size.
            unsafe { meta.free(freed, FIRST_PART / 2) };
            assert_eq!(meta.alloc(&machine, FIRST_PART / 2), Some(freed));
            // Another mapping is enough for both, in the end.
            let other = meta.alloc(&machine, 128).map(NonNull::addr);
            fake.let_go(Call::Map);
            let held = held.join().unwrap();
            assert!(held.is_some() && held != other && other.is_some());
        });
        assert_eq!(meta.usage()[..2], [FIRST_PART + MAPPING, FIRST_PART + 128 + 64]);
        assert_eq!((fake.calls(Call::Map), fake.calls(Call::Unmap)), (3, 1));
        let _ = kept;
    }
}
