//! C++: operator new and delete in all 20 forms.
//!
//! `new` that finds no memory must call the new-handler, perhaps many times, and throw
//! `std::bad_alloc`; the nothrow forms must catch what the handler throws. All this is in the C++
//! library's own operators, and those get their memory from malloc, which is ours. So a `new` of
//! ours tries once, and on failure jumps to the library's. The jump leaves no frame of ours on the
//! stack, so the exception meets no Rust.
//!
//! Where the program has replaced what a form stands on ([`crate::front`]), `new` does not try and is the
//! library's at once; `delete` is what everybody calls by the name of the form, or of the `free`, below it.
//!
//! Sized forms of `delete` compare the size and do not trust it.

use core::arch::naked_asm;
use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::Relaxed;

use zonal::abi;

use crate::front::{is_replaced, pass_on};
use crate::glibc::Glibc;
use crate::loader;
use crate::{aligned, c};

const MAX_SIZE: usize = isize::MAX as usize;
const LIBRARIES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++abi.so.1", c"libc++.so.1"];

extern "C" fn plain(size: usize) -> *mut c_void {
    if is_replaced() {
        return ptr::null_mut();
    }
    abi::malloc(size).cast()
}

/// After a hit that missed, which took a heap, or was not tried.
extern "C" fn missed(size: usize, heap: *mut abi::HeapHot) -> *mut c_void {
    if heap.is_null() {
        return ptr::null_mut();
    }
    abi::malloc_missed(size, heap).cast()
}

extern "C" fn over_aligned(size: usize, align: usize) -> *mut c_void {
    if is_replaced() {
        return ptr::null_mut();
    }
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
    ptr::null_mut()
}

/// The library's operator, looked for once: where something is replaced, each call comes here.
fn remembered(
    known: &AtomicPtr<c_void>,
    find: fn(usize, &CStr) -> *mut c_void,
    size: usize,
    name: &CStr,
) -> *mut c_void {
    if size > MAX_SIZE {
        return find(size, name);
    }
    // Relaxed, here and below: whoever looks first writes what all others would.
    let mut operator = known.load(Relaxed);
    if operator.is_null() {
        operator = find(size, name);
        // A C++ library may still be loaded.
        if operator != null_operator as *mut c_void {
            known.store(operator, Relaxed);
        }
    }
    operator
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
                static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
                const NAME: &str = concat!(stringify!($operator), "\0");
                // SAFETY: ends in its only null.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(NAME.as_bytes()) };
                remembered(&KNOWN, $find, size, name)
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
                static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
                const NAME: &str = concat!(stringify!($operator), "\0");
                // SAFETY: ends in its only null.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(NAME.as_bytes()) };
                remembered(&KNOWN, $find, size, name)
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
            if is_replaced() {
                // SAFETY: C++'s contract.
                return unsafe { $missed(size, ptr::null_mut()) };
            }
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

/// `operator delete`: the first argument is all we need, and a size, which is compared and not believed.
/// What stands behind `or` does it where something is replaced, and gets the arguments of its own.
macro_rules! operator_delete {
    ($(
        $(#[$place:meta])? $name:ident ($($arg:ident),*)
            = $free:ident ($($told:ident),*) or $everybodys:ident ($($pass:ident),*);
    )*) => {$(
        /// # Safety
        /// C++'s contract.
        #[unsafe(no_mangle)]
        $(#[$place])?
        pub(crate) unsafe extern "C" fn $name(object: *mut c_void, $($arg: usize),*) {
            if is_replaced() {
                /// The function that everybody calls.
                #[unsafe(naked)]
                unsafe extern "C" fn everybodys(object: *mut c_void, $($pass: usize),*) {
                    pass_on!($everybodys)
                }
                // SAFETY: the caller gives the object up.
                return unsafe { everybodys(object, $($pass),*) };
            }
            // SAFETY: the caller gives the object up.
            unsafe { operator_delete!(@ $free object $(, $told)*) }
        }
    )*};
    (@ free $object:ident) => { abi::free::<Glibc>($object.cast()) };
    (@ sized $object:ident, $size:ident) => { abi::free_sized::<Glibc>($object.cast(), $size, 1) };
    (@ sized $object:ident, $size:ident, $align:ident) => {
        c::free_aligned_sized($object, $align, $size)
    };
}

operator_delete! {
    #[unsafe(link_section = ".text.zonal_delete")]
    _ZdlPv() = free() or free();
    _ZdaPv() = free() or _ZdlPv();
    _ZdlPvRKSt9nothrow_t(_nothrow) = free() or _ZdlPv();
    _ZdaPvRKSt9nothrow_t(_nothrow) = free() or _ZdaPv();
    _ZdlPvSt11align_val_t(_align) = free() or free();
    _ZdaPvSt11align_val_t(align) = free() or _ZdlPvSt11align_val_t(align);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(align, _nothrow) = free() or _ZdlPvSt11align_val_t(align);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(align, _nothrow) = free() or _ZdaPvSt11align_val_t(align);
    #[unsafe(link_section = ".text.zonal_delete_sized")]
    _ZdlPvm(size) = sized(size) or _ZdlPv();
    _ZdaPvm(size) = sized(size) or _ZdaPv();
    _ZdlPvmSt11align_val_t(size, align) = sized(size, align) or _ZdlPvSt11align_val_t(align);
    _ZdaPvmSt11align_val_t(size, align) = sized(size, align) or _ZdaPvSt11align_val_t(align);
}
