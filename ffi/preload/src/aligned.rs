//! Aligned memory: every power of two is really met.

use core::ffi::{c_int, c_void};

use zonal::abi;

use crate::c::fail;

/// An alignment that is no power of two is EINVAL, where glibc would quietly round it up.
///
/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    any(align, size)
}

/// The same for this library's other functions, which do not want a program's own.
pub(crate) fn any(align: usize, size: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        return fail(libc::EINVAL);
    }
    abi::aligned(size, align).cast()
}

/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    any(align, size)
}

/// Answers with a code and leaves errno alone.
///
/// # Safety
/// `out` is writable.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_memalign(
    out: *mut *mut c_void,
    align: usize,
    size: usize,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let before = abi::errno();
    let object = abi::aligned(size, align);
    if object.is_null() {
        abi::set_errno(before);
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { *out = object.cast() };
    0
}

/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    abi::aligned(size, os_page()).cast()
}

/// Whole pages.
///
/// # Safety
/// C's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    let page = os_page();
    match size.max(1).checked_next_multiple_of(page) {
        Some(size) => abi::aligned(size, page).cast(),
        None => fail(libc::ENOMEM),
    }
}

fn os_page() -> usize {
    // SAFETY: getauxval reads a table that the kernel made.
    let page = unsafe { libc::getauxval(libc::AT_PAGESZ) };
    usize::try_from(page).ok().filter(|page| page.is_power_of_two()).unwrap_or(4096)
}
