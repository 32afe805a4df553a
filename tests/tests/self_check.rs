//! The tests must be able to fail: each check is run on an allocator with a known fault.

use std::path::PathBuf;
use zonal_tests::{Program, compile, compile_shared};

/// Runs a test program on glibc's allocator with this fault put in front; it has to notice.
fn notices(fault: &str, file: &str, arguments: &[&str]) {
    let preload: PathBuf = compile_shared("fault.c");
    let outcome = Program::plain(compile(file))
        .env("LD_PRELOAD", preload)
        .env("FAULT", fault)
        .args(arguments)
        .run();
    if outcome.is_success() || outcome.timed_out() {
        outcome.fail(&format!("{file} did not notice the fault '{fault}'"));
    }
}

#[test]
fn a_block_handed_out_twice() {
    notices("twice", "handoff.c", &[]);
    notices("twice", "short_threads.c", &["count=400"]);
    notices("twice", "fork.c", &["count=20"]);
    notices("twice", "workload.c", &["threads=0"]);
}

#[test]
fn a_block_too_short() {
    notices("short", "realloc.c", &[]);
    notices("short", "size.c", &[]);
}

#[test]
fn memory_that_is_not_freed() {
    notices("leak", "short_threads.c", &["count=4000"]);
}

#[test]
fn errno_changed() {
    notices("errno", "size.c", &[]);
    notices("errno-free", "size.c", &[]);
}

#[test]
fn overflow_not_seen() {
    notices("overflow", "size.c", &[]);
}

#[test]
fn dirty_calloc() {
    notices("dirty", "realloc.c", &[]);
}

#[test]
fn contents_lost_by_realloc() {
    notices("realloc", "realloc.c", &[]);
}

#[test]
fn wrong_alignment() {
    notices("align", "align.c", &[]);
}
