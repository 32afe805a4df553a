//! The one door to everything concurrent: real primitives in a build, loom's in a model.
//!
//! No module of this crate names `core::sync::atomic` or `loom` itself. loom's types have no
//! `const fn new` and its threads share the real thread-local storage, so nothing below `ffi` is a
//! `static` or a TLS variable: everything is an instance.

#[cfg(not(zonal_loom))]
pub use core::sync::atomic;
#[cfg(zonal_loom)]
pub use loom::sync::atomic;

/// Atomics that loom sees nothing of: in memory of the program, statistics of locks, marks of hits.
pub mod program {
    pub use core::sync::atomic::AtomicU64;
}

/// Cells whose users the protocol around them keeps apart; a model checks that it does.
pub mod cell {
    #[cfg(zonal_loom)]
    pub use loom::cell::UnsafeCell;

    /// `core`'s cell with the calls of loom's.
    #[cfg(not(zonal_loom))]
    #[derive(Debug)]
    #[repr(transparent)]
    pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    #[cfg(not(zonal_loom))]
    impl<T> UnsafeCell<T> {
        /// A cell with this value.
        pub const fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(core::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with the value's address, to be read from.
        #[inline]
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with the value's address, to be written to.
        #[inline]
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

use atomic::AtomicU32;

/// Lets another thread run; inside a model it is a scheduling point.
#[inline]
pub fn yield_now() {
    #[cfg(zonal_loom)]
    loom::thread::yield_now();
    #[cfg(not(zonal_loom))]
    // SAFETY: sched_yield has no preconditions and cannot fail on Linux.
    unsafe {
        libc::sched_yield();
    }
}

/// A hint to the processor inside a short spin.
#[inline]
pub fn spin() {
    #[cfg(zonal_loom)]
    loom::thread::yield_now();
    #[cfg(not(zonal_loom))]
    core::hint::spin_loop();
}

/// The clock of sleeps, in nanoseconds; it stands still in models.
pub fn now_ns() -> u64 {
    if cfg!(zonal_loom) { 0 } else { zonal_numa::monotonic_ns() }
}

/// Sleeps while `word` still holds `expected`, at most `timeout_ns` nanoseconds if given.
///
/// May return early for no reason, so callers loop. Where the system refuses the call (seccomp),
/// it degrades to a yield.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) {
    #[cfg(zonal_loom)]
    {
        let _ = timeout_ns;
        crate::loom::futex::wait(word, expected);
    }
    #[cfg(test)]
    if refused::is_refused() {
        return yield_now();
    }
    #[cfg(not(zonal_loom))]
    {
        let ts = timeout_ns.map(|ns| libc::timespec {
            tv_sec: (ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (ns % 1_000_000_000) as libc::c_long,
        });
        let ts = ts.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: `word` outlives the call, `ts` is null or points to a live timespec; the kernel
        // only reads both.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                expected,
                ts,
            )
        };
        if rc == -1 && last_errno_is_refusal() {
            yield_now();
        }
    }
}

/// Wakes at most `nr` threads that sleep on `word`.
pub fn futex_wake(word: &AtomicU32, nr: i32) {
    #[cfg(test)]
    if refused::is_refused() {
        return;
    }
    #[cfg(zonal_loom)]
    {
        let _ = word;
        crate::loom::futex::wake(nr);
    }
    #[cfg(not(zonal_loom))]
    // SAFETY: FUTEX_WAKE only uses the address as a key.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            nr,
        );
    }
}

#[cfg(not(zonal_loom))]
fn last_errno_is_refusal() -> bool {
    // SAFETY: errno of the calling thread is always readable.
    let errno = unsafe { *libc::__errno_location() };
    errno == libc::ENOSYS || errno == libc::EPERM
}

/// For tests of threads whose futexes the system refuses, as a filter does for a whole process.
#[cfg(test)]
pub(crate) mod refused {
    use std::cell::Cell;

    std::thread_local! {
        static REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_refused() -> bool {
        REFUSED.get()
    }

    /// From now on those of the calling thread are, or not.
    pub(crate) fn set(is_refused: bool) {
        REFUSED.set(is_refused);
    }
}
