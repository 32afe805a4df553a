//! The seal of a checked block, and the clearing of what was freed.

use core::ptr::NonNull;
use core::slice;

use crate::misuse::{BadKind, BadPointer};
use crate::sync::atomic::Ordering::{AcqRel, Relaxed};
use crate::sync::program::AtomicU64;

pub(crate) const WORD: usize = size_of::<u64>();
/// Between the program's bytes and the seal, and the seal's own lowest byte.
pub(super) const FILL: u8 = 0xf5;

/// A key from a random number: no address, and no byte of it is zero or a character, so that one of those
/// written over it is seen.
pub(crate) fn make_key(random: u64) -> u64 {
    (random | 0x8080_8080_8080_8080) & !(1 << 62) | 1
}

/// A block as the checks see it: its first byte, and its bytes up to the guard page.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
    pub(crate) key: u64,
}

impl Extent {
    pub(crate) fn bad(self, kind: BadKind) -> BadPointer {
        BadPointer::new(self.start.addr().get(), kind)
    }

    /// The bytes from `from` to `to`.
    pub(super) fn part(self, from: usize, to: usize) -> Extent {
        debug_assert!(from <= to && to <= self.len);
        // SAFETY: inside the block.
        Extent { start: unsafe { self.start.add(from) }, len: to - from, ..self }
    }

    /// The guard page of a large block.
    pub(super) fn end(self) -> usize {
        self.start.addr().get() + self.len
    }

    /// The last word.
    pub(super) fn seal(&self) -> &AtomicU64 {
        // SAFETY: inside the block, and aligned, as classes of 16 bytes and more and pages are.
        unsafe { self.start.add(self.len - WORD).cast().as_ref() }
    }

    /// The seal of this block for `size` bytes.
    fn seal_for(self, size: usize) -> u64 {
        let mixed = (self.start.addr().get() as u64 ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (size as u64 ^ mixed >> 8) << 8 | u64::from(FILL)
    }

    /// The size that `seal` was made for, if this block has one.
    pub(super) fn size_in(self, seal: u64) -> Option<usize> {
        let size = (seal ^ self.seal_for(0)) >> 8;
        let is_one = seal as u8 == FILL && size <= (self.len - WORD) as u64;
        is_one.then_some(size as usize)
    }

    /// For the program, which asked for `size` bytes.
    pub(crate) fn arm(self, size: usize) {
        let slack = self.len - WORD - size;
        // SAFETY: inside the block, which is the caller's.
        unsafe { self.start.add(size).write_bytes(FILL, slack) };
        // Relaxed: the block passes on with the pointer.
        self.seal().store(self.seal_for(size), Relaxed);
    }

    /// Breaks the seal; what is wrong with the block, if it has none or was written past its end.
    pub(crate) fn disarm(self) -> Result<(), BadPointer> {
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
        if self.is_filled_from(size) { Ok(()) } else { Err(self.bad(BadKind::Overrun)) }
    }

    /// Whether nobody wrote between the program's part and the seal.
    fn is_filled_from(self, size: usize) -> bool {
        // SAFETY: bytes of the block, which nobody has a right to write to.
        let bytes =
            unsafe { slice::from_raw_parts(self.start.as_ptr().add(size), self.len - WORD - size) };
        // Without a way out, so that the compiler takes many at a time.
        bytes.iter().fold(0, |differs, &byte| differs | (byte ^ FILL)) == 0
    }

    /// Bytes of the program's part; none without a seal.
    pub(crate) fn size(self) -> Option<usize> {
        self.size_in(self.seal().load(Relaxed))
    }

    /// Whether the block has its seal, and nobody wrote before it.
    pub(crate) fn is_whole(self) -> bool {
        self.size().is_some_and(|size| self.is_filled_from(size))
    }

    /// As [`Extent::clear`] left it, or never used.
    pub(super) fn is_clear(self) -> bool {
        // SAFETY: the first word of the block.
        let first = unsafe { self.start.cast::<u64>().read_volatile() };
        // SAFETY: words of the block.
        let mut rest =
            (1..self.len / WORD).map(|i| unsafe { self.start.cast::<u64>().add(i).read() });
        (first == 0 || first == self.key) && rest.all(|word| word == 0)
    }

    /// The key in every word.
    pub(crate) fn fill(self) {
        // SAFETY: words of the block, which the program gave up.
        let words = unsafe {
            slice::from_raw_parts_mut(self.start.cast::<u64>().as_ptr(), self.len / WORD)
        };
        words.fill(self.key);
    }

    /// As [`Extent::fill`] left it.
    pub(crate) fn is_filled(self) -> bool {
        // SAFETY: words of the block, which nobody has a right to write to.
        let words =
            unsafe { slice::from_raw_parts(self.start.cast::<u64>().as_ptr(), self.len / WORD) };
        words.iter().fold(0, |differs, &word| differs | (word ^ self.key)) == 0
    }

    pub(super) fn clear(self) {
        // SAFETY: inside the block, which the program gave up.
        unsafe {
            self.start.write_bytes(0, self.len);
            self.start.cast::<u64>().write(self.key);
        }
    }
}
