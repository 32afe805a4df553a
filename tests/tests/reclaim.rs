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

/// What was freed in one size is given back before the group is full of another, beside another thread
/// and with one alone. The program holds 64 MiB and 16 MiB for their addresses: with 80 MiB it passes on an idle
/// machine, but the kernel kills it now and then where nobody looked at the group for some milliseconds.
#[test]
fn one_size_after_the_other_at_the_edge_of_the_group() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(group) = memory_group(128 * MIB) else { return };
    let program = compile("pressure.c");
    for conf in ["", "thp:never"] {
        for threads in ["threads=0", "threads=1"] {
            group.run(conf, &program, &["phases", "mib=64", threads]).success().quiet();
        }
    }
    if is_zonal() {
        let blind = group.run("pressure:off", &program, &["phases", "mib=64"]);
        assert!(!blind.is_success(), "the load does not need the pressure");
    }
}

/// The kernel does not say so: who keeps free memory has to look again.
#[test]
fn a_limit_that_comes_down_is_followed() {
    let _alone = ONE_AT_A_TIME.lock();
    if !is_zonal() {
        return;
    }
    let Some(group) = memory_group(1024 * MIB) else { return };
    let program = compile("pressure.c");
    let place = format!("group={}", group.path().display());
    group.run("purge:off", &program, &["lowered", "mib=96", &place]).success().quiet();
    drop(group);
    let Some(group) = memory_group(1024 * MIB) else { return };
    let place = format!("group={}", group.path().display());
    let arguments = ["lowered", "mib=96", &place, "seconds=3"];
    let blind = group.run("purge:off,pressure:off", &program, &arguments);
    assert!(blind.stderr.contains("are kept"), "the load does not need the look: {blind:?}");
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

/// Address space does not come back by purging. How sections of both kinds come to be is a matter of
/// time, so the bound has a margin: 112 MiB were enough in each of 130 runs.
#[test]
fn a_churning_program_completes_in_little_address_space() {
    Program::c("churn.c")
        .args(["mib=64", "phases=9"])
        .limit(libc::RLIMIT_AS, 144 * MIB)
        .run()
        .success()
        .quiet();
}

/// What was purged is used again before the heap grows.
#[test]
fn a_program_that_trims_all_the_time_takes_no_new_address_space() {
    let _alone = ONE_AT_A_TIME.lock();
    Program::c("trims.c").run().success();
}

/// The kernel kills whoever needs more than the group has: 1.1 times the blocks and what the program
/// has beside them, 8 MiB for each thread's list of blocks and 12 MiB for its code, stacks and tables.
#[test]
fn a_churning_program_completes_in_a_group() {
    let _alone = ONE_AT_A_TIME.lock();
    let program = compile("churn.c");
    for (threads, conf) in [(1, ""), (2, ""), (1, "thp:never"), (2, "thp:never")] {
        let Some(group) = memory_group((160 * 11 / 10 + 8 * threads + 12) * MIB) else { return };
        let threads = format!("threads={threads}");
        let set = ["mib=160", &threads, "phases=9"];
        group.run(conf, &program, &set).success().quiet();
        if is_zonal() && conf.is_empty() {
            let blind = group.run("pressure:off", &program, &set);
            assert!(!blind.is_success(), "the load does not need the pressure");
        }
    }
}

/// Against what the kernel says is resident. Nothing goes by itself meanwhile.
#[test]
fn a_trim_says_what_went() {
    if is_zonal() {
        for conf in ["purge:off", "purge:off,thp:never"] {
            let run = Program::c("told.c").env("ZONAL_CONF", conf).run();
            if run.code() == Some(77) {
                return skipped("the kernel does not say what is resident");
            }
            run.success().quiet();
        }
    }
}

/// Also where the background thread had gone, where what had gone was wanted again, and where one that stays made a few
/// calls only; but not where there never was a thread. A busy machine makes some runs slow. So does too long an age,
/// most of them; if nothing goes, all are.
#[test]
fn what_ended_threads_left_goes_back_while_all_rest() {
    const SLOW: Option<i32> = Some(3);
    if !is_zonal() {
        return;
    }
    for (how, nr_quick) in [("late", 1), ("again", 4), ("few", 1), ("alone", 1)] {
        let mut nr_slow = 0;
        for _ in 0..nr_quick {
            let run = || Program::c("rests.c").arg(how).run();
            let mut outcome = run();
            while outcome.code() == SLOW && nr_slow < 4 {
                nr_slow += 1;
                outcome = run();
            }
            outcome.success().quiet();
        }
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
            .timeout(seconds + 300)
            .env("ZONAL_CONF", conf)
            .run()
            .success()
            .quiet();
    }
}
