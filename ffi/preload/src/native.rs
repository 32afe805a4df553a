//! `zonal.h`.

use core::ffi::{CStr, c_char, c_int};

use zonal::Format;
use zonal::abi;

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_stats_print(fd: c_int, format: c_int) -> c_int {
    let format = match format {
        0 => Format::Text,
        1 => Format::Json,
        2 => Format::Prometheus,
        _ => {
            abi::set_errno(libc::EINVAL);
            return -1;
        }
    };
    if zonal::print(fd, format) { 0 } else { -1 }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_reclaim(bytes: usize) -> usize {
    zonal::reclaim(bytes)
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_validate() -> c_int {
    match zonal::validate() {
        Ok(()) => 0,
        Err(mismatch) => {
            abi::warn(format_args!("{mismatch:?}"));
            -1
        }
    }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_version() -> *const c_char {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    const VERSION: &CStr = match CStr::from_bytes_with_nul(TEXT.as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version holds no null"),
    };
    VERSION.as_ptr()
}
