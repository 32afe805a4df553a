//! The harness of zonal's black-box tests.
//!
//! A test is a program run with `libzonal.so` in `LD_PRELOAD` and judged by its exit status and
//! output. [`Program`] describes such a run (arguments, limits, closed descriptors, a chroot, a time
//! limit), [`compile()`] makes a program of a file in `tests/c`, and [`library`] finds the
//! library: `ZONAL_LIB`, or `target/release/libzonal.so` of this workspace.
//!
//! `ZONAL_LIB=none` runs the same tests on the C library's own allocator. That shows that a test asks
//! for what programs may rely on; what only zonal promises is left out then, with a line that says so.

mod compile;
mod group;
mod install;
mod jail;
mod outcome;
mod program;

pub use compile::{compile, compile_shared, compile_with, source};
pub use group::Group;
pub use install::{install, install_script};
pub use jail::Jail;
pub use outcome::Outcome;
pub use program::Program;

use std::path::{Path, PathBuf};

/// The library under test, or none for the C library's own allocator.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/libzonal.so");
    let path = match std::env::var_os("ZONAL_LIB") {
        Some(name) if name == "none" => return None,
        Some(name) => PathBuf::from(name),
        None => built(),
    };
    match path.canonicalize() {
        Ok(path) => Some(path),
        Err(e) => panic!("no library to test at {}: {e}; run `make build`", path.display()),
    }
}

/// Whether what only zonal promises can be tested; prints why not.
#[must_use]
pub fn is_zonal() -> bool {
    let zonal = library().is_some_and(|path| path.to_string_lossy().contains("zonal"));
    if !zonal {
        skipped("the library under test is not zonal");
    }
    zonal
}

/// Says on the terminal that a test, or a part of it, did not run, and why.
///
/// The test runner hides what a passing test prints; this line goes around it.
pub fn skipped(why: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("test"));
    let mut stderr = std::io::stderr();
    stderr.write_all(line.as_bytes()).unwrap_or_default();
}

/// Whether `name` can be run; prints the Debian package that holds it if not.
#[must_use]
pub fn have(name: &str, package: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    if !found {
        skipped(&format!("{name} is not installed (package {package})"));
    }
    found
}
