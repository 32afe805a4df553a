//! A directory that holds a program, the library under test and what both need, and nothing else: no
//! `/proc`, no `/sys`, no `/dev`, no configuration.

use crate::{install, library};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The root directory for such a program.
#[derive(Debug)]
pub struct Jail {
    root: TempDir,
    library: Option<PathBuf>,
}

impl Jail {
    /// Copies the program to `/program`, and all shared objects to their places.
    ///
    /// # Panics
    /// If a file cannot be copied.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        let root = TempDir::new().unwrap_or_else(|e| panic!("temporary directory: {e}"));
        let library = library().map(|path| {
            install(&path, &root.path().join("libzonal.so"));
            PathBuf::from("/libzonal.so")
        });
        install(program, &root.path().join("program"));
        for object in needed(program) {
            install(&object, &root.path().join(object.strip_prefix("/").unwrap_or(&object)));
        }
        Self { root, library }
    }

    /// The directory that becomes `/`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The preload, seen from inside; empty without one.
    #[must_use]
    pub fn preload(&self) -> &Path {
        self.library.as_deref().unwrap_or(Path::new(""))
    }
}

/// The shared objects that `ldd` lists, the loader included.
fn needed(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).env_remove("LD_PRELOAD").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
