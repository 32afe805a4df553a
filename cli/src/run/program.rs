//! Which file a program name means, and why it could not be started.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::exec;

/// Why the program did not start, with the exit status that env(1) and shells give for it.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// There is no such file.
    NotFound { name: String },
    /// The file is there but cannot be executed.
    CannotRun { name: String, why: String },
}

impl NotStarted {
    /// 127 if the program was not found, 126 if it cannot be executed.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::CannotRun { .. } => 126,
        }
    }

    pub(crate) fn from_exec(name: &OsStr, error: &io::Error) -> Self {
        let name = name.display().to_string();
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound { name },
            _ => Self::CannotRun { name, why: error.to_string() },
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name } => write!(f, "{name}: program not found"),
            Self::CannotRun { name, why } => write!(f, "{name}: {why}"),
        }
    }
}

impl std::error::Error for NotStarted {}

/// The file that `name` means: itself if it has a slash, else looked up in `PATH` as execvp(3) does.
pub(crate) fn find(name: &OsStr) -> Result<PathBuf, NotStarted> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut refused = false;
    for folder in std::env::split_paths(&path) {
        // An empty entry means the current folder.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let file = folder.join(name);
        if file.is_file() {
            if exec::is_executable(&file) {
                return Ok(file);
            }
            refused = true;
        }
    }
    let name = name.display().to_string();
    Err(if refused {
        NotStarted::CannotRun { name, why: "found, but not executable".into() }
    } else {
        NotStarted::NotFound { name }
    })
}
