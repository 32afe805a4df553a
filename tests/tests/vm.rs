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
    let own = ["local", "moved", "handoff", "policy", "own", "maps", "gone"];
    let own = own.map(|name| lab().join("c").join(name));
    let others = ["tests/c/pressure", "tests/c/workload", "benches/returned"]
        .map(|path| repository.join(path));
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

/// The command zonal, if it was built to compare its topology with hwloc's, as `make test` does.
fn with_hwloc() -> Option<PathBuf> {
    let binary = std::env::current_exe().ok()?;
    let command = binary.ancestors().nth(2)?.join("zonal");
    let output = Command::new(&command).arg("topology").output().ok()?;
    let agrees = String::from_utf8_lossy(&output.stdout).lines().last() == Some("hwloc agrees");
    if !agrees {
        skipped("zonal is not built with hwloc");
    }
    agrees.then_some(command)
}

/// Runs the guest's script in the layout; these steps must have passed, and none failed.
fn boot(layout: &str, steps: &[&str]) {
    if !is_zonal() {
        return;
    }
    let Some(library) = library() else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let command = with_hwloc();
    let mut program = Program::plain(lab().join("run"))
        .arg(layout)
        .arg(lab().join("guest"))
        .arg(layout)
        .arg(library)
        .arg(programs());
    if let Some(command) = &command {
        program = program.arg(command);
    }
    let outcome = program.env("ZONAL_VM_TIMEOUT", "1200").timeout(1230).run();
    // Nothing was started: the last line says what is missing.
    let last = outcome.stderr.lines().last().unwrap_or_default();
    if outcome.stdout.is_empty() && last.starts_with("tests/vm/run: ") {
        skipped(last);
        return;
    }
    let of_line = |line| str::strip_prefix(line, "ok ").and_then(|rest| rest.split(' ').next());
    let passed: Vec<&str> = outcome.stdout.lines().filter_map(of_line).collect();
    let by_command: &[&str] = match (&command, steps.contains(&"python")) {
        (None, _) => &[],
        (Some(_), true) => &["hwloc", "python-outside"],
        (Some(_), false) => &["hwloc"],
    };
    for step in steps.iter().chain(by_command) {
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
        "handoff-purged",
        "mappings",
        "interleave",
        "interleave-huge",
        "weighted",
        "weighted-huge",
        "own",
        "off",
        "off-mappings",
        "preferred-many",
        "bind-strict",
        "local-set",
        "unknown-node",
        "bind",
        "bind-huge",
        "bind-full",
        "bind-crowded",
        "membind-crowded",
        "bind-strict-killed",
        "preferred-full",
        "node-reclaim-off",
        "node-reclaim",
        "membind",
        "no-overcommit",
        "no-overcommit-fork",
        "numactl-interleave",
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
    let steps = [
        "local",
        "moved",
        "handoff",
        "interleave",
        "python",
        "python-figures",
        "local-arrived",
        "gone",
    ];
    boot("memless", &steps);
}
