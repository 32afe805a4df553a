//! Who takes part: zonal, the peers built from crates, those of the distribution, and glibc.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Bench;
use crate::{Options, home};

/// One allocator: a library to preload, or none.
#[derive(Debug, Clone)]
pub struct Allocator {
    /// Name in tables.
    pub name: String,
    /// The library; none means what the C library gives.
    pub library: Option<PathBuf>,
    /// The major version that its library has to say it is.
    pub major: Option<&'static str>,
    /// There is no library of it: it takes part in the Rust rows only.
    pub rust_only: bool,
    /// Environment that goes with it.
    pub settings: Vec<(String, OsString)>,
}

/// Packages `peer-*` of this workspace. A package a build: Cargo would unite the features of v2 and v3.
/// The flag says whether it takes part unasked; what does not takes minutes to build. Last the version that it has to
/// say it is.
const CRATES: [(&str, bool, Option<&str>); 6] = [
    ("mimalloc3", true, Some("3")),
    ("mimalloc2", true, Some("2")),
    ("snmalloc", true, None),
    ("jemalloc", true, None),
    ("rpmalloc", true, None),
    ("tcmalloc-google", false, None),
];

/// Packages `rust-*`: the Rust loads on that allocator.
const RUST: [&str; 8] =
    ["zonal", "mimalloc3", "mimalloc2", "snmalloc", "jemalloc", "rpmalloc", "smmalloc", "scudo"];

/// Crates without a C interface, and whether they take part unasked.
const RUST_ONLY: [(&str, bool); 2] = [("smmalloc", true), ("scudo", false)];

/// Name, file, Debian package; the flag says whether the quick run has it.
const SYSTEM: [(&str, &str, &str, bool); 4] = [
    ("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4", true),
    ("jemalloc-deb", "libjemalloc.so.2", "libjemalloc2", false),
    ("mimalloc-deb", "libmimalloc.so.2", "libmimalloc2.0", false),
    ("tbbmalloc", "libtbbmalloc_proxy.so.2", "libtbbmalloc2", false),
];

const FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
];

/// Finds, builds and checks those asked for; says what is left out and why.
pub fn select(options: &Options, bench: &Bench) -> io::Result<Vec<Allocator>> {
    let wanted = |name: &str, by_default: bool| match options.allocators.as_slice() {
        [] => by_default,
        names => names.iter().any(|n| n == name),
    };
    let mut found = Vec::new();
    if wanted("zonal", true) {
        found.push(plain("zonal", zonal(options)));
    }
    for also in &options.also {
        found.push(parse_also(also)?);
    }
    for (name, _, major) in CRATES.into_iter().filter(|&(name, by, _)| wanted(name, by)) {
        if !options.no_build && !options.list {
            build(&format!("peer-{name}"));
        }
        let file = format!("libpeer_{}.so", name.replace('-', "_"));
        found.push(Allocator { major, ..plain(name, bench.folder.join(file)) });
    }
    for (name, file, package, quick) in SYSTEM {
        if wanted(name, quick || !options.quick) {
            match FOLDERS
                .iter()
                .map(|folder| Path::new(folder).join(file))
                .find(|path| path.exists())
            {
                Some(path) => found.push(plain(name, path)),
                None => {
                    eprintln!("without {name}: {file} is not installed (Debian package {package})");
                }
            }
        }
    }
    if wanted("glibc", true) {
        found.push(Allocator { library: None, ..plain("glibc", PathBuf::new()) });
    }
    for (name, _) in RUST_ONLY.into_iter().filter(|&(name, unasked)| wanted(name, unasked)) {
        let plain = plain(name, PathBuf::new());
        found.push(Allocator { library: None, rust_only: true, ..plain });
    }
    if !options.no_build && !options.list {
        let own = found.iter().map(|allocator| allocator.name.as_str());
        RUST.into_iter().filter(|name| own.clone().any(|own| own == *name)).for_each(build_rust);
        build_rust("system");
    }
    if options.list {
        return Ok(found);
    }
    let mut serving = Vec::new();
    for allocator in found {
        match bench.serves(&allocator) {
            Ok(()) => serving.push(allocator),
            // What was asked for by name, and what all ratios refer to, is not left out in silence.
            Err(error) if options.needs(&allocator.name) => {
                return Err(io::Error::other(format!("{}: {error}", allocator.name)));
            }
            Err(error) => eprintln!("without {}: {error}", allocator.name),
        }
    }
    Ok(serving)
}

/// Where an allocator stands in tables; behind zonal what was added to the run.
pub fn place(name: &str) -> usize {
    let known = CRATES.map(|(name, ..)| name).into_iter();
    let known = known.chain(SYSTEM.map(|(name, ..)| name)).chain(["glibc"]);
    let mut known = known.chain(RUST_ONLY.map(|(name, _)| name));
    match name {
        "zonal" => 0,
        _ => known.position(|other| other == name).map_or(1, |place| place + 2),
    }
}

fn plain(name: &str, library: PathBuf) -> Allocator {
    Allocator {
        name: name.into(),
        library: Some(library),
        major: None,
        rust_only: false,
        settings: Vec::new(),
    }
}

fn zonal(options: &Options) -> PathBuf {
    if let Some(path) = &options.zonal {
        return path.clone();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let given =
        target.map(|target| target.join("release/libzonal.so")).filter(|path| path.exists());
    given.unwrap_or_else(|| home().join("../target/release/libzonal.so"))
}

fn parse_also(text: &str) -> io::Result<Allocator> {
    let wrong =
        || io::Error::other(format!("--also {text}: expected NAME=FILE[,VARIABLE=VALUE]..."));
    let mut parts = text.split(',');
    let (name, file) = parts.next().and_then(|part| part.split_once('=')).ok_or_else(wrong)?;
    let mut allocator = plain(name, file.into());
    for part in parts {
        let (variable, value) = part.split_once('=').ok_or_else(wrong)?;
        allocator.settings.push((variable.into(), value.into()));
    }
    Ok(allocator)
}

fn build_rust(name: &str) {
    build(&format!("rust-{name}"));
}

fn build(name: &str) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", name])
        .current_dir(home())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("{name} did not build ({status})"),
        Err(error) => eprintln!("{name} did not build: {error}"),
    }
}
