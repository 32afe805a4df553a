//! What host programs do with themselves: small stacks, full tables, copies of the process, tracers, many
//! threads. Each must work as it does without zonal.

use zonal_tests::{Outcome, Program, compile_shared, is_zonal, library, skipped};

fn world(condition: &[&str]) -> Outcome {
    Program::c("world.c").args(condition).run()
}

fn works(condition: &str) {
    world(&[condition]).success().quiet();
}

/// The same where calls of the program reclaim, and read files for it, on whatever stack they are.
fn works_in_need(condition: &str) {
    works(condition);
    if is_zonal() {
        let program = Program::c("world.c").arg(condition);
        program.env("ZONAL_CONF", "soft_limit:8M,pressure:always").run().success();
    }
}

/// As [`works`], unless the system does not allow it to any program.
fn works_if_allowed(condition: &[&str]) {
    let outcome = world(condition);
    if outcome.code() == Some(77) {
        return skipped(&format!("the system does not allow {}", condition.join(" ")));
    }
    outcome.success().quiet();
}

#[test]
fn threads_with_the_least_stack() {
    works_in_need("small_stacks");
}

/// Calls that find memory, on any stack: a handler's, a coroutine's.
#[test]
fn calls_take_little_stack() {
    if is_zonal() && cfg!(target_arch = "x86_64") {
        let program = Program::c("world.c").args(["shallow", "most=4096"]);
        // Callers' rounds of reclaim go deeper.
        program.env("ZONAL_CONF", "purge:off").run().success().quiet();
    }
}

#[test]
fn no_descriptor_left() {
    works("full_table");
}

/// glibc's own malloc does not survive this.
#[test]
fn handlers_on_an_alternate_stack() {
    if is_zonal() {
        works_in_need("alternate_stack");
    }
}

#[test]
fn clone_with_a_copy_of_the_memory() {
    works("raw_clone");
}

/// No helper thread stands in the way of calls that demand a process with one thread.
#[test]
fn namespaces_for_a_process_with_one_thread() {
    works_if_allowed(&["single_threaded"]);
}

#[test]
fn under_a_tracer() {
    works_if_allowed(&["traced"]);
}

#[test]
fn kernel_writes_into_fresh_memory() {
    works("kernel_copies");
}

/// All memory, zonal's own too, is taken away and comes back page by page when it is touched.
#[test]
fn restored_lazily_from_a_checkpoint() {
    // The program stops the world before it saves it, but for what it does not know.
    for (conf, moved) in
        [("kswapd:off", 1), ("kswapd:off,thp:always", 1), ("kswapd:off,harden:2", 0)]
    {
        let program = Program::c("lazy.c").arg(format!("moved={moved}"));
        let outcome = program.env("ZONAL_CONF", conf).run();
        if outcome.code() == Some(77) {
            return skipped("the system does not allow userfaultfd");
        }
        outcome.success().quiet();
    }
}

#[test]
fn ten_thousand_threads() {
    works_if_allowed(&["many_threads", "count=10000"]);
}

/// The resolver of an IFUNC calls malloc while the program is being relocated.
#[test]
fn resolvers_that_allocate() {
    works("ifunc");
    Program::c("world.c").arg("ifunc").env("LD_BIND_NOW", "1").run().success().quiet();
}

#[test]
fn every_limit_lowered_later() {
    works("limits");
}

/// Other libraries have taken the room for thread-local variables: zonal's 16 bytes fit, or the library
/// is refused like any other; nothing breaks.
#[test]
fn thread_local_storage_used_up() {
    let Some(zonal) = library().filter(|_| is_zonal()) else { return };
    let eater = compile_shared("tls_eater.c");
    let run = Program::plain(zonal_tests::compile("tls_full.c")).arg(eater).arg(zonal).run();
    run.success().quiet();
}
