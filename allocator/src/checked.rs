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
//! ([`crate::guard`]).

use core::ptr::{self, NonNull};

use zonal_numa::Span;

use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::Heap;
use crate::misuse::{BadKind, BadPointer};
use crate::mm::{Attempt, Block, Mm, Request};
use crate::slab::Slab;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Relaxed};

const WORD: usize = size_of::<u64>();
/// Between the program's bytes and the seal, and the seal's own lowest byte.
const FILL: u8 = 0xf5;
/// Larger blocks are not written to when they are freed, but their pages given back.
const CLEAR_BYTES: usize = 4 << 20;

/// A key from a random number.
pub(crate) fn make_key(random: u64) -> u64 {
    random & !(1 << 62) | 1 << 63 | 1
}

/// A block as the checks see it: its first byte, and its bytes up to the guard page.
#[derive(Clone, Copy)]
struct Extent {
    start: NonNull<u8>,
    len: usize,
    key: u64,
}

impl Extent {
    fn bad(self, kind: BadKind) -> BadPointer {
        BadPointer::new(self.start.addr().get(), kind)
    }

    /// The guard page of a large block.
    fn end(self) -> usize {
        self.start.addr().get() + self.len
    }

    /// The last word.
    fn seal(&self) -> &AtomicU64 {
        // SAFETY: inside the block, and aligned, as classes of 16 bytes and more and pages are.
        unsafe { self.start.add(self.len - WORD).cast().as_ref() }
    }

    /// The seal of this block for `size` bytes.
    fn seal_for(self, size: usize) -> u64 {
        let mixed = (self.start.addr().get() as u64 ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (size as u64 ^ mixed >> 8) << 8 | u64::from(FILL)
    }

    /// The size that `seal` was made for, if this block has one.
    fn size_in(self, seal: u64) -> Option<usize> {
        let size = (seal ^ self.seal_for(0)) >> 8;
        let is_one = seal as u8 == FILL && size <= (self.len - WORD) as u64;
        is_one.then_some(size as usize)
    }

    /// For the program, which asked for `size` bytes.
    fn arm(self, size: usize) {
        let slack = self.len - WORD - size;
        // SAFETY: inside the block, which is the caller's.
        unsafe { self.start.add(size).write_bytes(FILL, slack) };
        // Relaxed: the block passes on with the pointer.
        self.seal().store(self.seal_for(size), Relaxed);
    }

    /// Breaks the seal; what is wrong with the block, if it has none or was written past its end.
    fn disarm(self) -> Result<(), BadPointer> {
        let seal = self.seal().load(Relaxed);
        let Some(size) = self.size_in(seal) else {
            let is_free = seal == 0 && self.is_clear();
            return Err(self.bad(if is_free { BadKind::DoubleFree } else { BadKind::Overrun }));
        };
        // ORDERING: AcqRel, with the same in another thread that frees the block.
        let broken = self.seal().compare_exchange(seal, 0, AcqRel, Relaxed);
        if broken.is_err() {
            return Err(self.bad(BadKind::DoubleFree));
        }
        let slack = self.len - WORD - size;
        // SAFETY: bytes of the block, between the program's part and the seal.
        let mut filled = (size..size + slack).map(|at| unsafe { self.start.add(at).read() });
        let is_whole = filled.all(|byte| byte == FILL);
        if is_whole { Ok(()) } else { Err(self.bad(BadKind::Overrun)) }
    }

    /// As [`Extent::clear`] left it, or never used.
    fn is_clear(self) -> bool {
        // SAFETY: the first word of the block.
        let first = unsafe { self.start.cast::<u64>().read_volatile() };
        // SAFETY: words of the block.
        let mut rest =
            (1..self.len / WORD).map(|i| unsafe { self.start.cast::<u64>().add(i).read() });
        (first == 0 || first == self.key) && rest.all(|word| word == 0)
    }

    fn clear(self) {
        // SAFETY: inside the block, which the program gave up.
        unsafe {
            self.start.write_bytes(0, self.len);
            self.start.cast::<u64>().write(self.key);
        }
    }
}

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
                self.enter().fault.get_or_insert(extent.bad(BadKind::UsedAfterFree));
            }
            // SAFETY: the first word of a block of ours.
            unsafe { extent.start.cast::<u64>().write(0) };
            extent.arm(size);
            return Ok(Block { known_zero: true, ..block });
        }
        let guard = mm.guard_bytes();
        let large = sealed.checked_next_multiple_of(guard).and_then(|size| size.checked_add(guard));
        let size_large = large.ok_or(AllocError::TooLarge)?;
        let block = self.alloc_plain(Request { size: size_large, ..request }, from)?;
        let capacity = mm.capacity(block.start).unwrap_or(size_large);
        let extent = mm.large_extent(block.start, capacity);
        if !block.known_zero {
            // SAFETY: inside the block, which nobody knows yet.
            unsafe { extent.start.write_bytes(0, extent.len) };
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
        let span = unsafe { Span::new(block.addr().get(), extent.len) };
        if extent.len > CLEAR_BYTES {
            let _ = mm.machine().purge(&[span]);
        } else {
            // SAFETY: as above.
            unsafe { block.write_bytes(0, extent.len) };
        }
        self.free_plain(block)
    }

    /// Puts a cleared object into quarantine and frees those that leave it.
    fn hold_back(&self, extent: Extent) {
        let mut inner = self.enter();
        let fits = inner.quarantine.push(self, extent.start, extent.len);
        drop(inner);
        if !fits {
            self.let_go(extent.start);
        }
        loop {
            let object = self.enter().quarantine.pop(self);
            match object {
                Some(object) => self.let_go(object),
                None => return,
            }
        }
    }

    fn let_go(&self, object: NonNull<u8>) {
        let bad = match self.mm().small_extent(object) {
            Some(extent) if !extent.is_clear() => Some(extent.bad(BadKind::UsedAfterFree)),
            _ => self.free_plain(object).err(),
        };
        if let Some(bad) = bad {
            self.enter().fault.get_or_insert(bad);
        }
    }

    /// Seals an object that was cleared, for one more free.
    pub(crate) fn seal_again(&self, object: NonNull<u8>) {
        if let Some(extent) = self.mm().small_extent(object) {
            extent.arm(0);
        }
    }
}

/// Freed objects that shall not be used again at once, oldest first.
#[derive(Debug)]
pub(crate) struct Quarantine {
    /// A ring of `SLOTS`, null while it was never used.
    ring: *mut *mut u8,
    first: usize,
    nr: usize,
    bytes: usize,
}

const SLOTS: usize = 256;
/// What may wait in one quarantine, in bytes.
const MAX_BYTES: usize = 256 << 10;

impl Quarantine {
    pub(crate) const EMPTY: Quarantine =
        Quarantine { ring: ptr::null_mut(), first: 0, nr: 0, bytes: 0 };

    /// False when there is no memory for the ring.
    fn push(&mut self, heap: &Heap, object: NonNull<u8>, bytes: usize) -> bool {
        if self.ring.is_null() {
            let mm = heap.mm();
            let Some(ring) = mm.meta().alloc(mm.machine(), SLOTS * size_of::<*mut u8>()) else {
                return false;
            };
            self.ring = ring.as_ptr().cast();
        }
        // SAFETY: inside the ring, in which `pop` always leaves room for one.
        unsafe { self.ring.add((self.first + self.nr) % SLOTS).write(object.as_ptr()) };
        self.nr += 1;
        self.bytes += bytes;
        true
    }

    /// The oldest, if there is one too many.
    fn pop(&mut self, heap: &Heap) -> Option<NonNull<u8>> {
        if self.nr < SLOTS && self.bytes <= MAX_BYTES {
            return None;
        }
        // SAFETY: inside the ring.
        let object = NonNull::new(unsafe { self.ring.add(self.first).read() })?;
        self.first = (self.first + 1) % SLOTS;
        self.nr -= 1;
        self.bytes -= heap.mm().small_extent(object).map_or(0, |extent| extent.len);
        Some(object)
    }

    /// The first object that was written to since it was freed.
    pub(crate) fn check(&self, heap: &Heap) -> Option<BadPointer> {
        (0..self.nr).find_map(|i| {
            // SAFETY: inside the ring.
            let object = NonNull::new(unsafe { self.ring.add((self.first + i) % SLOTS).read() })?;
            let extent = heap.mm().small_extent(object)?;
            (!extent.is_clear()).then(|| extent.bad(BadKind::UsedAfterFree))
        })
    }
}
