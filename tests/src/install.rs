//! Files that are to be executed.

use std::fs;
use std::path::Path;

use crate::Program;

/// Copies a file, and makes the folder that it goes to.
///
/// Another process writes it. What this one writes, a child that another thread starts at that moment may
/// have open for writing still when it is to be executed: "text file busy".
///
/// # Panics
/// If it cannot be copied.
pub fn install(from: &Path, to: &Path) {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }
    let _ = Program::plain("cp").arg(from).arg(to).run().success();
}

/// Makes a script, in the same way.
///
/// # Panics
/// If it cannot be written.
pub fn install_script(text: &str, to: &Path) {
    let install = Program::plain("install").args(["-m", "755", "/dev/stdin"]).arg(to);
    let _ = install.input(text).run().success();
}
