//! What the kernel answers when it refuses.

use core::fmt;

/// An error number of the OS.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(i32);

macro_rules! names {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`")]
            pub const $name: Errno = Errno(libc::$name);)*

            fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

names!(
    EPERM, ENOENT, EINTR, EBADF, EAGAIN, ENOMEM, EACCES, EFAULT, EBUSY, EEXIST, EINVAL, ENFILE,
    EMFILE, ENOSYS, EOPNOTSUPP,
);

impl Errno {
    /// The error of this number.
    pub const fn from_raw(number: i32) -> Errno {
        Errno(number)
    }

    /// Whether the same call may well pass a moment later, or with fewer descriptors open: nothing is
    /// known about what it asked for.
    pub const fn is_passing(self) -> bool {
        matches!(self, Errno::EINTR | Errno::EAGAIN | Errno::ENOMEM | Errno::ENFILE | Errno::EMFILE)
    }

    /// The number, as in `errno`.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Errno {}
