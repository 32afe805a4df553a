//! Memory that goes back under pressure: control groups, the soft limit, threads that come and go.

use std::sync::Mutex;

use zonal_tests::{Group, Program, compile, is_zonal, skipped};

/// Several full groups at once would fill the machine, too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const MIB: u64 = 1 << 20;

fn memory_group(bytes: u64) -> Option<Group> {
    let group = Group::new("memory", &[("memory.limit_in_bytes", "memory.max", bytes)]);
    if group.is_none() {
        skipped("no memory control group can be made");
    }
    group
}

/// Each keeps what it freed until its background thread sees that the group is full: together that
/// is more than the group may have.
#[test]
fn eight_workers_share_a_group() {
    let _alone = ONE_AT_A_TIME.lock();
    if !is_zonal() {
        return;
    }
    let Some(group) = memory_group(320 * MIB) else { return };
    let program = compile("pressure.c");
    group.run("purge:off", &program, &["workers", "mib=64"]).success().quiet();
    // Without a look at the group the kernel kills one of them.
    let blind = group.run("purge:off,pressure:off", &program, &["workers", "mib=64"]);
    assert!(blind.stderr.contains("a worker ended"), "the load does not need the pressure");
    group.run("", &program, &["workers", "mib=64"]).success().quiet();
}

/// What was freed in one size is given back before the group is full of another. A program with one
/// thread has to allow that its own calls look at the group.
#[test]
fn one_size_after_the_other_at_the_edge_of_the_group() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(group) = memory_group(128 * MIB) else { return };
    let program = compile("pressure.c");
    // Near the edge with small pages, see below, and more than once: on a busy machine the
    // background thread may come too late.
    for (mib, tries) in [("mib=60", 3), ("mib=80", 6)] {
        let (usual, always) = ("thp:never", "thp:never,pressure:always");
        for (conf, arguments) in
            [(usual, &["phases", mib, "threads=1"][..]), (always, &["phases", mib])]
        {
            let mut last = group.run(conf, &program, arguments);
            for _ in 1..tries {
                if !last.is_success() {
                    last = group.run(conf, &program, arguments);
                }
            }
            last.success().quiet();
        }
    }
}

#[test]
fn a_sparse_block_larger_than_the_group() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(group) = memory_group(1024 * MIB) else { return };
    for conf in ["", "pressure:always", "kswapd:always"] {
        group.run(conf, &compile("pressure.c"), &["sparse"]).success().quiet();
    }
}

/// 1.1 times the working set is enough, whoever sets the bound.
#[test]
fn a_churning_program_completes_under_tight_bounds() {
    let _alone = ONE_AT_A_TIME.lock();
    if !is_zonal() {
        return;
    }
    for key in ["limit:", "node_limit:0="] {
        for (mib, threads) in [(64, 1), (160, 2)] {
            let set = format!("mib={mib}");
            let limit = mib * 11 / 10 + 1;
            Program::c("churn.c")
                .args([set, format!("threads={threads}"), "phases=9".to_owned()])
                .env("ZONAL_CONF", format!("{key}{limit}M"))
                .run()
                .success()
                .quiet();
        }
    }
    // The bound is one: nothing completes with less than it holds.
    let less = Program::c("churn.c").arg("mib=64").env("ZONAL_CONF", "node_limit:0=60M").run();
    assert!(less.stderr.contains("no "), "{less:?}");
}

/// Address space does not come back by purging; twice the working set is what it takes.
#[test]
fn a_churning_program_completes_in_little_address_space() {
    Program::c("churn.c")
        .args(["mib=64", "phases=9"])
        .limit(libc::RLIMIT_AS, 144 * MIB)
        .run()
        .success()
        .quiet();
}

/// The kernel kills whoever needs more. With small pages: of a huge page that was purged in part the
/// kernel frees nothing before it splits the page, which may come too late for a group this tight.
#[test]
fn a_churning_program_completes_in_a_group() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(group) = memory_group((160 + 96) * MIB) else { return };
    let program = compile("churn.c");
    let set = ["mib=160", "threads=2", "phases=9"];
    group.run("thp:never", &program, &set).success().quiet();
    if is_zonal() {
        let blind = group.run("thp:never,pressure:off", &program, &set);
        assert!(!blind.is_success(), "the load does not need the pressure");
    }
}

#[test]
fn over_the_soft_limit_there_is_one_line() {
    if !is_zonal() {
        return;
    }
    let program = || Program::c("workload.c").args(["mib=32", "threads=3"]);
    let run = program().env("ZONAL_CONF", "soft_limit:4M").run().success();
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains("over the soft limit of 4 MiB"), "{lines:?}");
    program().env("ZONAL_CONF", "soft_limit:4G").run().success().quiet();
}

/// The background thread opens files only if no filter came after the start: this one kills.
#[test]
fn a_killing_filter_beside_the_background_thread() {
    for conf in ["", "kswapd:always", "pressure:always"] {
        Program::c("pressure.c").arg("filtered").env("ZONAL_CONF", conf).run().success().quiet();
    }
}

/// Two seconds for each setting, or a quarter of `ZONAL_SOAK_SECONDS`: `make soak-reclaim`.
#[test]
fn reclaim_while_threads_start_end_and_fork() {
    let soak = std::env::var("ZONAL_SOAK_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = soak.map_or(2, |seconds| seconds.div_ceil(4));
    for conf in ["", "kswapd:off", "purge:off,limit:1G", "kswapd:always,pressure:always"] {
        Program::c("reclaim_storm.c")
            .arg(format!("seconds={seconds}"))
            .timeout(seconds + 120)
            .env("ZONAL_CONF", conf)
            .run()
            .success()
            .quiet();
    }
}
