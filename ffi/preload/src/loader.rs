//! dlopen without RTLD_DEEPBIND, and how functions of other libraries are found.
//!
//! A plugin opened with RTLD_DEEPBIND looks up its symbols in libc before it looks here, and so
//! gets glibc's malloc for memory that its host will free through ours, and the other way round
//! (Debian's PHP opens its extensions like this). Such a process cannot work with any interposed
//! malloc. So `dlopen` is ours too: it clears that one flag.
//!
//! glibc's dlopen looks at its return address to find out who calls (RUNPATH, `$ORIGIN`, the
//! namespace), so ours must not appear on the stack: it ends in a jump.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::Relaxed;

/// The real dlopen, once it was looked up. Whoever looks first writes what all others would.
static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Opens a shared library as glibc does, but never with RTLD_DEEPBIND.
///
/// # Safety
/// POSIX's contract.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "endbr64",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "push rsi",
        ".cfi_adjust_cfa_offset 8",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {real}",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "pop rsi",
        ".cfi_adjust_cfa_offset -8",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        "and esi, {keep}",
        "jmp rax",
        ".cfi_endproc",
        real = sym real_dlopen,
        keep = const !libc::RTLD_DEEPBIND,
    )
}

/// Opens a shared library as glibc does, but never with RTLD_DEEPBIND.
///
/// # Safety
/// POSIX's contract.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-32]!",
        ".cfi_def_cfa_offset 32",
        ".cfi_offset x29, -32",
        ".cfi_offset x30, -24",
        "stp x0, x1, [sp, #16]",
        "bl {real}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        ".cfi_def_cfa_offset 0",
        ".cfi_restore x29",
        ".cfi_restore x30",
        "and w1, w1, #{keep}",
        "br x16",
        ".cfi_endproc",
        real = sym real_dlopen,
        keep = const !libc::RTLD_DEEPBIND,
    )
}

extern "C" fn real_dlopen() -> *mut c_void {
    let known = REAL.load(Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: looks up a name behind this library.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"dlopen".as_ptr()) };
    if found.is_null() {
        // A C library that keeps dlopen elsewhere, and a program that never linked it.
        return no_dlopen as *mut c_void;
    }
    REAL.store(found, Relaxed);
    found
}

extern "C" fn no_dlopen(_: *const c_char, _: c_int) -> *mut c_void {
    ptr::null_mut()
}

/// A function behind this library in the search order, or in one of `libraries` if it is loaded.
pub(crate) fn find(name: &CStr, libraries: &[&CStr]) -> *mut c_void {
    // SAFETY: looks up a name.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if !found.is_null() {
        return found;
    }
    libraries
        .iter()
        .map(|library| find_in(library, name))
        .find(|f| !f.is_null())
        .unwrap_or_default()
}

/// A function of this very library, if it is loaded.
pub(crate) fn find_in(library: &CStr, name: &CStr) -> *mut c_void {
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
    // SAFETY: opens nothing that is not there already.
    let handle = unsafe { dlopen(library.as_ptr(), flags) };
    if handle.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: an open handle. It stays open, so that what is found stays valid.
    unsafe { libc::dlsym(handle, name.as_ptr()) }
}
