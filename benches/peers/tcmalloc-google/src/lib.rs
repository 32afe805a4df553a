//! Google's TCMalloc, with its pages of 8 KiB, as a library for LD_PRELOAD. It is C++ with exceptions, so
//! unlike the other peers it needs what `std` brings for unwinding.

use libtcmalloc_sys as _;

peer_forward::forward! {
    malloc: "TCMallocInternalMalloc", calloc: "TCMallocInternalCalloc", realloc: "TCMallocInternalRealloc",
    free: "TCMallocInternalFree", posix_memalign: "TCMallocInternalPosixMemalign",
    aligned_alloc: "TCMallocInternalAlignedAlloc", usable: "TCMallocInternalMallocSize",
}
