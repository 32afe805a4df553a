//! zonal: Linux memory management inside one process, as a Rust allocator.
//!
//! ```
//! use zonal::Zonal;
//!
//! #[global_allocator]
//! static ALLOCATOR: Zonal = Zonal;
//!
//! fn main() {
//!     let text = String::from("lives in zonal");
//!     assert_eq!(text.len(), 14);
//!     zonal::trim();
//! }
//! ```
//!
//! This crate is the only one of zonal with statics, thread-local storage, fork handlers and the
//! environment. It exports no C symbol; `libzonal.so` in `preload/` does, on top of [`abi`].
//!
//! ```text
//!   malloc, free (hot) --miss--> slow --> SlowCall (thread) --> zonal_reclaim --> zonal_allocator
//!     one TLS word                          |  first call of the thread: attach
//!                                           |  first call of the process: init --> env, config
//!                                           '- fork, exit report, abort line
//! ```
//!
//! # The first malloc
//!
//! 1. `hot::malloc` reads `current` from TLS: the static empty heap. It is marked as taken: a miss.
//! 2. `slow::malloc` begins a `SlowCall`. `home` is null: the thread attaches.
//! 3. `init::start` finds no core and builds it: settings from the environment, the machine, the
//!    core itself. Other threads wait.
//! 4. The core gives a heap; `home` and `current` name it; the exit hook is armed.
//! 5. `init::finish` registers the fork handlers and, if asked for, the report at exit.
//! 6. [`zonal_reclaim::alloc`] refills the bin and answers. The heap in `current` is given back: the
//!    next call of that size is a hit.
//!
//! A library that uses [`Zonal`] and is opened with `dlopen` stays loaded when it is closed: threads that used it
//! run its exit hook when they end. A constructor of it asks the loader for that, with glibc 2.35 or later. With
//! an older one link it with `-z nodelete`: `cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete` in its build script.
#![no_std]

#[cfg(test)]
extern crate std;

// Hits, misses, and what a thread has for them.
mod errno;
mod foreign;
mod hot;
mod slow;
mod thread;
mod tls;

// The process: its first call, its settings, fork, signals, kswapd.
mod caller;
mod config;
mod env;
mod fork;
mod handler;
mod init;
mod jump;
mod kswapd;
mod loaded;
mod signal;

// What is seen from outside: watched calls, misuse, profiles, reports.
mod abort;
mod detour;
mod fault;
mod fd;
mod harden;
mod live;
mod profile;
mod report;
mod unwind;

// For Rust programs.
mod global;
mod on_node;
pub mod pages;
pub mod policy;

pub use global::Zonal;
pub use on_node::{Heap, Spill};
pub use report::{Stats, print};
pub use zonal_allocator::Mismatch;
pub use zonal_stats::{self as figures, Format};

/// The heap profile: sampled allocations by stack, on and off while the program runs.
pub mod heap_profile {
    pub use crate::profile::{dump, start, stop};
}

/// What the C library's names are made of: raw calls, for `libzonal.so`.
pub mod abi {
    pub use crate::abort::{die, warn};
    pub use crate::errno::{get as errno, set as set_errno};
    pub use crate::foreign::{Alone, Foreign};
    pub use crate::hot::{
        aligned, free, free_sized, malloc, malloc_missed, realloc, try_malloc, usable_size, zalloc,
    };
    pub use crate::jump::{LongJump, put_off};
    pub use crate::on_node::alloc_on_node;
    pub use crate::report::Usage;
    pub use crate::tls::prepare_thread;
    pub use zonal_allocator::HeapHot;
}

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The figures of this moment, as plain structs; none before the first allocation, or when there
/// is no memory for them.
///
/// ```
/// # #[global_allocator]
/// # static ALLOCATOR: zonal::Zonal = zonal::Zonal;
/// let kept = vec![0_u8; 10_000];
/// let stats = zonal::stats().expect("something was allocated");
/// let memory = stats.memory();
/// assert!(memory.used_small_bytes + memory.used_large_bytes >= 10_000);
/// ```
pub fn stats() -> Option<Stats> {
    Stats::take()
}

/// Gives all free memory back to the system that can be reached, of all threads; returns the bytes given back.
pub fn trim() -> usize {
    reclaim(usize::MAX)
}

/// Gives about `bytes` of free memory back to the system, cold or not, of all threads; returns the bytes given
/// back, which may be more or less. The kernel is asked (`mincore`) what it has of what goes, so that memory that
/// was never touched does not count. It does count where the kernel does not say, under a seccomp filter, which may
/// kill who asks, and with `pressure:off`. It waits for threads that are inside the allocator just then.
pub fn reclaim(bytes: usize) -> usize {
    slow::inspect(|mm, own| zonal_reclaim::trim(mm, own, bytes, kswapd::may_look())).unwrap_or(0)
}

/// Compares counters and lists of the core with each other. Other threads should not allocate
/// meanwhile.
///
/// # Errors
/// The first that disagrees.
pub fn validate() -> Result<(), Mismatch> {
    slow::inspect(zonal_allocator::Mm::validate).unwrap_or(Ok(()))
}
