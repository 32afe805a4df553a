//! `libzonal.so`: every allocation function of C, C++ and POSIX, served by [`zonal`].
//!
//! For `LD_PRELOAD`. The exports are thin: they translate between C's conventions and the calls of
//! [`zonal::abi`]. No Rust standard library is linked, so nothing in here can allocate behind our
//! back, and start-up stays short.
//!
//! | module      | exports                                                                |
//! |-------------|------------------------------------------------------------------------|
//! | [`c`]       | malloc, calloc, realloc, free and their C23 and BSD relatives          |
//! | [`aligned`] | memalign, aligned_alloc, posix_memalign, valloc, pvalloc               |
//! | [`alias`]   | the `__libc_*` names                                                   |
//! | [`cxx`]     | operator new and delete, in all 20 forms                               |
//! | [`early`]   | nothing: an IFUNC of its own, for calls before relocation is complete  |
//! | [`front`]   | nothing: whether the program has a function of its own in front of ours   |
//! | [`info`]    | mallinfo, mallopt, malloc_trim, malloc_stats, malloc_info              |
//! | [`jumps`]   | longjmp and its kin, which wait for the end of a slow path            |
//! | [`loader`]  | dlopen, so that plugins see this malloc too                            |
//! | [`native`]  | `zonal.h`                                                              |
#![no_std]

mod alias;
mod aligned;
mod c;
mod cxx;
mod early;
mod front;
mod glibc;
mod info;
#[cfg(target_arch = "x86_64")]
mod jumps;
mod loader;
mod native;

use core::arch::global_asm;
use core::panic::PanicInfo;

// The C library by name: the `libc` crate leaves that to std when another member of the workspace
// turns on its feature `std`.
#[link(name = "c")]
unsafe extern "C" {}

/// A panic is a bug of ours: say where, and end.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => zonal::abi::die(format_args!("bug at {at}: {}", info.message())),
        None => zonal::abi::die(format_args!("bug: {}", info.message())),
    }
}

// Nothing unwinds through this library, but a build without optimisation refers to the
// personality from the precompiled `core`. Hidden: exported, it would take the place of the one
// in programs that bring Rust's standard library as a shared object.
global_asm!(
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    ".type rust_eh_personality, @function",
    "rust_eh_personality:",
    ".long 0",
    ".size rust_eh_personality, 4",
);
