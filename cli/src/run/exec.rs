//! The system calls of `zonal run`.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use anyhow::{Context as _, Result};

/// The real user and group, which a setuid or setgid file would leave behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

pub(super) fn identity() -> Identity {
    // SAFETY: takes nothing and cannot fail.
    let uid = unsafe { libc::getuid() };
    // SAFETY: as above.
    let gid = unsafe { libc::getgid() };
    Identity { uid, gid }
}

/// Whether this process may execute the file.
pub(super) fn is_executable(path: &Path) -> bool {
    let Ok(path) = c_string(path.as_os_str()) else { return false };
    // SAFETY: `path` is a C string that lives through the call.
    let answer =
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    answer == 0
}

/// Whether the file grants capabilities to whoever runs it.
pub(super) fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = c_string(path.as_os_str()) else { return false };
    let name = c"security.capability";
    // SAFETY: both are C strings; a null buffer of length 0 asks for the size only.
    let size = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), ptr::null_mut(), 0) };
    size > 0
}

/// Becomes the program at `path`; returns the reason if the kernel refuses.
///
/// `execvpe` rather than [`std::os::unix::process::CommandExt::exec`], which would set SIGPIPE to
/// its default: the program gets all signal dispositions as they were. A path with a slash is not
/// searched; a script without `#!` runs in the shell, as with env(1).
pub(super) fn replace(
    path: &Path,
    arguments: &[OsString],
    variables: Vec<(OsString, OsString)>,
) -> Result<io::Error> {
    let path = c_string(path.as_os_str())?;
    let arguments =
        arguments.iter().map(|argument| c_string(argument)).collect::<Result<Vec<_>>>()?;
    let variables = variables
        .into_iter()
        .map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            c_string(&variable)
        })
        .collect::<Result<Vec<_>>>()?;
    let argv = null_ended(&arguments);
    let envp = null_ended(&variables);
    // SAFETY: `path` is a C string, and both lists hold C strings and end with null.
    unsafe { libc::execvpe(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Ok(io::Error::last_os_error())
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).with_context(|| format!("{text:?} holds a null byte"))
}

fn null_ended(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| CStr::as_ptr(text)).chain([ptr::null()]).collect()
}
