//! What a small process pays: no thread, little dirty memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use zonal_tests::{Outcome, Program, compile, compile_shared, is_zonal, library};

/// `dirty N threads M resident L library K` of the program that measures itself.
fn figures(outcome: &Outcome) -> [i64; 4] {
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    match words[..] {
        ["dirty", dirty, "threads", threads, "resident", resident, "library", library] => {
            [dirty, threads, resident, library].map(|figure| figure.parse().unwrap())
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
    let ([base, _, all_base, _], [dirty, threads, all, library]) = (figures(&base), figures(&ours));
    assert_eq!(threads, 1, "a thread was started for a small process");
    assert!(dirty - base <= 96, "{dirty} KiB dirty against {base} KiB with an empty preload");
    // 64 KiB of code and as much of constants, since the kernel maps so much around a page, and what is relocated:
    // 145 as a rule, 64 more where a page was not in its cache.
    assert!((1..=240).contains(&library), "{library} KiB of the library are resident");
    // How much the kernel maps of the C library differs by 100 KiB between two runs.
    assert!(all - all_base <= 600, "{all} KiB resident against {all_base} KiB");
}

/// A thread touches two pages of its heap; its small objects lie with those of other threads.
#[test]
fn a_thread_stays_small() {
    if !is_zonal() {
        return;
    }
    let run = |sizes: u32| -> i64 {
        let run = Program::c("thread_cost.c").arg(format!("sizes={sizes}")).run().success().quiet();
        run.stdout.trim().parse().unwrap()
    };
    // On a busy machine threads come to their objects in other orders, and share fewer slabs: the least of some runs.
    let cost = |sizes| (0..5).map(|_| run(sizes)).min().unwrap();
    let idle = cost(0);
    // 8.2 and 29 KiB as a rule; the objects are 17 of the latter.
    for (sizes, most) in [(1, 10 << 10), (32, 34 << 10)] {
        let more = cost(sizes) - idle;
        assert!(more <= most, "an object of each of {sizes} sizes: {more} bytes a thread");
    }
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

/// What the library needs beside a heap, in ten thousandths of it. Below 32 bytes the bit of each object is most of it.
#[test]
fn metadata_is_a_small_part_of_a_heap() {
    if !is_zonal() {
        return;
    }
    for (size, most) in
        [(8, 210), (16, 125), (32, 80), (64, 65), (1000, 60), (20_000, 40), (300_000, 40)]
    {
        let run = Program::c("objects.c")
            .args([&format!("size={size}"), "mib=128"])
            .env("ZONAL_CONF", "stats:exit,stats_format:json")
            .run()
            .success();
        // Of the nodes and of the whole there is one each.
        let all = |key: &str| -> u64 {
            let figures = run.stderr.split(key).skip(1);
            let figure = |text: &str| text.split([',', '}']).next().unwrap().trim().parse::<u64>();
            figures.map(|text| figure(text).unwrap()).max().unwrap()
        };
        let heap = all("\"resident_bytes\":");
        let metadata = all("\"meta_resident_bytes\":");
        assert!(heap >= 128 << 20, "{heap} bytes are resident");
        let part = metadata * 10_000 / heap;
        assert!(part <= most, "objects of {size} bytes: {part} of 10,000, not {most}");
    }
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
