//! mimalloc v2 as a library for LD_PRELOAD.
#![no_std]

use libmimalloc_sys as _;

peer_forward::forward! {
    malloc: "mi_malloc", calloc: "mi_calloc", realloc: "mi_realloc", free: "mi_free",
    posix_memalign: "mi_posix_memalign", aligned_alloc: "mi_memalign", usable: "mi_malloc_usable_size",
}

peer_forward::panic_handler!();
