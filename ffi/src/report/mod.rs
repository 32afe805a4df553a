//! Statistics, written to a descriptor from a fixed buffer: nothing here allocates.
//!
//! The report at exit or on a signal goes to a descriptor of our own, made at the start only if it was asked for.
//! Programs close descriptors that they do not know, and the number may then belong to something
//! else: before writing, the file behind it is compared with the one at the start.

mod on_signal;
mod stats;
mod usage;

use core::ffi::CStr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};

use zonal_stats::Format;

pub use stats::Stats;
pub(crate) use stats::fill;
pub use usage::Usage;

use crate::env::Settings;
use crate::fd::{Line, Out};
use crate::{errno, init};

/// Descriptors of ours are high, out of the way of programs that count on low numbers.
const HIGH: i32 = 200;
const NONE: i32 = -1;

static AT_EXIT: AtomicBool = AtomicBool::new(false);
static FD: AtomicI32 = AtomicI32::new(NONE);
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);
/// A [`Format`] as a number.
static FORMAT: AtomicU32 = AtomicU32::new(0);
const FORMATS: [Format; 3] = [Format::Text, Format::Json, Format::Prometheus];

/// Writes the figures of this moment to `fd`; nothing before the first allocation. False with errno when the
/// descriptor does not take them all, or there is no memory for them (`ENOMEM`).
pub fn print(fd: i32, format: Format) -> bool {
    let Some(stats) = Stats::take() else {
        let has_none = init::mm().is_none();
        if !has_none {
            errno::set(libc::ENOMEM);
        }
        return has_none;
    };
    let mut out = Out::new(fd);
    format.write(&mut out, &stats).and_then(|()| out.finish()) == Ok(())
}

/// Opens the descriptor of the report at exit or on a signal, if there shall be one.
pub(crate) fn prepare(settings: &Settings) {
    stats::prepare(settings.minimal_syscalls);
    AT_EXIT.store(settings.stats_at_exit, Relaxed);
    if !settings.stats_at_exit && settings.stats_signal.is_none() {
        return;
    }
    let fd = match settings.stats_file {
        Some(path) => open(path).unwrap_or_else(|| away(libc::STDERR_FILENO)),
        None => away(libc::STDERR_FILENO),
    };
    if let Some((device, inode)) = identity(fd) {
        DEVICE.store(device, Relaxed);
        INODE.store(inode, Relaxed);
        FORMAT.store(settings.stats_format as u32, Relaxed);
        FD.store(fd, Relaxed);
        if let Some(number) = settings.stats_signal {
            on_signal::prepare(number);
        }
    }
}

/// Arranges for the report. Registered before the program's own exit handlers, so it runs after
/// them.
pub(crate) fn register() {
    if AT_EXIT.load(Relaxed) && FD.load(Relaxed) != NONE {
        // SAFETY: a function of this library, which stays loaded. If it cannot be registered
        // there is no report.
        unsafe { libc::atexit(at_exit) };
    }
}

extern "C" fn at_exit() {
    write_now();
}

/// Writes a report to the descriptor made at the start.
pub(crate) fn write_now() {
    let fd = FD.load(Relaxed);
    if identity(fd) == Some((DEVICE.load(Relaxed), INODE.load(Relaxed))) {
        print(fd, FORMATS[FORMAT.load(Relaxed) as usize]);
    }
}

/// None, and a line that says why, if it cannot be had.
fn open(name: &[u8]) -> Option<i32> {
    let mut buffer = [0; libc::PATH_MAX as usize];
    let path = match buffer.get_mut(..name.len()) {
        Some(start) => {
            start.copy_from_slice(name);
            // None where no byte is left for the null.
            CStr::from_bytes_until_nul(&buffer).ok()
        }
        None => None,
    };
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: a string that ends in null.
    let fd = path.map_or(NONE, |path| unsafe { libc::open(path.as_ptr(), flags, 0o644) });
    if fd < 0 {
        let why = if path.is_some() { why(errno::get()) } else { "its name is too long" };
        let shown = name.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Line::stderr(format_args!(
            "ZONAL_CONF: {why}, the report goes to stderr: stats_file:{shown}"
        ));
        return None;
    }
    let high = away(fd);
    if high == NONE {
        return Some(fd);
    }
    // SAFETY: opened just above, and nobody else knows it.
    unsafe { libc::close(fd) };
    Some(high)
}

/// What the kernel means; the C library's words may ask for memory.
fn why(error: i32) -> &'static str {
    match error {
        libc::ENOENT | libc::ENOTDIR => "no such folder",
        libc::EACCES | libc::EPERM => "no permission",
        libc::EISDIR => "it is a folder",
        libc::EROFS => "the file system is read-only",
        _ => "it cannot be opened",
    }
}

/// A copy of `fd` with a high number.
pub(crate) fn away(fd: i32) -> i32 {
    // SAFETY: plain calls on a descriptor.
    unsafe {
        match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, HIGH) {
            NONE => libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1),
            copy => copy,
        }
    }
}

/// Which file stands behind `fd`.
pub(crate) fn identity(fd: i32) -> Option<(u64, u64)> {
    // SAFETY: all zeros is a valid `stat`.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is writable.
    (fd >= 0 && unsafe { libc::fstat(fd, &raw mut stat) } == 0)
        .then_some((stat.st_dev, stat.st_ino))
}
