//! jemalloc as a library for LD_PRELOAD.
#![no_std]

use tikv_jemalloc_sys as _;

peer_forward::forward! {
    malloc: "_rjem_malloc", calloc: "_rjem_calloc", realloc: "_rjem_realloc", free: "_rjem_free",
    posix_memalign: "_rjem_posix_memalign", aligned_alloc: "_rjem_aligned_alloc", usable: "_rjem_malloc_usable_size",
}

peer_forward::panic_handler!();
