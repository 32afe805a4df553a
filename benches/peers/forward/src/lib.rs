//! What every preload build of a peer exports: the C allocation functions and the C++ operators, each a
//! jump to the peer's own function of that meaning. The crates ship static libraries under names of
//! their own, and a Rust cdylib exports Rust symbols only; hence these forwards. One direct jump is
//! what they cost.
#![no_std]

/// Exports the C and C++ allocation functions on top of a peer's C functions.
///
/// The first block names the peer's symbols; `usable` is its `malloc_usable_size`.
#[macro_export]
macro_rules! forward {
    (
        malloc: $malloc:literal, calloc: $calloc:literal, realloc: $realloc:literal, free: $free:literal,
        posix_memalign: $posix_memalign:literal, aligned_alloc: $aligned_alloc:literal, usable: $usable:literal $(,)?
    ) => {
        mod peer {
            use core::ffi::{c_int, c_void};
            unsafe extern "C" {
                #[link_name = $malloc]
                pub(crate) fn malloc(size: usize) -> *mut c_void;
                #[link_name = $calloc]
                pub(crate) fn calloc(count: usize, size: usize) -> *mut c_void;
                #[link_name = $realloc]
                pub(crate) fn realloc(old: *mut c_void, size: usize) -> *mut c_void;
                #[link_name = $free]
                pub(crate) fn free(old: *mut c_void);
                #[link_name = $posix_memalign]
                pub(crate) fn posix_memalign(
                    out: *mut *mut c_void,
                    align: usize,
                    size: usize,
                ) -> c_int;
                #[link_name = $aligned_alloc]
                pub(crate) fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
                #[link_name = $usable]
                pub(crate) fn usable(block: *mut c_void) -> usize;
            }
        }
        $crate::exports!();
    };
}

/// The exported functions themselves; expects a module `peer` beside them.
#[macro_export]
#[doc(hidden)]
macro_rules! exports {
    () => {
        use core::ffi::{c_int, c_void};

        $crate::export! {
            malloc(size: usize) -> *mut c_void = peer::malloc(size);
            calloc(count: usize, size: usize) -> *mut c_void = peer::calloc(count, size);
            realloc(old: *mut c_void, size: usize) -> *mut c_void = peer::realloc(old, size);
            free(old: *mut c_void) -> () = peer::free(old);
            cfree(old: *mut c_void) -> () = peer::free(old);
            posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int
                = peer::posix_memalign(out, align, size);
            aligned_alloc(align: usize, size: usize) -> *mut c_void = peer::aligned_alloc(align, size);
            memalign(align: usize, size: usize) -> *mut c_void = peer::aligned_alloc(align, size);
            valloc(size: usize) -> *mut c_void = peer::aligned_alloc(4096, size);
            pvalloc(size: usize) -> *mut c_void = peer::aligned_alloc(4096, size.next_multiple_of(4096));
            malloc_usable_size(block: *mut c_void) -> usize = peer::usable(block);
            reallocarray(old: *mut c_void, count: usize, size: usize) -> *mut c_void
                = match count.checked_mul(size) {
                    Some(total) => peer::realloc(old, total),
                    None => core::ptr::null_mut(),
                };

            // operator new and delete. None of the loads runs out of memory, so no bad_alloc is thrown.
            _Znwm(size: usize) -> *mut c_void = peer::malloc(size);
            _Znam(size: usize) -> *mut c_void = peer::malloc(size);
            _ZnwmRKSt9nothrow_t(size: usize, _tag: *const c_void) -> *mut c_void = peer::malloc(size);
            _ZnamRKSt9nothrow_t(size: usize, _tag: *const c_void) -> *mut c_void = peer::malloc(size);
            _ZnwmSt11align_val_t(size: usize, align: usize) -> *mut c_void = peer::aligned_alloc(align, size);
            _ZnamSt11align_val_t(size: usize, align: usize) -> *mut c_void = peer::aligned_alloc(align, size);
            _ZdlPv(old: *mut c_void) -> () = peer::free(old);
            _ZdaPv(old: *mut c_void) -> () = peer::free(old);
            _ZdlPvm(old: *mut c_void, _size: usize) -> () = peer::free(old);
            _ZdaPvm(old: *mut c_void, _size: usize) -> () = peer::free(old);
            _ZdlPvSt11align_val_t(old: *mut c_void, _align: usize) -> () = peer::free(old);
            _ZdaPvSt11align_val_t(old: *mut c_void, _align: usize) -> () = peer::free(old);
            _ZdlPvmSt11align_val_t(old: *mut c_void, _size: usize, _align: usize) -> () = peer::free(old);
            _ZdaPvmSt11align_val_t(old: *mut c_void, _size: usize, _align: usize) -> () = peer::free(old);
            _ZdlPvRKSt9nothrow_t(old: *mut c_void, _tag: *const c_void) -> () = peer::free(old);
            _ZdaPvRKSt9nothrow_t(old: *mut c_void, _tag: *const c_void) -> () = peer::free(old);
        }
    };
}

/// The panic handler of a peer that links no `std`.
#[macro_export]
macro_rules! panic_handler {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            // SAFETY: abort has no precondition.
            unsafe { libc::abort() }
        }
    };
}

/// One `extern "C"` function a line.
#[macro_export]
#[doc(hidden)]
macro_rules! export {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        /// Forwards to the peer.
        ///
        /// # Safety
        /// As for the C function of that name.
        #[allow(non_snake_case, reason = "the mangled names of C++")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: the same contract, handed on.
            #[allow(unused_unsafe, reason = "some bodies are plain")]
            unsafe { $body }
        }
    )*};
}
