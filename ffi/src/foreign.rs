//! Memory that is not ours: what to do when a program gives us such a pointer.

/// Answers for pointers that zonal did not hand out.
///
/// The preload library knows glibc's own allocator, from which memory can reach us through
/// namespaces and libraries that were bound before us; a Rust program has no such neighbour.
pub trait Foreign {
    /// Whether the C library's own functions free memory here.
    const SERVES_C_LIBRARY: bool;

    /// Frees `object` if it is known; false when nobody knows it.
    ///
    /// # Safety
    /// `object` is not used any more.
    unsafe fn free(object: *mut u8) -> bool;

    /// Usable bytes of `object`, none when nobody knows it.
    ///
    /// # Safety
    /// `object` stays alive during the call.
    unsafe fn usable_size(object: *mut u8) -> Option<usize>;

    /// Resizes `object` if it is known (`Some(null)`: no memory).
    ///
    /// # Safety
    /// `object` is not used any more if another address comes back.
    unsafe fn realloc(object: *mut u8, size: usize) -> Option<*mut u8>;
}

/// Nobody else's memory can arrive here.
#[derive(Debug)]
pub struct Alone;

impl Foreign for Alone {
    const SERVES_C_LIBRARY: bool = false;

    unsafe fn free(_: *mut u8) -> bool {
        false
    }

    unsafe fn usable_size(_: *mut u8) -> Option<usize> {
        None
    }

    unsafe fn realloc(_: *mut u8, _: usize) -> Option<*mut u8> {
        None
    }
}
