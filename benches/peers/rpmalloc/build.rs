//! rpmalloc starts and ends its thread heaps from a `pthread_create` of its own. A cdylib exports Rust
//! symbols only, so that one is added to the linker's list.

use std::{env, fs, path::Path};

fn main() -> std::io::Result<()> {
    let out = env::var("OUT_DIR").map_err(std::io::Error::other)?;
    let list = Path::new(&out).join("exports.map");
    fs::write(&list, "{ global: pthread_create; };\n")?;
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={}", list.display());
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
