//! Threads and signals: short-lived threads, their ends, blocks freed elsewhere, handlers that allocate.

use zonal_tests::{Program, compile, is_zonal, library};

#[test]
fn short_threads_leave_nothing() {
    Program::c("short_threads.c").arg("count=100000").run().success().quiet();
}

/// In two of three runs it is the library's own thread that starts the background thread.
#[test]
fn timers_that_run_functions_in_threads() {
    for _ in 0..10 {
        Program::c("timers.c").run().success().quiet();
    }
}

#[test]
fn the_background_thread_is_none_of_the_special_ones() {
    if is_zonal() {
        Program::c("plain_thread.c").run().success().quiet();
    }
}

#[test]
fn a_cancelled_thread_ends_in_no_call() {
    if is_zonal() {
        let outcome = Program::c("cancel.c").run().success();
        assert!(outcome.stderr.contains("of 100 bytes"), "{outcome:?}");
    }
}

#[test]
fn exit_handlers_after_the_main_thread() {
    for conf in ["", "kswapd:off"] {
        let program = Program::c("last_thread.c").env("ZONAL_CONF", conf);
        program.run().success().stdout_is("done\n");
    }
}

/// Where nothing calls it away the background thread stays for two seconds: then no pause is shorter.
#[test]
fn a_process_that_its_main_thread_left_waits_for_nobody() {
    let pause_ms = || {
        let run = Program::c("last_thread.c").arg("pause=1").run().success();
        run.stdout.trim().parse::<u64>().unwrap_or(u64::MAX)
    };
    assert!(!is_zonal() || (0..20).any(|_| pause_ms() < 1500));
}

/// A library that is opened by some program may lose all its threads: then memory goes back all the same.
#[test]
fn what_the_last_thread_with_a_heap_left_goes_back() {
    if is_zonal() {
        let library = library().unwrap_or_default();
        Program::plain(compile("deserted.c")).arg(library).run().success().quiet();
    }
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

/// Without rounds, which would look for the sleeping owner.
#[test]
fn blocks_of_a_sleeping_thread_serve_again() {
    let outcome = Program::c("reuse.c").env("ZONAL_CONF", "purge:off").run().success();
    if is_zonal() {
        outcome.stdout_is("again\n");
    }
}

#[test]
fn calls_that_run_on_every_thread() {
    Program::c("setid.c").run().success().quiet();
}

/// malloc is not async-signal-safe by the standard, and glibc's is not: this is zonal's own promise.
#[test]
fn handlers_that_allocate() {
    if is_zonal() {
        Program::c("storm.c").args(["seconds=4", "jump=0"]).run().success().quiet();
    }
}

#[test]
fn handlers_that_jump_out_of_malloc() {
    if is_zonal() {
        Program::c("storm.c").args(["seconds=4", "jump=1"]).run().success().quiet();
    }
}

/// Jumps wait for the end of the slow path that they would leave. Only on x86-64.
#[test]
fn handlers_that_only_jump() {
    if is_zonal() && cfg!(target_arch = "x86_64") {
        for how in ["", "plain=1", "stack=1", "nested=1", "stack=1 plain=1", "stack=1 nested=1"] {
            Program::c("jumps.c")
                .args(how.split_whitespace())
                .arg("count=2500")
                .run()
                .success()
                .quiet();
        }
    }
}

/// Signals and forks come at any time meanwhile.
#[test]
fn bins_are_emptied_in_pauses() {
    let is_emptied = i32::from(is_zonal() && cfg!(target_arch = "x86_64"));
    Program::c("asleep.c").arg(format!("emptied={is_emptied}")).run().success().quiet();
}

/// As by `pthread_join`, with a lock of its own held.
#[test]
fn no_thread_is_started_in_a_free_of_the_c_library() {
    if is_zonal() {
        Program::c("libc_frees.c").run().success().quiet();
    }
}

/// Rounds of reclaim in the program's calls, after a background thread did them for a while.
#[test]
fn calls_that_take_the_rounds_over_find_nothing_cold() {
    if is_zonal() {
        Program::c("duty.c").run().success().quiet();
    }
}
