//! The Rust loads on zonal.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: zonal::Zonal = zonal::Zonal;

fn main() -> ExitCode {
    rust_loads::main()
}
