//! `ZONAL_CONF=key:value,key:value`: the only configuration that comes from outside.
//!
//! Read once, at the first call of the process, straight from the environment block: no heap, no
//! copy. A process that runs with more rights than its caller (AT_SECURE, as `secure_getenv` has
//! it) reads nothing. An unknown key or a bad value is one line on stderr, and then ignored.
//!
//! What may stand there: [`zonal_settings`].

use core::ffi::{CStr, c_char};

use zonal_numa::weak_symbol;
use zonal_settings::parse;

use crate::fd::Line;

/// What the user asked for. Paths lie in the environment block: to be used at once, the program may
/// overwrite it.
pub(crate) type Settings = zonal_settings::Settings<'static>;

/// Reads the configuration of this process.
pub(crate) fn read() -> Settings {
    let mut settings = Settings::DEFAULT;
    // SAFETY: getauxval reads a table that the kernel made.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0
        && let Some(text) = variable(b"ZONAL_CONF=")
    {
        follow(text, &mut settings);
    }
    settings
}

#[cold]
#[inline(never)]
fn follow(text: &'static [u8], settings: &mut Settings) {
    parse(text, settings, |wrong| Line::stderr(format_args!("ZONAL_CONF: {wrong}")));
}

/// The value of the variable `name`, which ends in `=`.
fn variable(name: &[u8]) -> Option<&'static [u8]> {
    let mut entry = environment()?;
    loop {
        // SAFETY: the block is an array that ends in null.
        let text = unsafe { *entry };
        if text.is_null() {
            return None;
        }
        // SAFETY: every entry before the null is a string.
        let text = unsafe { CStr::from_ptr(text) };
        if let Some(value) = text.to_bytes().strip_prefix(name) {
            return Some(value);
        }
        // SAFETY: the null is not reached yet.
        entry = unsafe { entry.add(1) };
    }
}

/// The environment block. Calls from `.preinit_array` come before the C library knows it; then it
/// is where the kernel put it: on the stack, behind the arguments.
fn environment() -> Option<*const *const c_char> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: a word of the C library.
    let known = unsafe { environ };
    if !known.is_null() {
        return Some(known);
    }
    let stack_end: *const *const usize = weak_symbol!("__libc_stack_end");
    // SAFETY: null, or the dynamic linker's word with the address where the process started.
    let start = unsafe { stack_end.as_ref() }?;
    // SAFETY: the kernel put there the number of arguments, their addresses, a null, and the
    // environment.
    unsafe {
        let arguments = start.add(1).cast::<*const c_char>();
        let end = arguments.add(start.read());
        (*end).is_null().then(|| end.add(1))
    }
}
