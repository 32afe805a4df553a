//! `operator new` in its eight forms: a try of our own, then whoever throws or catches.

use core::arch::naked_asm;
use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::AtomicPtr;

use zonal::abi;

use super::everybodys;
use super::throwing::{catching, nothrow, throwing};
use crate::aligned;
use crate::front::{is_aligned_new_replaced, is_new_replaced, is_replaced};

/// Memory for a plain form; null also where a replaced `new` has to be asked.
extern "C" fn plain(size: usize) -> *mut c_void {
    if !is_replaced() {
        abi::malloc(size).cast()
    } else if is_new_replaced() {
        ptr::null_mut()
    } else {
        // SAFETY: C's contract.
        unsafe { everybodys::malloc(size) }
    }
}

/// After a hit that missed, which took a heap, or was not tried.
extern "C" fn missed(size: usize, heap: *mut abi::HeapHot) -> *mut c_void {
    if heap.is_null() {
        // SAFETY: C's contract.
        return unsafe { everybodys::malloc(size) };
    }
    // SAFETY: the heap of the hit that jumped here.
    unsafe { abi::malloc_missed(size, heap).cast() }
}

/// Memory for `operator new` with an alignment.
extern "C" fn over_aligned(size: usize, align: usize) -> *mut c_void {
    if !is_replaced() {
        return aligned::any(align, size);
    }
    // As the C++ library calls it.
    let align = align.max(size_of::<usize>());
    match size.checked_add(align - 1) {
        // SAFETY: C's contract.
        Some(end) => unsafe { everybodys::aligned_alloc(align, end & !(align - 1)) },
        None => ptr::null_mut(),
    }
}

/// The same for a form that stands on that one: null also where it is replaced, and has to be asked.
extern "C" fn over_aligned_unless_replaced(size: usize, align: usize) -> *mut c_void {
    if is_aligned_new_replaced() { ptr::null_mut() } else { over_aligned(size, align) }
}

/// Who goes on with a `new` that got nothing: the library's form, to throw, or to call the handler; where the
/// form below is replaced, that one, or one that catches what it throws.
macro_rules! find {
    ($operator:ident, $find:tt) => {
        extern "C" fn find(size: usize) -> *mut c_void {
            const NAME: &str = concat!(stringify!($operator), "\0");
            // SAFETY: ends in its only null.
            let name = unsafe { CStr::from_bytes_with_nul_unchecked(NAME.as_bytes()) };
            find!(@ $find size, name)
        }
    };
    (@ [throwing] $size:ident, $name:ident) => {
        throwing($size, $name)
    };
    (@ [throwing or $replaced:path, if $is_replaced:path] $size:ident, $name:ident) => {
        if $is_replaced() { $replaced as *mut c_void } else { throwing($size, $name) }
    };
    (@ [nothrow or $replaced:path, if $is_replaced:path] $size:ident, $name:ident) => {{
        static KNOWN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        if $is_replaced() {
            catching(&KNOWN, $name, $replaced as *mut c_void)
        } else {
            nothrow($size, $name)
        }
    }};
}

/// `operator new`: `$get` tries, `$find` says who goes on. The size is kept in any case; further
/// arguments, in the second form, as well. In the first form they are the heap of the [`hit`] that missed.
macro_rules! operator_new {
    (missed: $($name:ident, $operator:ident, $get:path, $find:tt;)*) => {
        $(operator_new! { @one [] [] [] *mut abi::HeapHot, $name, $operator, $get, $find })*
    };
    (all: $($operator:ident, $get:path, $find:tt;)*) => {
        $(operator_new! {
            @one [#[unsafe(no_mangle)]]
            ["push rsi", ".cfi_adjust_cfa_offset 8", "push rdx", ".cfi_adjust_cfa_offset 8"]
            ["pop rdx", ".cfi_adjust_cfa_offset -8", "pop rsi", ".cfi_adjust_cfa_offset -8"]
            usize, $operator, $operator, $get, $find
        })*
    };
    (
        @one [$($export:tt)*] [$($push:literal),*] [$($pop:literal),*]
        $other:ty, $name:ident, $operator:ident, $get:path, $find:tt
    ) => {
        /// # Safety
        /// C++'s contract.
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        $($export)*
        pub(crate) unsafe extern "C-unwind" fn $name(size: usize, other: $other) -> *mut c_void {
            find!($operator, $find);
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
            find!($operator, $find);
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
    new_missed, _Znwm, missed, [throwing];
    new_array_missed, _Znam, missed, [throwing];
}

/// The usual forms: a hit of their own, without the call of `malloc`. What missed goes on elsewhere, in a jump
/// since nothing is left to do here; a frame, if a compiler left one, would let an exception pass.
macro_rules! hit {
    ($($name:ident, $missed:ident, $section:literal, $size:ident => $replaced:expr;)*) => {$(
        /// # Safety
        /// C++'s contract.
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub(crate) unsafe extern "C-unwind" fn $name($size: usize) -> *mut c_void {
            if is_replaced() {
                // SAFETY: C++'s contract.
                return unsafe { $replaced };
            }
            match abi::try_malloc($size) {
                Ok(object) => object.as_ptr().cast(),
                // SAFETY: C++'s contract, and the heap is the one that the hit took.
                Err(heap) => unsafe { $missed($size, heap) },
            }
        }
    )*};
}

hit! {
    _Znwm, new_missed, ".text.zonal_new", size => new_missed(size, ptr::null_mut());
    _Znam, new_array_missed, ".text.zonal_new_array", size => everybodys::new(size);
}

operator_new! { all:
    _ZnwmRKSt9nothrow_t, plain, [nothrow or everybodys::new, if is_new_replaced];
    _ZnamRKSt9nothrow_t, plain, [nothrow or everybodys::new_array, if is_new_replaced];
    _ZnwmSt11align_val_t, over_aligned, [throwing];
    _ZnamSt11align_val_t, over_aligned_unless_replaced,
        [throwing or everybodys::aligned_new, if is_aligned_new_replaced];
    _ZnwmSt11align_val_tRKSt9nothrow_t, over_aligned_unless_replaced,
        [nothrow or everybodys::aligned_new, if is_aligned_new_replaced];
    _ZnamSt11align_val_tRKSt9nothrow_t, over_aligned_unless_replaced,
        [nothrow or everybodys::aligned_new_array, if is_aligned_new_replaced];
}
