//! Programs and libraries made of the files in `tests/c`, kept between runs.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of a file in `tests/c`.
#[must_use]
pub fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("c").join(file)
}

/// The program of a C or C++ file in `tests/c`.
#[must_use]
pub fn compile(file: &str) -> PathBuf {
    build(file, &[])
}

/// A shared library of a C file in `tests/c`.
#[must_use]
pub fn compile_shared(file: &str) -> PathBuf {
    build(file, &["-shared", "-fPIC"])
}

/// The program or library of a file, made with further options of the compiler.
#[must_use]
pub fn compile_with(file: &str, options: &[&str]) -> PathBuf {
    build(file, options)
}

/// Compiles unless a program of the same sources and options is there. Tests run side by side, so the
/// result is moved into place whole.
fn build(file: &str, options: &[&str]) -> PathBuf {
    let cxx = file.ends_with(".cpp");
    let compiler = if cxx { "c++" } else { "cc" };
    // The compiler knows malloc and would remove or fold calls of it.
    let mut arguments = vec!["-O1", "-g", "-w", "-fno-builtin", "-pthread"];
    arguments.push(if cxx { "-std=c++17" } else { "-std=gnu11" });
    arguments.extend_from_slice(options);

    let mut hash = DefaultHasher::new();
    arguments.hash(&mut hash);
    for name in [file, "t.h", "filter.h"] {
        let text = fs::read(source(name)).unwrap_or_else(|e| panic!("tests/c/{name}: {e}"));
        text.hash(&mut hash);
    }
    let stem = file.split('.').next().unwrap_or(file);
    let dir = cache_dir();
    let made = dir.join(format!("{stem}-{:016x}", hash.finish()));
    if made.exists() {
        return made;
    }
    let partial =
        dir.join(format!("{stem}-{}-{:?}", std::process::id(), std::thread::current().id()));
    let output = Command::new(compiler)
        .args(&arguments)
        .arg(source(file))
        .arg("-o")
        .arg(&partial)
        .arg("-ldl")
        .env_remove("LD_PRELOAD")
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(
        output.status.success(),
        "{compiler} {file}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&partial, &made).unwrap_or_else(|e| panic!("{}: {e}", made.display()));
    made
}

/// A directory beside the test binaries, inside the target directory.
fn cache_dir() -> PathBuf {
    let binary = std::env::current_exe().unwrap_or_else(|e| panic!("current_exe: {e}"));
    let dir = binary.parent().unwrap_or(Path::new(".")).join("zonal-tests-c");
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    dir
}
