//! Threads and signals: short-lived threads, their ends, blocks freed elsewhere, handlers that allocate.

use zonal_tests::{Program, is_zonal};

#[test]
fn short_threads_leave_nothing() {
    Program::c("short_threads.c").arg("count=100000").run().success().quiet();
}

#[test]
fn destructors_cancellation_and_process_exit() {
    for _ in 0..5 {
        Program::c("thread_exit.c").run().success().quiet();
    }
}

#[test]
fn blocks_freed_by_another_thread() {
    Program::c("handoff.c").run().success().quiet();
}

#[test]
fn calls_that_run_on_every_thread() {
    Program::c("setid.c").run().success().quiet();
}

/// malloc is not async-signal-safe by the standard, and glibc's is not: this is zonal's own promise.
#[test]
fn handlers_that_allocate() {
    if is_zonal() {
        Program::c("storm.c").args(["seconds=4", "jump=0"]).timeout(30).run().success().quiet();
    }
}

#[test]
fn handlers_that_jump_out_of_malloc() {
    if is_zonal() {
        Program::c("storm.c").args(["seconds=4", "jump=1"]).timeout(30).run().success().quiet();
    }
}

/// Nothing tells zonal of such a handler, so a jump can leave one of its locks held: `make test` does
/// not run this, and it may time out.
#[test]
#[ignore = "a jump out of a locked section leaves the lock held: see Limits in LD_PRELOAD.md"]
fn handlers_that_only_jump() {
    if is_zonal() {
        for _ in 0..8 {
            Program::c("jumps.c").arg("count=3000").timeout(30).run().success().quiet();
        }
    }
}
