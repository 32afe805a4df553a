//! mimalloc v2 as a library for LD_PRELOAD.
#![no_std]

peer_forward::forward! {
    malloc: "mi_malloc", calloc: "mi_calloc", realloc: "mi_realloc", free: "mi_free",
    posix_memalign: "mi_posix_memalign", aligned_alloc: "mi_memalign", usable: "mi_malloc_usable_size",
}

/// The version that was built, for `loads served`: both are one crate, of which a build has one or the other.
#[unsafe(no_mangle)]
pub extern "C" fn peer_version() -> c_int {
    // SAFETY: answers a number.
    unsafe { libmimalloc_sys::mi_version() }
}

peer_forward::panic_handler!();
