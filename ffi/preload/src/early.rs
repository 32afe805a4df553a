//! Calls that come while the dynamic linker still relocates the program.
//!
//! A program's IFUNC resolvers run then, and may call malloc. This library is relocated already,
//! but no thread-local variable has its first value: that comes later, for all libraries at once.
//! So this library has an IFUNC of its own, whose resolver runs when the library is relocated and
//! writes the value in advance. What is handed out under it stays valid; the thread gets another
//! heap when its variables are set again.
//!
//! The reference that makes the linker call the resolver stands in the list of constructors, where
//! it is kept; the constructor that the resolver answers with does nothing.
//!
//! Resolvers of other libraries run before this one is relocated: nothing helps them.

use core::arch::global_asm;

use crate::front;

global_asm!(
    ".pushsection .text.zonal_early, \"ax\", @progbits",
    ".hidden zonal_early",
    ".type zonal_early, @gnu_indirect_function",
    "zonal_early:",
    #[cfg(target_arch = "x86_64")]
    "jmp {resolve}",
    #[cfg(target_arch = "aarch64")]
    "b {resolve}",
    ".size zonal_early, . - zonal_early",
    ".popsection",
    ".pushsection .init_array, \"aw\", @init_array",
    ".balign 8",
    ".quad zonal_early",
    ".popsection",
    resolve = sym resolve,
);

extern "C" fn resolve() -> extern "C" fn() {
    zonal::abi::prepare_thread();
    front::look();
    nothing
}

extern "C" fn nothing() {}
