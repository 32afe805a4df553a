//! errno: the one thing that every call of ours must leave alone.

/// The calling thread's errno at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Errno(i32);

impl Errno {
    pub(crate) fn save() -> Errno {
        Errno(get())
    }

    pub(crate) fn restore(self) {
        set(self.0);
    }
}

/// The calling thread's errno.
pub fn get() -> i32 {
    // SAFETY: errno of the calling thread is always readable.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's errno.
pub fn set(value: i32) {
    // SAFETY: errno of the calling thread is always writable.
    unsafe { *libc::__errno_location() = value };
}
