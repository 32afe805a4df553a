//! Other allocators: in another library, or in the program itself.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use object::{Object as _, ObjectSymbol as _, ReadCache};

use super::finding::Finding;
use crate::system::System;

const CHECK: &str = "allocator";

/// Libraries that define `malloc`.
const LIBRARIES: [&str; 10] = [
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "libsnmallocshim",
    "librpmalloc",
    // The other library of that name serves only those who call it.
    "libtbbmalloc_proxy",
    "libhoard",
    "libasan",
    "libmemkind",
    "vgpreload",
];

/// What else serves a running process.
pub(super) fn of_process(system: &System, files: &[String]) -> Vec<Finding> {
    let mut findings = own(&system.executable());
    findings.extend(libraries(system, files));
    let has = |name: &str| files.iter().any(|file| file_name(file).starts_with(name));
    if has("libjvm.so") {
        findings.push(
            Finding::note(CHECK, "a Java virtual machine")
                .means("the Java heap is the JVM's own; its native parts use malloc"),
        );
    }
    let is_python = system.name().starts_with("python") || has("libpython");
    findings.extend(python(is_python, system.variable("PYTHONMALLOC").as_deref()));
    findings
}

/// What else would serve a program.
pub(super) fn of_program(path: &Path) -> Vec<Finding> {
    let mut findings = own(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_python = name.is_some_and(|name| name.starts_with("python"));
    findings.extend(python(is_python, std::env::var_os("PYTHONMALLOC").as_deref()));
    findings
}

/// Whether the ELF file defines a symbol of which `is_wanted` holds.
pub(super) fn defines(path: &Path, is_wanted: impl Fn(&str) -> bool) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let cache = ReadCache::new(file);
    let Ok(elf) = object::File::parse(&cache) else { return false };
    let mut symbols = elf.dynamic_symbols().chain(elf.symbols());
    symbols.any(|symbol| symbol.is_definition() && symbol.name().is_ok_and(&is_wanted))
}

/// The program's own allocator.
fn own(path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if defines(path, |name| name == "malloc") {
        findings.push(
            Finding::problem(CHECK, "the program defines malloc itself")
                .means("its own comes before any preload: zonal serves little or nothing of it")
                .change("build the program without its allocator"),
        );
    } else if defines(path, |name| {
        matches!(name, "_rjem_malloc" | "je_malloc" | "mi_malloc" | "tc_malloc")
    }) {
        findings.push(
            Finding::warning(CHECK, "another allocator is linked into the program")
                .means("what it serves does not come from zonal"),
        );
    }
    if is_go(path) {
        findings.push(
            Finding::problem(CHECK, "a Go program")
                .means("Go's runtime has its own heap; only cgo parts use malloc"),
        );
    }
    findings
}

fn is_go(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let cache = ReadCache::new(file);
    object::File::parse(&cache).is_ok_and(|elf| elf.section_by_name(".go.buildinfo").is_some())
}

/// Another library with `malloc`: the first in `LD_PRELOAD` wins, linked ones come last.
fn libraries(system: &System, files: &[String]) -> Vec<Finding> {
    let preload = system.variable("LD_PRELOAD").unwrap_or_default();
    let preload = preload.to_string_lossy();
    let place = |name: &str| preload.find(name).unwrap_or(usize::MAX);
    let zonal = place("libzonal");
    let other = |name: &&&str| files.iter().any(|file| file_name(file).starts_with(**name));
    let verdict = |name: &&str| {
        if place(name) < zonal {
            Finding::problem(CHECK, format!("{name} is preloaded before zonal"))
                .means("the first library that defines malloc serves the program")
                .change(format!("put libzonal.so first in LD_PRELOAD, or leave {name} out"))
        } else {
            Finding::note(CHECK, format!("{name} is loaded as well"))
                .means("zonal comes first; only calls by the library's own names go to it")
        }
    };
    LIBRARIES.iter().filter(other).map(verdict).collect()
}

fn python(is_python: bool, pool: Option<&OsStr>) -> Option<Finding> {
    if !is_python || pool.is_some_and(|value| value == "malloc") {
        return None;
    }
    let finding = Finding::note(CHECK, "Python with its own pool for objects up to 512 bytes");
    Some(
        finding
            .means("zonal sees the pool's arenas, not the objects")
            .change("PYTHONMALLOC=malloc in the environment"),
    )
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
