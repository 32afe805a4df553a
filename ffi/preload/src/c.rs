//! The C functions that every program calls.

use core::arch::global_asm;
use core::ffi::{c_int, c_void};
use core::ptr;

use zonal::abi;

use crate::front::pass_on;
use crate::glibc::Glibc;

/// Sections of their own for the hits, so that each begins with a cache line and takes two, not
/// three, wherever the linker puts it. What does the same in a section of another name is not folded
/// into a jump to it either.
macro_rules! sections_of_hits {
    ($($name:literal)*) => {
        global_asm!($(
            concat!(".pushsection ", $name, ", \"ax\", @progbits"),
            ".p2align 6",
            ".popsection",
        )*);
    };
}

sections_of_hits! {
    ".text.zonal_malloc"
    ".text.zonal_free"
    ".text.zonal_new"
    ".text.zonal_new_array"
    ".text.zonal_delete"
    ".text.zonal_delete_sized"
}

/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.zonal_malloc")]
pub(crate) unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    abi::malloc(size).cast()
}

/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.zonal_free")]
pub(crate) unsafe extern "C" fn free(object: *mut c_void) {
    // SAFETY: the caller gives the object up.
    unsafe { abi::free::<Glibc>(object.cast()) }
}

/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => abi::zalloc(bytes).cast(),
        None => no_memory(),
    }
}

/// As glibc: `realloc(object, 0)` frees and returns null.
///
/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn realloc(object: *mut c_void, size: usize) -> *mut c_void {
    if size == 0 && !object.is_null() {
        // SAFETY: the caller gives the object up.
        unsafe { abi::free::<Glibc>(object.cast()) };
        return ptr::null_mut();
    }
    // SAFETY: the caller's promise.
    unsafe { abi::realloc::<Glibc>(object.cast(), size).cast() }
}

/// As glibc's, by everybody's `realloc`, which may be the program's.
///
/// # Safety
/// As for [`realloc`].
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn reallocarray(
    object: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    /// The function that everybody calls.
    #[unsafe(naked)]
    unsafe extern "C" fn everybodys(object: *mut c_void, size: usize) -> *mut c_void {
        pass_on!(realloc)
    }
    match count.checked_mul(size) {
        // SAFETY: the caller's promise.
        Some(bytes) => unsafe { everybodys(object, bytes) },
        None => no_memory(),
    }
}

/// The size is the caller's opinion; ours is in the metadata. They are compared.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free_sized(object: *mut c_void, size: usize) {
    // SAFETY: the caller gives the object up.
    unsafe { abi::free_sized::<Glibc>(object.cast(), size, 1) }
}

/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free_aligned_sized(object: *mut c_void, align: usize, size: usize) {
    // SAFETY: the caller gives the object up.
    unsafe { abi::free_sized::<Glibc>(object.cast(), size, told_align(align)) }
}

/// No power of two is nothing that a block was allocated with.
pub(crate) fn told_align(align: usize) -> usize {
    if align.is_power_of_two() { align } else { 1 }
}

/// The old name in SunOS and early glibc.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cfree(object: *mut c_void) {
    // SAFETY: the caller gives the object up.
    unsafe { free(object) }
}

/// # Safety
/// `object` is null or alive.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc_usable_size(object: *mut c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { abi::usable_size::<Glibc>(object.cast()) }
}

fn no_memory() -> *mut c_void {
    fail(libc::ENOMEM)
}

/// Null, with errno.
#[cold]
pub(crate) fn fail(errno: c_int) -> *mut c_void {
    abi::set_errno(errno);
    ptr::null_mut()
}
