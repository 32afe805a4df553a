//! Link arguments of the shared object.

include!("src/replaceable.rs");

macro_rules! names {
    ($([$($name:ident)*])*) => {
        [$($(stringify!($name)),*),*]
    };
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/replaceable.rs");
    // Exit hooks of threads, fork handlers and memory of ours outlive any dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // So that a program linked against it finds it under this name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzonal.so");
    // What the loader relocates starts on a page of its own and takes that one: a page less to copy
    // in every process.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,separate-loadable-segments");
    // Names of our own for what the program may replace: src/front.rs.
    for name in replaceable!(names) {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--defsym=zonal_own_{name}={name}");
    }
}
