//! Calls that interrupted zonal on their own thread: `malloc` and `free` in a signal handler.
//!
//! Such a call may not touch the heap, which is half-changed below it, nor take a lock, which its
//! own thread may hold. Memory comes from an arena of its own, a bump pointer that returns to the
//! start when nothing of it is in use; frees of other blocks are put on a stack and done by the
//! next slow path of any thread. Both are lock-free.
//!
//! # Synchronisation
//!
//! | word    | writers          | readers | carries                                        |
//! |---------|------------------|---------|------------------------------------------------|
//! | `base`  | first user (CAS) | all     | the arena's mapping                            |
//! | `state` | all (CAS)        | all     | next free offset << 24, live blocks            |
//! | `tag`   | who has the block; frees (CAS) | all | whether a live block starts behind it: of several frees one counts |
//! | `stack` | all (CAS, swap)  | all     | blocks waiting to be freed, linked through their first word |
//!
//! The stack is the one place where zonal writes into a free object. It is only ever taken whole.
//!
//! Tags are Relaxed: whoever frees a block got its address from whoever wrote the tag, and what a tag's place holds
//! once the arena is rewound is ordered by `state`. A wrong address meets any bytes in that place, but for the one
//! value that a live block has there.

use core::ptr::{self, NonNull};

use zonal_numa::{Machine, PAGE_SIZE};

use crate::fault::weakened_by;
use crate::misuse::{BadKind, BadPointer};
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use crate::sync::program::AtomicU64 as ProgramU64;

/// Bytes of the arena; only what is used becomes resident.
const ARENA_BYTES: usize = if cfg!(zonal_loom) { PAGE_SIZE } else { 16 << 20 };
const LIVE_BITS: u32 = 24;
const LIVE_MASK: u64 = (1 << LIVE_BITS) - 1;
/// In front of each block.
const HEADER: usize = size_of::<Header>();
/// What tags of live blocks and of freed ones are, but for the address.
const LIVE: u64 = 0x5a6f_6e61_6c2e_4c69;
const FREED: u64 = 0x5a6f_6e61_6c2e_4672;

/// The arena and the stack.
#[derive(Debug)]
pub(crate) struct Deferred {
    base: AtomicPtr<u8>,
    state: AtomicU64,
    stack: AtomicPtr<Link>,
}

#[derive(Debug)]
#[repr(C, align(16))]
struct Header {
    size: ProgramU64,
    tag: ProgramU64,
}

#[derive(Debug)]
struct Link {
    next: *mut Link,
}

impl Deferred {
    pub(crate) fn new() -> Deferred {
        Deferred {
            base: AtomicPtr::new(ptr::null_mut()),
            state: AtomicU64::new(0),
            stack: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A block of the arena; none when it is full.
    pub(crate) fn alloc(
        &self,
        machine: &Machine,
        size: usize,
        align: usize,
    ) -> Option<NonNull<u8>> {
        let base = self.arena(machine)?;
        let align = align.max(HEADER);
        // Relaxed: the exchange below decides.
        let mut state = self.state.load(Relaxed);
        loop {
            let used = (state >> LIVE_BITS) as usize;
            let start =
                (base.addr() + used + HEADER).checked_next_multiple_of(align)? - base.addr();
            let end = start.checked_add(size.max(1))?;
            if end > ARENA_BYTES || state & LIVE_MASK == LIVE_MASK {
                return None;
            }
            let next = (end as u64) << LIVE_BITS | ((state & LIVE_MASK) + 1);
            // ORDERING: Acquire, pairs with Release in `free`: the last user of these bytes is
            // done with them.
            match self.state.compare_exchange_weak(state, next, Acquire, Relaxed) {
                Ok(_) => {
                    let block = base.wrapping_add(start);
                    let header = self.header(block.addr()).ok()?;
                    header.size.store(size as u64, Relaxed);
                    header.tag.store(LIVE ^ block.addr() as u64, Relaxed);
                    return NonNull::new(block);
                }
                Err(now) => state = now,
            }
        }
    }

    fn arena(&self, machine: &Machine) -> Option<*mut u8> {
        // ORDERING: Acquire, pairs with AcqRel below.
        let base = self.base.load(Acquire);
        if !base.is_null() {
            return Some(base);
        }
        let span = machine.map(ARENA_BYTES, PAGE_SIZE).ok()?;
        let mine = ptr::with_exposed_provenance_mut::<u8>(span.addr());
        // ORDERING: Release for the mapping, Acquire for another's.
        match self.base.compare_exchange(ptr::null_mut(), mine, AcqRel, Acquire) {
            Ok(_) => Some(mine),
            Err(other) => {
                let _ = machine.unmap(span);
                Some(other)
            }
        }
    }

    /// Whether `addr` lies in the arena.
    pub(crate) fn contains(&self, addr: usize) -> bool {
        // ORDERING: Acquire, as in `arena`.
        let base = self.base.load(Acquire);
        !base.is_null() && addr.wrapping_sub(base.addr()) < ARENA_BYTES
    }

    /// What would be the header if a block started at this address of the arena.
    fn header(&self, addr: usize) -> Result<&Header, BadPointer> {
        // ORDERING: Acquire, as in `arena`.
        let base = self.base.load(Acquire);
        let offset = addr.wrapping_sub(base.addr());
        if !addr.is_multiple_of(HEADER) || !(HEADER..ARENA_BYTES).contains(&offset) {
            return Err(BadPointer::new(addr, BadKind::Interior));
        }
        // SAFETY: inside the arena, which is never unmapped, above the first header; aligned, as the base is.
        Ok(unsafe { &*base.add(offset - HEADER).cast::<Header>() })
    }

    /// Bytes of the live block at this address of the arena.
    pub(crate) fn size_of(&self, addr: usize) -> Result<usize, BadPointer> {
        let header = self.header(addr)?;
        match header.tag.load(Relaxed) ^ addr as u64 {
            LIVE => Ok(header.size.load(Relaxed) as usize),
            other => Err(no_block(addr, other)),
        }
    }

    /// Gives back the block at this address of the arena; the last one rewinds it.
    pub(crate) fn free(&self, addr: usize) -> Result<(), BadPointer> {
        let (tag, key) = (&self.header(addr)?.tag, addr as u64);
        tag.compare_exchange(LIVE ^ key, FREED ^ key, Relaxed, Relaxed)
            .map_err(|found| no_block(addr, found ^ key))?;
        self.note_freed();
        Ok(())
    }

    /// A block fewer is in use.
    fn note_freed(&self) {
        let mut state = self.state.load(Relaxed);
        loop {
            let live = (state & LIVE_MASK) - 1;
            let next = if live == 0 { 0 } else { (state & !LIVE_MASK) | live };
            // ORDERING: Release, pairs with Acquire in `alloc`.
            let order = weakened_by("deferred_free_relaxed", Release);
            match self.state.compare_exchange_weak(state, next, order, Relaxed) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }

    /// Puts a block of at least eight bytes aside, to be freed by [`Deferred::take`]'s caller.
    pub(crate) fn push(&self, block: NonNull<u8>) {
        let link = block.as_ptr().cast::<Link>();
        let mut head = self.stack.load(Relaxed);
        loop {
            // SAFETY: the caller gave the block away; the smallest object holds one word.
            unsafe { link.write(Link { next: head }) };
            // ORDERING: Release, pairs with Acquire in `take`.
            let order = weakened_by("deferred_push_relaxed", Release);
            match self.stack.compare_exchange_weak(head, link, order, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether blocks wait.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        // Relaxed: a block missed now is found at the next slow path.
        !self.stack.load(Relaxed).is_null()
    }

    /// Takes all waiting blocks and calls `free` for each.
    pub(crate) fn take(&self, mut free: impl FnMut(NonNull<u8>)) {
        // ORDERING: Acquire, pairs with Release in `push`.
        let order = weakened_by("deferred_take_relaxed", Acquire);
        let mut link = self.stack.swap(ptr::null_mut(), order);
        while let Some(block) = NonNull::new(link) {
            // SAFETY: blocks on the stack are ours and start with a link.
            link = unsafe { block.as_ref().next };
            free(block.cast());
        }
    }
}

/// What an address of the arena is that has such a tag.
#[cold]
fn no_block(addr: usize, tag: u64) -> BadPointer {
    BadPointer::new(addr, if tag == FREED { BadKind::DoubleFree } else { BadKind::Interior })
}
