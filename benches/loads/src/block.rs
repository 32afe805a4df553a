//! One block of C heap memory, owned: all the `unsafe` of the loads is here.

use core::ptr::NonNull;
use std::hint::black_box;

/// An owned block from `malloc` and its kin; freed when dropped, by whichever thread that is.
#[derive(Debug)]
pub struct Block {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a block is plain memory with one owner.
unsafe impl Send for Block {}

impl Block {
    /// `malloc(len)`; the first byte is written, as nearly every program does at once.
    #[inline]
    pub fn new(len: usize) -> Self {
        // SAFETY: malloc takes any size.
        let ptr = unsafe { libc::malloc(len) };
        let mut block = Self::own(ptr, len);
        block.set(0, 1);
        block
    }

    /// `calloc(1, len)`, not touched.
    pub fn zeroed(len: usize) -> Self {
        // SAFETY: calloc takes any size.
        let ptr = unsafe { libc::calloc(1, len) };
        Self::own(ptr, len)
    }

    /// `posix_memalign`; checks the alignment.
    pub fn aligned(align: usize, len: usize) -> Self {
        let mut ptr = core::ptr::null_mut();
        // SAFETY: `ptr` is a place for the answer.
        let error = unsafe { libc::posix_memalign(&raw mut ptr, align, len) };
        assert_eq!(error, 0, "posix_memalign({align}, {len})");
        assert_eq!(ptr.addr() % align, 0, "posix_memalign({align}, {len}) is misaligned");
        let mut block = Self::own(ptr, len);
        block.set(0, 1);
        block
    }

    /// `realloc` to `len` bytes.
    pub fn resize(&mut self, len: usize) {
        // SAFETY: the block is ours; on success the old place is not used again, on failure the run ends.
        let ptr = unsafe { libc::realloc(self.ptr.as_ptr().cast(), len) };
        self.ptr = NonNull::new(ptr.cast()).unwrap_or_else(|| panic!("no memory for {len} bytes"));
        self.len = len;
    }

    fn own(ptr: *mut libc::c_void, len: usize) -> Self {
        // black_box: the compiler knows malloc and would remove pairs that nobody looks at.
        let ptr = NonNull::new(black_box(ptr).cast())
            .unwrap_or_else(|| panic!("no memory for {len} bytes"));
        Self { ptr, len }
    }

    /// Bytes asked for.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes one byte.
    #[inline]
    pub fn set(&mut self, at: usize, value: u8) {
        assert!(at < self.len);
        // SAFETY: checked to lie in the block. Volatile: the write is what is measured.
        unsafe { self.ptr.add(at).write_volatile(value) };
    }

    /// Reads one byte; it must have been written, or the block come from `zeroed`.
    #[inline]
    pub fn get(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: checked to lie in the block.
        unsafe { self.ptr.add(at).read_volatile() }
    }

    /// Writes every byte.
    pub fn fill(&mut self, value: u8) {
        // SAFETY: the block is `len` bytes long and ours.
        unsafe { self.ptr.write_bytes(value, self.len) };
        black_box(self.ptr);
    }

    /// Writes one byte in each `stride`.
    pub fn touch(&mut self, stride: usize, value: u8) {
        for at in (0..self.len).step_by(stride) {
            self.set(at, value);
        }
    }

    /// The sum of one byte in each `stride`, all of them written before.
    pub fn sum(&self, stride: usize) -> u64 {
        (0..self.len).step_by(stride).map(|at| u64::from(self.get(at))).sum()
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { libc::free(self.ptr.as_ptr().cast()) };
    }
}
