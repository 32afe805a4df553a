//! errno: the one thing that every call of ours must leave alone.

/// The calling thread's errno as a call found it, which is so again when this is dropped.
#[derive(Debug)]
#[must_use = "errno is restored as it is dropped"]
pub(crate) struct SavedErrno(i32);

impl SavedErrno {
    #[inline]
    pub(crate) fn save() -> SavedErrno {
        SavedErrno(get())
    }

    /// The call fails: errno will be this instead.
    #[inline]
    pub(crate) fn fail(mut self, number: i32) {
        self.0 = number;
    }
}

impl Drop for SavedErrno {
    #[inline]
    fn drop(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A call that fails on the way, and may say so.
    fn call(is_told: bool) -> Option<()> {
        let errno = SavedErrno::save();
        set(libc::EINTR);
        if is_told {
            errno.fail(libc::ENOMEM);
            return None;
        }
        None?;
        Some(())
    }

    #[test]
    fn a_call_leaves_errno_alone_however_it_ends() {
        set(libc::EAGAIN);
        assert_eq!((call(false), get()), (None, libc::EAGAIN));
        assert_eq!((call(true), get()), (None, libc::ENOMEM));
    }
}
