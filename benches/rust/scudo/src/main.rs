//! The Rust loads on Scudo.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: scudo::GlobalScudoAllocator = scudo::GlobalScudoAllocator;

fn main() -> ExitCode {
    rust_loads::main()
}
