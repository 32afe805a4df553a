//! Who goes on with a `new` that got nothing: the C++ library's own operator of that name.

use core::ffi::{CStr, c_void};
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::Relaxed;

use zonal::abi;

use crate::loader;

const MAX_SIZE: usize = isize::MAX as usize;
const LIBRARIES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++abi.so.1", c"libc++.so.1"];

/// Finds the C++ library's operator of that name.
///
/// libstdc++'s aligned forms round the size up, and around its end, so that they return a few
/// bytes for nearly all there are. No alignment helps such a size: the plain form will do.
pub(super) fn throwing(size: usize, name: &CStr) -> *mut c_void {
    let found = loader::find(if size > MAX_SIZE { c"_Znwm" } else { name }, &LIBRARIES);
    if found.is_null() {
        abi::die(format_args!("operator new: out of memory, and no C++ library to throw"));
    }
    found
}

/// The same for a form that may return null.
pub(super) fn nothrow(size: usize, name: &CStr) -> *mut c_void {
    let name = if size > MAX_SIZE { c"_ZnwmRKSt9nothrow_t" } else { name };
    let found = loader::find(name, &LIBRARIES);
    if found.is_null() { null_operator as *mut c_void } else { found }
}

extern "C" fn null_operator() -> *mut c_void {
    ptr::null_mut()
}

/// The form that catches what a replaced one throws, or that one itself where there is no C++ library.
/// Looked for once; the library stays open.
pub(super) fn catching(
    known: &AtomicPtr<c_void>,
    name: &CStr,
    replaced: *mut c_void,
) -> *mut c_void {
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
