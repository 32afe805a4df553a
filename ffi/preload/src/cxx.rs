//! C++: operator new and delete in all 20 forms.
//!
//! `new` that finds no memory must call the new-handler, perhaps many times, and throw
//! `std::bad_alloc`; the nothrow forms must catch what the handler throws. All this is in the C++
//! library's own operators, and those get their memory from malloc, which is ours. So a `new` of
//! ours tries once, and on failure jumps to the library's. The jump leaves no frame of ours on the
//! stack, so the exception meets no Rust.
//!
//! Where the program has replaced what a form stands on ([`crate::front`]), each form goes to what everybody
//! calls by the name of the one below it: in the end to malloc and free. Only nothrow forms of a replaced
//! `new` are the library's, since they have to catch.
//!
//! Sized forms of `delete` compare the size and do not trust it.

use core::arch::naked_asm;
use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::Relaxed;

use zonal::abi;

use crate::front::{is_aligned_new_replaced, is_new_replaced, is_replaced, pass_on};
use crate::glibc::Glibc;
use crate::loader;
use crate::{aligned, c};

const MAX_SIZE: usize = isize::MAX as usize;
const LIBRARIES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++abi.so.1", c"libc++.so.1"];

/// What everybody calls by these names.
mod everybodys {
    use super::{c_void, pass_on};

    macro_rules! everybodys {
        ($($function:ident($($arg:ident),*) $(-> $ret:ty)? = $name:ident;)*) => {$(
            #[unsafe(naked)]
            pub(super) unsafe extern "C-unwind" fn $function($($arg: usize),*) $(-> $ret)? {
                pass_on!($name)
            }
        )*};
    }

    everybodys! {
        malloc(size) -> *mut c_void = malloc;
        aligned_alloc(align, size) -> *mut c_void = aligned_alloc;
        new(size) -> *mut c_void = _Znwm;
        new_array(size) -> *mut c_void = _Znam;
        aligned_new(size, align) -> *mut c_void = _ZnwmSt11align_val_t;
        aligned_new_array(size, align) -> *mut c_void = _ZnamSt11align_val_t;
    }
}

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

/// The form that catches what a replaced one throws, or that one itself where there is no C++ library.
/// Looked for once; the library stays open.
fn catching(known: &AtomicPtr<c_void>, name: &CStr, replaced: *mut c_void) -> *mut c_void {
    // Relaxed, here and below: whoever looks first writes what all others would.
    let mut operator = known.load(Relaxed);
    if operator.is_null() {
        let found = LIBRARIES.iter().map(|library| loader::find_in(library, name));
        operator = found.into_iter().find(|found| !found.is_null()).unwrap_or(replaced);
        if operator != replaced {
            known.store(operator, Relaxed);
        }
    }
    operator
}

/// Who goes on with a `new` that got nothing: the library's form, to throw, or to call the handler; where the
/// form below is replaced, that one, or one that catches what it throws.
macro_rules! find_operator {
    ([throwing] $size:ident, $name:ident) => {
        throwing($size, $name)
    };
    ([throwing or $replaced:path, if $is_replaced:path] $size:ident, $name:ident) => {
        if $is_replaced() { $replaced as *mut c_void } else { throwing($size, $name) }
    };
    ([nothrow or $replaced:path, if $is_replaced:path] $size:ident, $name:ident) => {{
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
            extern "C" fn find(size: usize) -> *mut c_void {
                const NAME: &str = concat!(stringify!($operator), "\0");
                // SAFETY: ends in its only null.
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(NAME.as_bytes()) };
                find_operator!($find size, name)
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
                let name = unsafe { CStr::from_bytes_with_nul_unchecked(NAME.as_bytes()) };
                find_operator!($find size, name)
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
        abi::free_sized::<Glibc>($object.cast(), $size, c::told_align($align))
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
