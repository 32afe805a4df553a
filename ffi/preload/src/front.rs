//! Functions of the program that stand in front of ours.
//!
//! The loader looks into the program before it looks into any preload, so a function that the program
//! defines is the one that all call, and so is one of a preload named before this one. C++ lets a program
//! replace just `operator new(size_t)` and `operator delete(void *)`: all other forms shall then go through
//! those two, and these, in the C++ library, through `malloc` and `free`.
//!
//! Forms of ours that stand on others therefore ask a flag. It is set before anybody can call: when the
//! loader has filled this library's global offset table with what everybody calls by each name, it runs the
//! resolver of [`crate::early`]. Our own functions are known by second names, which the linker gives them
//! (`build.rs`) and which nobody can take away.
//!
//! A program that stands at a fixed place and takes the address of one of these functions has an entry of its
//! own for it, which is its address for everybody and jumps to whoever defines it. Nothing is replaced then.
//! What a preload in front has behind such an entry is not seen.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;

/// What is not ours, of the functions that others stand on.
#[derive(Clone, Copy)]
struct Replaced {
    any: bool,
    /// `operator new`, for one object or for an array.
    new: bool,
    /// The same with an alignment.
    aligned_new: bool,
}

/// [F1] Written once, by the loader's thread before there is another one, and before anybody can ask. Not
/// atomic, so that each operator asks with one instruction.
static mut REPLACED: Replaced = Replaced { any: false, new: false, aligned_new: false };

/// Whether any of the functions that others stand on is not ours.
#[inline(always)]
pub(crate) fn is_replaced() -> bool {
    // SAFETY: [F1].
    unsafe { REPLACED.any }
}

/// Whether `operator new` is not ours, for one object or for an array.
pub(crate) fn is_new_replaced() -> bool {
    // SAFETY: [F1].
    unsafe { REPLACED.new }
}

/// Whether `operator new` with an alignment is not ours.
pub(crate) fn is_aligned_new_replaced() -> bool {
    // SAFETY: [F1].
    unsafe { REPLACED.aligned_new }
}

/// Whether everybody calls ours by this name.
macro_rules! is_ours {
    ($name:ident) => {{
        let (called, own): (usize, usize);
        // SAFETY: reads a word that the loader has written, and makes an address.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!(
                concat!("mov {called}, qword ptr [rip + ", stringify!($name), "@GOTPCREL]"),
                concat!("lea {own}, [rip + zonal_own_", stringify!($name), "]"),
                called = lateout(reg) called,
                own = lateout(reg) own,
                options(readonly, nostack, preserves_flags),
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!(
                concat!("adrp {called}, :got:", stringify!($name)),
                concat!("ldr {called}, [{called}, :got_lo12:", stringify!($name), "]"),
                concat!("adrp {own}, zonal_own_", stringify!($name)),
                concat!("add {own}, {own}, :lo12:zonal_own_", stringify!($name)),
                called = out(reg) called,
                own = out(reg) own,
                options(readonly, nostack, preserves_flags),
            );
        }
        called == own || is_entry(called)
    }};
}

include!("replaceable.rs");

/// Of each group, whether any is not ours.
macro_rules! replaced {
    ($([$($name:ident)*])*) => {
        [$(!($(is_ours!($name))&&*)),*]
    };
}

/// Looks once, when the library has been relocated.
pub(crate) fn look() {
    let [other, new, aligned_new] = replaceable!(replaced);
    let replaced = Replaced { any: other || new || aligned_new, new, aligned_new };
    // SAFETY: [F1]: this is the loader's thread.
    unsafe { REPLACED = replaced };
}

/// Whether the address is a program's entry for a function that it does not define.
#[cold]
fn is_entry(called: usize) -> bool {
    const RTLD_DL_SYMENT: c_int = 1;
    #[link(name = "c")]
    unsafe extern "C" {
        fn dladdr1(
            address: *const c_void,
            info: *mut libc::Dl_info,
            extra: *mut *mut c_void,
            flags: c_int,
        ) -> c_int;
    }
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    let mut symbol: *mut libc::Elf64_Sym = ptr::null_mut();
    let address = ptr::with_exposed_provenance(called);
    // SAFETY: both are ours to write. The C library has been relocated before this one, which needs it.
    let found = unsafe {
        dladdr1(address, info.as_mut_ptr(), (&raw mut symbol).cast(), RTLD_DL_SYMENT) != 0
    };
    // SAFETY: null, or in a table of the object that holds the address.
    let symbol = unsafe { symbol.as_ref() };
    found && symbol.is_some_and(|symbol| symbol.st_shndx == 0 && symbol.st_value as usize == called)
}

/// The body of a function that is what everybody calls by another name, with the same arguments.
#[cfg(target_arch = "x86_64")]
macro_rules! pass_on {
    ($name:ident) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            concat!("jmp qword ptr [rip + ", stringify!($name), "@GOTPCREL]"),
            ".cfi_endproc",
        )
    };
}

/// The body of a function that is what everybody calls by another name, with the same arguments.
#[cfg(target_arch = "aarch64")]
macro_rules! pass_on {
    ($name:ident) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            concat!("adrp x16, :got:", stringify!($name)),
            concat!("ldr x16, [x16, :got_lo12:", stringify!($name), "]"),
            "br x16",
            ".cfi_endproc",
        )
    };
}

pub(crate) use pass_on;
