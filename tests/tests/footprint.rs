//! What a small process pays: no thread, little dirty memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use zonal_tests::{Outcome, Program, compile, compile_shared, is_zonal, library};

/// `dirty N threads M resident L` of the program that measures itself.
fn figures(outcome: &Outcome) -> [i64; 3] {
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    match words[..] {
        ["dirty", dirty, "threads", threads, "resident", resident] => {
            [dirty, threads, resident].map(|figure| figure.parse().unwrap())
        }
        _ => outcome.fail("no figures"),
    }
}

#[test]
fn a_small_process_stays_small() {
    let Some(_) = library().filter(|_| is_zonal()) else { return };
    let empty = compile_shared("empty.c");
    let base = Program::plain(compile("footprint.c")).env("LD_PRELOAD", empty).run().success();
    let ours = Program::c("footprint.c").run().success().quiet();
    let ([base, _, all_base], [dirty, threads, all]) = (figures(&base), figures(&ours));
    assert_eq!(threads, 1, "a thread was started for a small process");
    assert!(dirty - base <= 128, "{dirty} KiB dirty against {base} KiB with an empty preload");
    // That, and nearly all of the library: the kernel maps 64 KiB around each page of code. How much of the C
    // library it maps differs by 100 KiB between two runs.
    assert!(all - all_base <= 1000, "{all} KiB resident against {all_base} KiB");
}

/// No thread either when the process does more, as long as it has no second one itself.
#[test]
fn a_single_threaded_process_stays_so() {
    if is_zonal() {
        let ours = Program::c("footprint.c").arg("bytes=300000000").run().success().quiet();
        assert_eq!(figures(&ours)[1], 1);
    }
}

/// The start of a process is judged by the benchmarks; here only what would make it slow.
#[test]
fn few_system_calls_at_start() {
    let Some(library) = library().filter(|_| is_zonal()) else { return };
    if !zonal_tests::have("strace", "strace") {
        return;
    }
    let count = |preload: &std::path::Path| {
        let run = Program::plain("strace")
            .args(["-f", "-E", &format!("LD_PRELOAD={}", preload.display())])
            .arg(compile("true.c"))
            .run()
            .success();
        i64::try_from(run.stderr.lines().count()).unwrap()
    };
    let (ours, base) = (count(&library), count(&compile_shared("empty.c")));
    assert!(ours - base <= 40, "{ours} system calls against {base} with an empty preload");
}

/// Zeros that nobody touched take no memory, unless they are soon to be read and written by one of many.
#[test]
fn new_zeros_are_touched_where_that_saves_faults() {
    if is_zonal() {
        for threads in ["threads=1", "threads=2"] {
            Program::c("zeros.c")
                .arg(threads)
                .env("ZONAL_CONF", "thp:never")
                .run()
                .success()
                .quiet();
        }
    }
}
