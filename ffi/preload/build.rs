//! Link arguments of the shared object.

mod layout;

use std::error::Error;
use std::{env, fs};

include!("src/replaceable.rs");

macro_rules! names {
    ($([$($name:ident)*])*) => {
        [$($(stringify!($name)),*),*]
    };
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/replaceable.rs");
    // Exit hooks of threads, fork handlers and memory of ours outlive any dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=layout.rs");
    println!("cargo::rerun-if-changed=layout.txt");
    // These linkers take no script that only adds to their own: there functions lie as they come.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !["mold", "gold"].iter().any(|linker| flags.contains(linker)) {
        let script = format!("{}/layout.ld", env::var("OUT_DIR")?);
        fs::write(&script, layout::script(include_str!("layout.txt")))?;
        println!("cargo::rustc-cdylib-link-arg=-Wl,-T,{script}");
    }
    // So that a program linked against it finds it under this name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzonal.so");
    // What the loader relocates starts on a page of its own and takes that one: a page less to copy
    // in every process.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,separate-loadable-segments");
    // Names of our own for what the program may replace: src/front.rs.
    for name in replaceable!(names) {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--defsym=zonal_own_{name}={name}");
    }
    Ok(())
}
