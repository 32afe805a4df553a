//! Link arguments of the shared object.

const REPLACEABLE: [&str; 11] = [
    "malloc",
    "free",
    "aligned_alloc",
    "_Znwm",
    "_Znam",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Exit hooks of threads, fork handlers and memory of ours outlive any dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // So that a program linked against it finds it under this name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzonal.so");
    // What the loader relocates starts on a page of its own and takes that one: a page less to copy
    // in every process.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,separate-loadable-segments");
    // Names of our own for what the program may replace: src/front.rs.
    for name in REPLACEABLE {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--defsym=zonal_own_{name}={name}");
    }
}
