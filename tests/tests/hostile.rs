//! Hard conditions: nothing to read, nothing to write to, little memory, refused system calls.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::sync::RwLock;
use zonal_tests::{Group, Jail, Outcome, Program, compile, is_zonal, library, skipped};

/// Tests that change a setting of the whole machine hold this for writing, all others for reading.
static MACHINE: RwLock<()> = RwLock::new(());

fn workload(arguments: &[&str]) -> Outcome {
    let _shared = MACHINE.read().unwrap();
    Program::c("workload.c").args(arguments).run().success().quiet()
}

fn mib(n: u64) -> u64 {
    n << 20
}

#[test]
fn without_conditions() {
    workload(&["dd=1"]);
}

#[test]
fn without_proc_and_sys() {
    let _shared = MACHINE.read().unwrap();
    let jail = Jail::new(&compile("workload.c"));
    let run =
        Program::plain("/program").env("LD_PRELOAD", jail.preload()).chroot(jail.root()).run();
    run.success().quiet();
}

#[test]
fn with_an_empty_environment() {
    let _shared = MACHINE.read().unwrap();
    let Some(library) = library() else { return };
    // The loader itself takes the preload, so that the environment can be really empty.
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader = loader.iter().find(|path| Path::new(path).exists()).unwrap();
    Program::new("env")
        .args(["-i", loader, "--preload"])
        .arg(library)
        .arg(compile("workload.c"))
        .run()
        .success()
        .quiet();
}

#[test]
fn with_standard_descriptors_closed() {
    let _shared = MACHINE.read().unwrap();
    for closed in [&[0][..], &[2], &[1, 2], &[0, 1, 2]] {
        let program =
            Program::c("workload.c").arg("mib=8").env("ZONAL_CONF", "stats:exit,nonsense:1");
        closed.iter().fold(program, |program, &fd| program.close(fd)).run().success();
    }
}

fn exhaust(size: usize, limit: u64, least: u64, resource: libc::__rlimit_resource_t) {
    let _shared = MACHINE.read().unwrap();
    Program::c("exhaust.c")
        .arg(format!("size={size}"))
        .arg(format!("limit={limit}"))
        .arg(format!("least={least}"))
        .limit(resource, mib(limit))
        .run()
        .success()
        .quiet();
}

#[test]
fn address_space_of_256_mib() {
    for size in [48, 200, 1000, 5000, 40_000, 1_000_000] {
        exhaust(size, 256, 60, libc::RLIMIT_AS);
    }
    let _shared = MACHINE.read().unwrap();
    Program::c("workload.c")
        .args(["mib=8", "threads=2"])
        .limit(libc::RLIMIT_AS, mib(256))
        .run()
        .success();
}

#[test]
fn address_space_of_2_gib() {
    for size in [500, 3_000_000] {
        exhaust(size, 2048, 80, libc::RLIMIT_AS);
    }
    let _shared = MACHINE.read().unwrap();
    let threads = ["mib=64", "threads=8"];
    Program::c("workload.c")
        .args(threads)
        .limit(libc::RLIMIT_AS, mib(2048))
        .run()
        .success()
        .quiet();
}

#[test]
fn data_limit_before_the_start() {
    for size in [200, 5000, 1_000_000] {
        exhaust(size, 128, 60, libc::RLIMIT_DATA);
    }
}

#[test]
fn data_limit_set_later() {
    workload(&["rlimit_data=64"]);
    workload(&["rlimit_data=8", "threads=1"]);
}

#[test]
fn address_space_limit_set_later() {
    workload(&["rlimit_as=256"]);
    workload(&["rlimit_as=32", "threads=1"]);
}

#[test]
fn all_memory_locked() {
    workload(&["mlockall=1", "mib=16"]);
}

/// Reserved address space counts as locked. A small program fits into the usual limit without zonal, and
/// must with its first section, which is 4 MiB. The stack holds the environment, so there is none.
#[test]
fn present_memory_locked_under_a_limit() {
    let _shared = MACHINE.read().unwrap();
    // The user without privileges must reach the program and the library.
    let jail = Jail::new(&compile("workload.c"));
    fs::set_permissions(jail.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = |preload: &Path| {
        Program::plain("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
                "env",
                "-i",
            ])
            .arg(format!("LD_PRELOAD={}", preload.display()))
            .arg(jail.root().join("program"))
            .args(["mlockall=2", "first=200", "mib=1", "threads=0"])
            .limit(libc::RLIMIT_MEMLOCK, mib(8))
            .run()
    };
    if !run(Path::new("")).is_success() {
        return skipped("the program cannot run as another user here");
    }
    if library().is_some() {
        run(&jail.root().join("libzonal.so")).success().quiet();
    }
}

#[test]
fn mappings_used_up() {
    workload(&["maps=1", "threads=1"]);
    workload(&["maps=1", "mib=64"]);
}

/// Every call that zonal can do without, refused from before the first constructor, in three ways.
#[test]
fn refused_calls_from_the_start() {
    let calls = "mbind,set_mempolicy,get_mempolicy,madvise,process_madvise,membarrier,getcpu,getrandom,\
                 openat,open,mremap,mincore,pidfd_open,sched_getaffinity,move_pages";
    for answer in ["EPERM", "ENOSYS", "ENOMEM", "EINVAL"] {
        workload(&[&format!("early={answer}:{calls}")]);
    }
}

/// As a container's runtime does it: the filter is there before the program, the loader and glibc's rseq.
#[test]
fn refused_calls_before_the_loader() {
    let _shared = MACHINE.read().unwrap();
    for answer in ["EPERM", "ENOSYS", "ENOMEM"] {
        for calls in [
            "rseq",
            "mbind,get_mempolicy,set_mempolicy,membarrier,getcpu",
            "rseq,membarrier,getcpu,madvise,process_madvise,mremap,getrandom,mbind,get_mempolicy",
        ] {
            let program = compile("workload.c");
            Program::filtered(&format!("{answer}:{calls}"), program).run().success().quiet();
        }
    }
}

/// A filter that allows all but one of the calls that zonal can do without.
#[test]
fn each_optional_call_refused_alone() {
    let _shared = MACHINE.read().unwrap();
    let calls = "mbind set_mempolicy get_mempolicy madvise process_madvise membarrier rseq getcpu getrandom \
                 mremap mincore pidfd_open prctl sched_getaffinity move_pages clock_gettime futex";
    for call in calls.split_whitespace() {
        let program = compile("workload.c");
        // glibc's own threads need the futex.
        let threads = if call == "futex" { "threads=0" } else { "threads=2" };
        Program::filtered(&format!("EPERM:{call}"), program)
            .args(["mib=8", threads])
            .run()
            .success()
            .quiet();
    }
}

#[test]
fn refused_calls_later() {
    for answer in ["EPERM", "ENOSYS", "ENOMEM"] {
        workload(&[&format!(
            "late={answer}:mbind,set_mempolicy,get_mempolicy,madvise,process_madvise,membarrier,getcpu,\
             getrandom,openat,open,mremap,mincore,pidfd_open,clock_gettime"
        )]);
    }
}

#[test]
fn threads_refused() {
    for answer in ["EPERM", "ENOSYS", "EAGAIN", "ENOMEM"] {
        workload(&[&format!("early={answer}:clone,clone3"), "threads=0"]);
        workload(&[&format!("late={answer}:clone3,clone,madvise"), "threads=0"]);
    }
}

/// A filter that kills: what was not needed until then must not be tried later on the program's threads,
/// nor what no filter knows, as those of sshd and file do not know `process_madvise`.
#[test]
fn killing_filter_after_the_start() {
    workload(&[
        "late=KILL:mbind,set_mempolicy,get_mempolicy,membarrier,rseq,getcpu,getrandom,openat,open,clone,\
         clone3,pidfd_open,mincore,sched_getaffinity,move_pages,prctl,process_madvise",
        "threads=0",
    ]);
}

/// What a trim gave back is told without asking where that may kill.
#[test]
fn trims_under_filters_that_kill() {
    let _shared = MACHINE.read().unwrap();
    let program = || Program::c("workload.c").args(["mib=8", "threads=0", "trim=1"]);
    program().arg("late=KILL:mincore").run().success().quiet();
    let conf = ("ZONAL_CONF", "pressure:off");
    program().arg("late=KILL:mincore,prctl").env(conf.0, conf.1).run().success().quiet();
    let workload = compile("workload.c");
    let before = Program::filtered("KILL:mincore", workload).args(["mib=8", "threads=0", "trim=1"]);
    before.run().success().quiet();
}

/// Publishing statistics asks the kernel nothing. What it takes to remove the page at the end depends
/// on whether there is a filter, so that question must be allowed.
#[test]
fn killing_filter_beside_a_live_page() {
    let _shared = MACHINE.read().unwrap();
    if is_zonal() {
        let calls = "mincore,move_pages,openat,open,unlinkat,mkdirat,ftruncate,fallocate";
        Program::c("workload.c")
            .arg(format!("late=KILL:{calls}"))
            .arg("threads=0")
            .env("ZONAL_CONF", "stats:live")
            .run()
            .success()
            .quiet();
    }
}

/// The calls that give memory back are left out when the user says so.
#[test]
fn killing_filter_with_minimal_calls() {
    let _shared = MACHINE.read().unwrap();
    if is_zonal() {
        let calls = "mbind,set_mempolicy,get_mempolicy,membarrier,getcpu,getrandom,openat,open,madvise,\
                     process_madvise,mremap,mincore,pidfd_open";
        for when in ["early", "late"] {
            Program::c("workload.c")
                .arg(format!("{when}=KILL:{calls}"))
                .arg("threads=0")
                .env("ZONAL_CONF", "syscalls:minimal")
                .run()
                .success()
                .quiet();
        }
    }
}

/// Writes `value` into a file of the kernel, and what was there before at the end.
struct Setting(&'static str, String);

impl Setting {
    fn set(path: &'static str, value: &str) -> Option<Self> {
        let before = fs::read_to_string(path).ok()?;
        fs::write(path, value).ok()?;
        Some(Self(path, before.trim().to_owned()))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(self.0, &self.1).unwrap();
    }
}

/// The third of the kernel's ways to promise memory, mode 2, would take the memory of every other program of
/// the machine away: the laboratory has it (`tests/vm/guest`).
#[test]
fn heuristic_and_unlimited_overcommit() {
    let _alone = MACHINE.write().unwrap();
    for mode in ["0", "1"] {
        let Some(_setting) = Setting::set("/proc/sys/vm/overcommit_memory", mode) else {
            return skipped("vm.overcommit_memory cannot be set");
        };
        Program::c("workload.c").args(["mib=32", "threads=2"]).run().success().quiet();
    }
}

#[test]
fn no_process_left_to_start() {
    let _shared = MACHINE.read().unwrap();
    let Some(group) = Group::new("pids", &[("pids.max", "pids.max", 1)]) else {
        return skipped("no pids control group can be made");
    };
    group.run("", &compile("workload.c"), &["threads=0"]).success().quiet();
}

#[test]
fn little_memory_in_the_control_group() {
    let _shared = MACHINE.read().unwrap();
    let limit = [("memory.limit_in_bytes", "memory.max", mib(112))];
    let Some(group) = Group::new("memory", &limit) else {
        return skipped("no memory control group can be made");
    };
    group.run("", &compile("workload.c"), &["mib=16", "threads=3"]).success().quiet();
}

/// The heap is in a core dump: five markers that only the heap holds in full.
#[test]
fn core_dump_holds_the_heap() {
    let _shared = MACHINE.read().unwrap();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.contains('/') {
        return skipped("core dumps are not written to the working directory");
    }
    let dir = tempfile::tempdir().unwrap();
    let run =
        Program::c("core.c").dir(dir.path()).limit(libc::RLIMIT_CORE, libc::RLIM_INFINITY).run();
    run.killed_by(libc::SIGABRT);
    let mut found = [false; 5];
    for entry in fs::read_dir(dir.path()).unwrap() {
        let core = fs::read(entry.unwrap().path()).unwrap();
        for at in 0..core.len().saturating_sub(11) {
            if &core[at..at + 10] == b"HEAPMARKER" && (b'0'..b'5').contains(&core[at + 10]) {
                found[usize::from(core[at + 10] - b'0')] = true;
            }
        }
    }
    assert_eq!(found, [true; 5], "blocks of 64 B, 3000 B, 40 kB, 3 MB, 50 MB");
}
