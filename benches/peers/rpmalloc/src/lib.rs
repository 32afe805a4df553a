//! rpmalloc as a library for LD_PRELOAD. Its crate needs `std`, so this library does too.

use rpmalloc_sys as _;

peer_forward::forward! {
    malloc: "rpmalloc", calloc: "rpcalloc", realloc: "rprealloc", free: "rpfree",
    posix_memalign: "rpposix_memalign", aligned_alloc: "rpaligned_alloc", usable: "rpmalloc_usable_size",
}
