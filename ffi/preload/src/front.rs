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

/// [F1] Written once, by the loader's thread before there is another one, and before anybody can ask. Not
/// atomic, so that each operator asks with one instruction.
static mut IS_REPLACED: bool = false;

/// Whether any of the functions that others stand on is not ours.
#[inline(always)]
pub(crate) fn is_replaced() -> bool {
    // SAFETY: [F1].
    unsafe { IS_REPLACED }
}

/// Whether everybody calls ours by each of these names.
macro_rules! all_ours {
    ($($name:ident)*) => {
        true $(&& {
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
            called == own
        })*
    };
}

/// Looks once, when the library has been relocated.
pub(crate) fn look() {
    let all_ours = all_ours!(
        malloc free aligned_alloc
        _Znwm _Znam _ZnwmSt11align_val_t _ZnamSt11align_val_t
        _ZdlPv _ZdaPv _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t
    );
    // SAFETY: [F1]: this is the loader's thread.
    unsafe { IS_REPLACED = !all_ours };
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
