//! Programs on which a preload has no effect. The loader says nothing about most of them, so this is
//! the place where the user learns of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::elf::{self, Head};
use super::exec;

/// The kernel follows this many interpreters of interpreters.
const MAX_SCRIPT_DEPTH: usize = 4;

/// What keeps zonal out of the program at `path`; nothing for a file that cannot be read, since the
/// attempt to run it will say more.
pub(crate) fn of(path: &Path, library: &Head) -> Vec<String> {
    let Some(binary) = binary_of(path) else { return Vec::new() };
    let mut warnings = Vec::new();
    if let Ok(Some(head)) = Head::read(&binary) {
        warnings.extend(loading(&head, library));
    }
    warnings.extend(privileges(&binary));
    if binary != path {
        for warning in &mut warnings {
            *warning = format!("its interpreter {} {warning}", binary.display());
        }
    }
    warnings
}

/// The file itself, or the binary that interprets it.
fn binary_of(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_SCRIPT_DEPTH {
        match elf::script_interpreter(&path).ok()? {
            Some(interpreter) => path = interpreter.into(),
            None => return Some(path),
        }
    }
    None
}

fn loading(head: &Head, library: &Head) -> Option<String> {
    if head.target != library.target {
        return Some("is built for another kind of machine code than libzonal.so".into());
    }
    match &head.interpreter {
        None => Some("is statically linked: a preload has no effect".into()),
        Some(loader) if loader.contains("musl") => {
            Some(format!("is loaded by {loader}: libzonal.so needs glibc"))
        }
        Some(_) => None,
    }
}

/// The loader ignores a preload by path in a program that gains rights as it starts.
fn privileges(path: &Path) -> Option<String> {
    const SETUID: u32 = 0o4000;
    const SETGID: u32 = 0o2000;
    let meta = fs::metadata(path).ok()?;
    let me = exec::identity();
    let gains = if meta.mode() & SETUID != 0 && meta.uid() != me.uid {
        "is setuid"
    } else if meta.mode() & SETGID != 0 && meta.gid() != me.gid {
        "is setgid"
    } else if me.uid != 0 && exec::has_capabilities(path) {
        "has file capabilities"
    } else {
        return None;
    };
    Some(format!("{gains}: the loader ignores the preload"))
}
