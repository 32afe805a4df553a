//! More real programs on zonal: large, and not part of every test run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod languages;
mod servers;
mod tools;

use std::fs;

use tempfile::TempDir;
use zonal_tests::Program;

/// Runs without zonal and with it; both must succeed with the same output.
fn same(describe: impl Fn(Program) -> Program, program: &str) -> String {
    let expected = describe(Program::plain(program)).timeout(300).run().success().stdout;
    describe(Program::new(program)).timeout(400).run().success().stdout_is(&expected).stdout
}

fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Some servers drop their privileges and must still reach it.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

/// A text that compresses, some megabytes of it.
fn text(lines: usize) -> String {
    (0..lines)
        .map(|i| format!("line {i} of {} and {}\n", i * 7919 % 1000, i * i % 100_003))
        .collect()
}
