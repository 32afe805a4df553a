//! The Rust loads on smmalloc.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: smmalloc::Smalloc = smmalloc::Smalloc::new();

fn main() -> ExitCode {
    rust_loads::main()
}
