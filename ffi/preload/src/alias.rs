//! glibc's own names for its functions: some libraries call them to step around an interposed
//! malloc, and would bring back memory that is not ours.

use core::ffi::{c_int, c_void};

use crate::{aligned, c};

macro_rules! aliases {
    ($($alias:ident = $path:path, ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {$(
        /// # Safety
        /// As for the function of the plain name.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $alias($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the caller's promise.
            unsafe { $path($($arg),*) }
        }
    )*};
}

aliases! {
    __libc_malloc = c::malloc, (size: usize) -> *mut c_void;
    __libc_calloc = c::calloc, (count: usize, size: usize) -> *mut c_void;
    __libc_realloc = c::realloc, (object: *mut c_void, size: usize) -> *mut c_void;
    __libc_reallocarray = c::reallocarray,
        (object: *mut c_void, count: usize, size: usize) -> *mut c_void;
    __libc_free = c::free, (object: *mut c_void);
    __libc_memalign = aligned::memalign, (align: usize, size: usize) -> *mut c_void;
    __libc_valloc = aligned::valloc, (size: usize) -> *mut c_void;
    __libc_pvalloc = aligned::pvalloc, (size: usize) -> *mut c_void;
    __posix_memalign = aligned::posix_memalign,
        (out: *mut *mut c_void, align: usize, size: usize) -> c_int;
}
