//! The Rust loads on rpmalloc.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

fn main() -> ExitCode {
    rust_loads::main()
}
