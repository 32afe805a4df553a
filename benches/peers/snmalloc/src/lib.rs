//! snmalloc as a library for LD_PRELOAD.
#![no_std]

use snmalloc_sys as _;

peer_forward::forward! {
    malloc: "sn_malloc", calloc: "sn_calloc", realloc: "sn_realloc", free: "sn_free",
    posix_memalign: "sn_posix_memalign", aligned_alloc: "sn_memalign", usable: "sn_malloc_usable_size",
}

peer_forward::panic_handler!();
