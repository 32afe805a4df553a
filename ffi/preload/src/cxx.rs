//! C++: operator new and delete in all 20 forms.
//!
//! `new` that finds no memory must call the new-handler, perhaps many times, and throw
//! `std::bad_alloc`; the nothrow forms must catch what the handler throws. All this is in the C++
//! library's own operators, and those get their memory from malloc, which is ours. So a `new` of
//! ours tries once, and on failure jumps to the library's. The jump leaves no frame of ours on the
//! stack, so the exception meets no Rust.
//!
//! Sized forms of `delete` compare the size and do not trust it.

use core::arch::naked_asm;
use core::ffi::{CStr, c_void};

use zonal::abi;

use crate::glibc::Glibc;
use crate::loader;
use crate::{aligned, c};

const MAX_SIZE: usize = isize::MAX as usize;
const LIBRARIES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++abi.so.1", c"libc++.so.1"];

extern "C" fn plain(size: usize) -> *mut c_void {
    abi::malloc(size).cast()
}

extern "C" fn missed(size: usize, heap: *mut abi::HeapHot) -> *mut c_void {
    abi::malloc_missed(size, heap).cast()
}

extern "C" fn over_aligned(size: usize, align: usize) -> *mut c_void {
    // SAFETY: no preconditions in Rust's sense.
    unsafe { aligned::memalign(align, size) }
}

/// Finds the C++ library's operator of that name.
///
/// libstdc++'s aligned forms round the size up, and around its end, so that they return a few
/// bytes for nearly all there are. No alignment helps such a size: the plain form will do.
fn throwing(size: usize, name: &CStr) -> *mut c_void {
    let found = loader::find(if size > MAX_SIZE { c"_Znwm" } else { name }, &LIBRARIES);
    if found.is_null() {
        abi::die(format_args!("operator new: out of memory, and no C++ library to throw"));
    }
    found
}

/// The same for a form that may return null.
fn nothrow(size: usize, name: &CStr) -> *mut c_void {
    let name = if size > MAX_SIZE { c"_ZnwmRKSt9nothrow_t" } else { name };
    let found = loader::find(name, &LIBRARIES);
    if found.is_null() { null_operator as *mut c_void } else { found }
}

extern "C" fn null_operator() -> *mut c_void {
    core::ptr::null_mut()
}

/// `operator new`: `$get` tries, `$find` says who goes on. The size is kept in any case; further
/// arguments, in the second form, as well. In the first form they are the heap of the [`hit`] that missed.
macro_rules! operator_new {
    (missed: $($name:ident, $operator:ident, $get:path, $find:ident;)*) => {
        $(operator_new! { @one [] [] [] *mut abi::HeapHot, $name, $operator, $get, $find })*
    };
    (all: $($operator:ident, $get:path, $find:ident;)*) => {
        $(operator_new! {
            @one [#[unsafe(no_mangle)]]
            ["push rsi", "push rdx", ".cfi_adjust_cfa_offset 16"]
            ["pop rdx", "pop rsi", ".cfi_adjust_cfa_offset -16"]
            usize, $operator, $operator, $get, $find
        })*
    };
    (
        @one [$($export:tt)*] [$($push:literal),*] [$($pop:literal),*]
        $other:ty, $name:ident, $operator:ident, $get:path, $find:ident
    ) => {
        /// # Safety
        /// C++'s contract.
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        $($export)*
        pub(crate) unsafe extern "C-unwind" fn $name(size: usize, other: $other) -> *mut c_void {
            extern "C" fn find(size: usize) -> *mut c_void {
                const NAME: &str = concat!(stringify!($operator), "\0");
                // SAFETY: ends in its only null.
                $find(size, unsafe { CStr::from_bytes_with_nul_unchecked(NAME.as_bytes()) })
            }
            naked_asm!(
                ".cfi_startproc",
                "endbr64",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                $($push,)*
                "call {get}",
                $($pop,)*
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "test rax, rax",
                "jz 2f",
                "ret",
                "2:",
                "push rdi",
                ".cfi_adjust_cfa_offset 8",
                $($push,)*
                // With the size as its argument still in its place.
                "call {find}",
                $($pop,)*
                "pop rdi",
                ".cfi_adjust_cfa_offset -8",
                "jmp rax",
                ".cfi_endproc",
                get = sym $get,
                find = sym find,
            )
        }

        /// # Safety
        /// C++'s contract.
        #[cfg(target_arch = "aarch64")]
        #[unsafe(naked)]
        $($export)*
        pub(crate) unsafe extern "C-unwind" fn $name(size: usize, other: $other) -> *mut c_void {
            extern "C" fn find(size: usize) -> *mut c_void {
                const NAME: &str = concat!(stringify!($operator), "\0");
                // SAFETY: ends in its only null.
                $find(size, unsafe { CStr::from_bytes_with_nul_unchecked(NAME.as_bytes()) })
            }
            naked_asm!(
                ".cfi_startproc",
                "stp x29, x30, [sp, #-48]!",
                ".cfi_def_cfa_offset 48",
                ".cfi_offset x29, -48",
                ".cfi_offset x30, -40",
                "stp x0, x1, [sp, #16]",
                "str x2, [sp, #32]",
                "bl {get}",
                "cbnz x0, 2f",
                "ldr x0, [sp, #16]",
                "bl {find}",
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]",
                "ldr x2, [sp, #32]",
                "ldp x29, x30, [sp], #48",
                ".cfi_remember_state",
                ".cfi_def_cfa_offset 0",
                ".cfi_restore x29",
                ".cfi_restore x30",
                "br x16",
                "2:",
                ".cfi_restore_state",
                "ldp x29, x30, [sp], #48",
                ".cfi_def_cfa_offset 0",
                ".cfi_restore x29",
                ".cfi_restore x30",
                "ret",
                ".cfi_endproc",
                get = sym $get,
                find = sym find,
            )
        }
    };
}

operator_new! { missed:
    new_missed, _Znwm, missed, throwing;
    new_array_missed, _Znam, missed, throwing;
}

/// The usual forms: a hit of their own, without the call of `malloc`. What missed goes on elsewhere, in a jump
/// since nothing is left to do here; a frame, if a compiler left one, would let an exception pass.
macro_rules! hit {
    ($($name:ident, $missed:ident, $section:literal;)*) => {$(
        /// # Safety
        /// C++'s contract.
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub(crate) unsafe extern "C-unwind" fn $name(size: usize) -> *mut c_void {
            match abi::try_malloc(size) {
                Ok(object) => object.as_ptr().cast(),
                // SAFETY: C++'s contract, and the heap is the one that the hit took.
                Err(heap) => unsafe { $missed(size, heap) },
            }
        }
    )*};
}

hit! {
    _Znwm, new_missed, ".text.zonal_new";
    _Znam, new_array_missed, ".text.zonal_new_array";
}

operator_new! { all:
    _ZnwmRKSt9nothrow_t, plain, nothrow;
    _ZnamRKSt9nothrow_t, plain, nothrow;
    _ZnwmSt11align_val_t, over_aligned, throwing;
    _ZnamSt11align_val_t, over_aligned, throwing;
    _ZnwmSt11align_val_tRKSt9nothrow_t, over_aligned, nothrow;
    _ZnamSt11align_val_tRKSt9nothrow_t, over_aligned, nothrow;
}

/// `operator delete`: the first argument is all we need.
macro_rules! operator_delete {
    ($($(#[$place:meta])? $name:ident ($($rest:ident),*);)*) => {$(
        /// # Safety
        /// C++'s contract.
        #[unsafe(no_mangle)]
        $(#[$place])?
        pub(crate) unsafe extern "C" fn $name(object: *mut c_void, $($rest: usize),*) {
            // SAFETY: the caller gives the object up.
            unsafe { abi::free::<Glibc>(object.cast()) }
        }
    )*};
}

operator_delete! {
    #[unsafe(link_section = ".text.zonal_delete")]
    _ZdlPv();
    _ZdaPv();
    _ZdlPvRKSt9nothrow_t(_nothrow);
    _ZdaPvRKSt9nothrow_t(_nothrow);
    _ZdlPvSt11align_val_t(_align);
    _ZdaPvSt11align_val_t(_align);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(_align, _nothrow);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(_align, _nothrow);
}

/// Sized `operator delete`: the size is compared and not believed.
macro_rules! operator_delete_sized {
    ($($(#[$place:meta])? $name:ident ($size:ident $(, $align:ident)?);)*) => {$(
        /// # Safety
        /// C++'s contract.
        #[unsafe(no_mangle)]
        $(#[$place])?
        pub(crate) unsafe extern "C" fn $name(object: *mut c_void, $size: usize $(, $align: usize)?) {
            // SAFETY: the caller gives the object up.
            unsafe { operator_delete_sized!(@call object, $size $(, $align)?) }
        }
    )*};
    (@call $object:ident, $size:ident) => { abi::free_sized::<Glibc>($object.cast(), $size, 1) };
    (@call $object:ident, $size:ident, $align:ident) => {
        c::free_aligned_sized($object, $align, $size)
    };
}

operator_delete_sized! {
    #[unsafe(link_section = ".text.zonal_delete_sized")]
    _ZdlPvm(size);
    _ZdaPvm(size);
    _ZdlPvmSt11align_val_t(size, align);
    _ZdaPvmSt11align_val_t(size, align);
}
