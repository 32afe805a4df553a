//! The Rust loads on mimalloc3.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rust_loads::main_of(ALLOCATOR.version())
}
