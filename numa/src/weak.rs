//! Symbols that the C library may not have: stable Rust can name them in assembly only.

/// The address of a symbol, in whatever pointer type the place asks for; null if no library that
/// was loaded with the program has it.
///
/// ```
/// let it: *const u8 = zonal_numa::weak_symbol!("__libc_single_threaded");
/// ```
#[macro_export]
macro_rules! weak_symbol {
    ($name:literal) => {{
        let address;
        // SAFETY: loads an address from the GOT: 0 if no library has the symbol.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            ::core::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            ::core::arch::asm!(
                concat!(".weak ", $name),
                concat!("adrp {0}, :got:", $name),
                concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            address = ::core::ptr::null();
        }
        address
    }};
}
