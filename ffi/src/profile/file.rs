//! Where profiles are written without a descriptor of the program's: at exit and on request.
//!
//! The file appears whole or not at all: it is written under another name first. `%p` in the name
//! stands for the process id, so that the processes of one tree do not overwrite each other. A
//! relative name counts from the current directory of that moment.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::fmt::{self, Write as _};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicUsize};

use zonal_settings::MAX_PATH;

use crate::fd::Line;

const DEFAULT: &[u8] = b"zonal.heap.%p";

/// The name as the user gave it: the environment, where it stood, may be overwritten.
struct Name(UnsafeCell<[u8; MAX_PATH]>);
// SAFETY: written once, in the first call of the process, before `LEN` says that it is there.
unsafe impl Sync for Name {}
static NAME: Name = Name(UnsafeCell::new([0; MAX_PATH]));
static LEN: AtomicUsize = AtomicUsize::new(0);

pub(super) fn set_path(path: &[u8]) {
    // SAFETY: nobody reads before `LEN` is set, and nobody else writes.
    let name = unsafe { &mut *NAME.0.get() };
    if let Some(place) = name.get_mut(..path.len()) {
        place.copy_from_slice(path);
        // ORDERING: Release, pairs with Acquire in `path`.
        LEN.store(path.len(), Release);
    }
}

fn path() -> &'static [u8] {
    // ORDERING: Acquire, pairs with Release in `set_path`.
    match LEN.load(Acquire) {
        0 => DEFAULT,
        // SAFETY: written before `LEN`, and not again.
        len => unsafe { &*NAME.0.get() }.get(..len).unwrap_or(DEFAULT),
    }
}

/// The name of the file and that under which it is written, used by whoever made `BUSY` true. Not on
/// the stack: a handler may have little of it.
struct Paths(UnsafeCell<[Path; 2]>);
// SAFETY: `BUSY` lets one in at a time.
unsafe impl Sync for Paths {}
static PATHS: Paths = Paths(UnsafeCell::new([const { Path::EMPTY }; 2]));
static BUSY: AtomicBool = AtomicBool::new(false);

/// Writes the profile to its file; says on stderr why not.
pub(super) fn write() {
    // ORDERING: Acquire and Release, of one file for the next.
    if BUSY.compare_exchange(false, true, Acquire, Relaxed).is_err() {
        return failed("another one is being written");
    }
    // SAFETY: `BUSY` is ours.
    write_to(unsafe { &mut *PATHS.0.get() });
    BUSY.store(false, Release);
}

/// In a forked child: who wrote one stayed in the parent.
pub(super) fn after_fork() {
    BUSY.store(false, Relaxed);
}

fn write_to([path, new]: &mut [Path; 2]) {
    if path.expand(self::path(), b"").is_none() || new.expand(self::path(), b".new").is_none() {
        return failed("its name is too long");
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC | libc::O_NOCTTY;
    let open = || {
        // SAFETY: a string that ends in null.
        unsafe { libc::open(new.text().as_ptr(), flags, 0o600) }
    };
    let mut fd = open();
    if fd < 0 && crate::errno::get() == libc::EEXIST {
        // Left behind by a process that was killed, and no other has this name.
        // SAFETY: as above.
        unsafe { libc::unlink(new.text().as_ptr()) };
        fd = open();
    }
    if fd < 0 {
        return failed("it cannot be made");
    }
    let written = super::dump(fd);
    // SAFETY: opened above, and nobody else knows it.
    unsafe { libc::close(fd) };
    // SAFETY: strings that end in null.
    if !written || unsafe { libc::rename(new.text().as_ptr(), path.text().as_ptr()) } != 0 {
        // SAFETY: as above.
        unsafe { libc::unlink(new.text().as_ptr()) };
        failed("it cannot be written");
    }
}

fn failed(why: &str) {
    let name = path().utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Line::stderr(format_args!("no heap profile in {name}: {why}"));
}

/// A name ready for the kernel.
struct Path {
    bytes: [u8; MAX_PATH + 64],
    len: usize,
}

impl Path {
    const EMPTY: Path = Path { bytes: [0; MAX_PATH + 64], len: 0 };

    fn expand(&mut self, name: &[u8], suffix: &[u8]) -> Option<()> {
        self.len = 0;
        let mut rest = name;
        while let [first, tail @ ..] = rest {
            rest = tail;
            if let (b'%', [b'p', after @ ..]) = (first, tail) {
                rest = after;
                // SAFETY: getpid only asks.
                let pid = unsafe { libc::getpid() };
                write!(self, "{pid}").ok()?;
            } else {
                self.push(&[*first])?;
            }
        }
        self.push(suffix)?;
        self.push(b"\0")
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

impl fmt::Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).ok_or(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_the_process_id() {
        let pid = std::process::id();
        let mut path = Path::EMPTY;
        path.expand(b"/x/longer-than-the-next-%p", b"").unwrap();
        path.expand(b"/x/%p-%q%", b".new").unwrap();
        assert_eq!(path.text().to_str().unwrap(), std::format!("/x/{pid}-%q%.new"));
        assert!(path.expand(&[b'x'; MAX_PATH + 64], b"").is_none());
    }
}
