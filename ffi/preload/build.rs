//! Link arguments of the shared object.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Exit hooks of threads, fork handlers and memory of ours outlive any dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // So that a program linked against it finds it under this name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzonal.so");
}
