//! NUMA on a multi-node kernel: where pages really are, in a machine made by QEMU (`tests/vm`).
//!
//! One test for each layout. The guest checks and prints a line for each step; a run that fails shows
//! all of it. Where the laboratory cannot be had, a line says why.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use zonal_tests::{Program, is_zonal, library, skipped};

/// A guest has more processors than most hosts: two at a time would only make both time out.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn lab() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vm"))
}

/// Compiles the programs of `tests/vm/c`, and those from elsewhere, and returns their directory.
fn programs() -> PathBuf {
    let binary = std::env::current_exe().unwrap_or_else(|e| panic!("current_exe: {e}"));
    let dir = binary.parent().unwrap_or(Path::new(".")).join("zonal-tests-vm");
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let repository = lab().join("../..");
    let own = ["local", "moved", "handoff", "policy", "own", "maps"];
    let own = own.map(|name| lab().join("c").join(name));
    let others = ["tests/c/pressure", "benches/returned"].map(|path| repository.join(path));
    for path in own.into_iter().chain(others) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = Command::new("cc")
            .args(["-O1", "-g", "-Wall", "-Werror", "-fno-builtin", "-pthread", "-std=gnu11"])
            .arg(path.with_extension("c"))
            .arg("-o")
            .arg(dir.join(&name))
            .env_remove("LD_PRELOAD")
            .output()
            .unwrap_or_else(|e| panic!("cc: {e}"));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    dir
}

/// Runs the guest's script in the layout; these steps must have passed, and none failed.
fn boot(layout: &str, steps: &[&str]) {
    if !is_zonal() {
        return;
    }
    let Some(library) = library() else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = Program::plain(lab().join("run"))
        .arg(layout)
        .arg(lab().join("guest"))
        .arg(layout)
        .arg(library)
        .arg(programs())
        .env("ZONAL_VM_TIMEOUT", "300")
        .timeout(330)
        .run();
    // Nothing was started: the last line says what is missing.
    let last = outcome.stderr.lines().last().unwrap_or_default();
    if outcome.stdout.is_empty() && last.starts_with("tests/vm/run: ") {
        skipped(last);
        return;
    }
    let passed: Vec<&str> =
        outcome.stdout.lines().filter_map(|line| line.trim_end().strip_prefix("ok ")).collect();
    for step in steps {
        if !passed.contains(step) {
            outcome.fail(&format!("step {step} did not pass"));
        }
    }
    let _outcome = outcome.success();
}

#[test]
fn four_nodes() {
    let steps = [
        "local",
        "moved",
        "moved-back",
        "handoff",
        "mappings",
        "interleave",
        "interleave-huge",
        "weighted",
        "weighted-huge",
        "own",
        "local-set",
        "unknown-node",
        "bind",
        "bind-huge",
        "bind-full",
        "preferred-full",
        "membind",
        "set_mempolicy",
        "cpuset",
        "cpuset-bind",
        "cpuset-shrunk",
        "python",
        "python-figures",
        "redis-figures",
    ];
    boot("4node", &steps);
}

#[test]
fn memory_without_processors() {
    let steps = [
        "local",
        "moved",
        "handoff",
        "bind-cxl",
        "spill",
        "group-memory.max",
        "group-memory.high",
        "returned-thp",
        "python",
        "python-figures",
    ];
    boot("cxl", &steps);
}

#[test]
fn a_processor_without_memory() {
    boot("memless", &["local", "moved", "handoff", "interleave", "python", "python-figures"]);
}
