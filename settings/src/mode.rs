//! What settings choose among, and their bounds.

use core::ffi::c_int;

/// When the background thread may exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum Mode {
    /// In processes that have other threads.
    #[default]
    Auto = 0,
    /// Never: callers do its work.
    Off = 1,
    /// In any process.
    Always = 2,
}

/// Who looks at what the control group and the nodes have left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PressureMode {
    /// The first call and the background thread; where there is none, callers in a group with a limit,
    /// once they have a part of it.
    #[default]
    Auto,
    /// Nobody.
    Off,
    /// Callers too, where they do its work.
    Always,
}

/// How much misuse is looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// What costs nothing.
    Off,
    /// What costs next to nothing.
    Usual,
    /// All that can be found.
    Full,
}

/// One miss in so many is served by a fenced object, after the first ones.
pub const FENCE_PERIOD: u64 = 16;

/// One sample in so many bytes.
pub const DEFAULT_RATE: usize = 512 << 10;

/// Bytes of the longest path of a profile.
pub const MAX_PATH: usize = 1000;

/// The signals that may be chosen, besides those from `SIGRTMIN` on: programs leave them to their
/// users.
pub const SIGNALS: [(&[u8], c_int); 9] = [
    (b"HUP", libc::SIGHUP),
    (b"INT", libc::SIGINT),
    (b"QUIT", libc::SIGQUIT),
    (b"USR1", libc::SIGUSR1),
    (b"USR2", libc::SIGUSR2),
    (b"URG", libc::SIGURG),
    (b"WINCH", libc::SIGWINCH),
    (b"IO", libc::SIGIO),
    (b"PWR", libc::SIGPWR),
];
