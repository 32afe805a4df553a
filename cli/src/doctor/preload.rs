//! Whether zonal serves the process, or could serve the program.

use std::path::Path;

use super::allocators;
use super::finding::Finding;
use crate::run::{elf, library, warnings};
use crate::system::{System, is_library};

const CHECK: &str = "preload";

/// Whether a running process is on zonal, and why not.
pub(super) fn of_process(system: &System) -> Vec<Finding> {
    let files = system.mapped_files();
    let mut findings = Vec::new();
    match files.iter().find(|file| is_library(file)) {
        Some(file) => findings.push(loaded(file)),
        None if is_built_in(system) => {
            findings.push(Finding::fine(CHECK, "zonal is built into the program"));
        }
        None => findings.push(missing(system)),
    }
    findings.extend(allocators::of_process(system, &files));
    findings
}

/// Whether a program can be served by a preload.
pub(super) fn of_program(path: &Path) -> Vec<Finding> {
    let found = library::find().and_then(|library| {
        let head = elf::Head::read(&library)?;
        Ok((library, head))
    });
    let mut findings = Vec::new();
    match found {
        Ok((library, Some(head))) => {
            let reasons = warnings::of(path, &head);
            if reasons.is_empty() {
                let text = format!("{} can be preloaded", library.display());
                findings.push(Finding::fine(CHECK, text));
            }
            findings.extend(reasons.into_iter().map(no_effect));
        }
        Ok((library, None)) => {
            let text = format!("{}: not an ELF file", library.display());
            findings.push(Finding::problem(CHECK, text));
        }
        Err(error) => {
            let finding = Finding::problem(CHECK, format!("{error:#}"));
            findings.push(finding.change("make install, or ZONAL_LIB=PATH of libzonal.so"));
        }
    }
    findings.extend(allocators::of_program(path));
    findings
}

fn no_effect(reason: String) -> Finding {
    Finding::problem(CHECK, format!("the program {reason}"))
        .means("it runs, but on the C library's allocator or its own")
}

fn loaded(file: &str) -> Finding {
    match file.strip_suffix(" (deleted)") {
        None => Finding::fine(CHECK, format!("{file} is loaded")),
        Some(path) => Finding::note(CHECK, format!("{path} is loaded, but was replaced since"))
            .means("the process runs on the version it was started with")
            .change("restart it to use the new one"),
    }
}

/// A Rust program with `zonal::Zonal` keeps the crate's names, unless it was stripped.
fn is_built_in(system: &System) -> bool {
    allocators::defines(&system.executable(), |name| name.contains("5zonal3hot"))
}

fn missing(system: &System) -> Finding {
    let finding = Finding::problem(CHECK, "libzonal.so is not loaded");
    let asked = system.variable("LD_PRELOAD");
    let asked = asked.is_some_and(|list| list.to_string_lossy().contains("libzonal.so"));
    if !asked {
        return finding
            .means("the process was started without it")
            .change("zonal run -- PROGRAM, or LD_PRELOAD in the service's environment");
    }
    let library = library::find().and_then(|path| elf::Head::read(&path)).ok().flatten();
    let reasons = library.map(|head| warnings::of(&system.executable(), &head));
    match reasons.and_then(|reasons| reasons.into_iter().next()) {
        Some(reason) => finding.means(format!("LD_PRELOAD asks for it, but the program {reason}")),
        None => finding
            .means("LD_PRELOAD asks for it, but the loader did not find it or could not read it")
            .change("a path that the user of the process can read, and of the same machine code"),
    }
}
