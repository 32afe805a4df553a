//! The live page: read from outside, by the command.

mod whose;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use serde_json::Value;
use zonal_tests::{Outcome, Program, is_zonal, library};

/// A program that waits until it is dropped.
struct Waiting {
    child: Child,
    /// The numbers that it printed, its own last.
    pids: Vec<u32>,
}

impl Waiting {
    fn start(how: &str, settings: &str, nr_pids: usize) -> Self {
        let mut child = Program::c("stats.c")
            .args([how, "60000", "1000"])
            .env("ZONAL_CONF", settings)
            .piped()
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pids = lines.take(nr_pids).map(|line| line.unwrap().parse().unwrap()).collect();
        Self { child, pids }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The command beside the library.
fn zonal() -> PathBuf {
    library().unwrap().with_file_name("zonal")
}

fn stats(pid: u32) -> Program {
    Program::plain(zonal()).args(["stats", &pid.to_string(), "--format", "json"])
}

/// One clear line, nothing else, and a status that is not 0.
fn refused(outcome: &Outcome, why: &str) {
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let is_clear = lines.len() == 1 && lines[0].starts_with("zonal: ") && lines[0].contains(why);
    if outcome.is_success() || outcome.timed_out() || !is_clear || !outcome.stdout.is_empty() {
        outcome.fail(&format!("a line with {why:?} and a failure were due"));
    }
}

fn user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

fn page_of(pid: u32) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
    PathBuf::from(format!("/dev/shm/zonal-{}/{pid}.{namespace}", user()))
}

#[test]
fn a_running_process_is_read() {
    if !is_zonal() {
        return;
    }
    let program = Waiting::start("wait", "stats:live", 1);
    assert!(page_of(program.pid()).exists());
    let outcome = stats(program.pid()).run().success();
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["pid"], program.pid());
    // It sleeps, and its figures are of some moment in the middle of its work.
    assert!(report["memory"]["used_small_bytes"].as_u64().unwrap() > 1_000_000, "{report}");
    let text = Program::plain(zonal()).args(["stats", &program.pid().to_string()]);
    text.run().success().stdout_has("--- zoneinfo");
    let prometheus = ["stats", &program.pid().to_string(), "--format", "prometheus"];
    let text = Program::plain(zonal()).args(prometheus).run().success();
    super::Exposition::parse(&text.stdout).unwrap();
    let page = page_of(program.pid());
    drop(program);
    assert!(!page.exists(), "a process that exits removes its page");
}

/// A program at work is read while it works: the figures are fresh.
#[test]
fn a_busy_process_is_read_afresh() {
    const BUSY: &str = "
import os, threading, time
print(os.getpid(), flush=True)
end = time.time() + 300
def work():
    while time.time() < end:
        kept = [bytes(i % 3000) for i in range(20_000)]
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
";
    if !is_zonal() {
        return;
    }
    let program = Program::new("python3")
        .args(["-c", BUSY])
        .env("ZONAL_CONF", "stats:live")
        .env("PYTHONMALLOC", "malloc")
        .piped();
    let mut child = program.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = line.trim().parse().unwrap();
    let taken = || {
        let report: Value = serde_json::from_str(&stats(pid).run().success().stdout).unwrap();
        report["taken_ns"].as_u64().unwrap()
    };
    let first = taken();
    // Long before its work ends, however busy the machine is.
    let is_fresh = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        taken() > first
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_fresh, "still the figures of {first}");
}

/// A program that sleeps in the middle of other work: what it touches is seen though it never comes
/// to zonal, since its reader asks the kernel.
#[test]
fn what_a_process_touches_is_seen_without_its_help() {
    if !is_zonal() {
        return;
    }
    for (count, size) in [("1000", "100000"), ("10", "10000000")] {
        let mut child = Program::c("stats.c")
            .args(["late", count, size])
            .env("ZONAL_CONF", "stats:live")
            .piped()
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pid: u32 = lines.next().unwrap().unwrap().parse().unwrap();
        let memory = || {
            let report: Value = serde_json::from_str(&stats(pid).run().success().stdout).unwrap();
            assert_eq!(report["asked_kernel"], true, "{report}");
            ["resident_bytes", "untouched_bytes"].map(|f| report["memory"][f].as_u64().unwrap())
        };
        let [resident, untouched] = memory();
        // A page of each block is filled behind what was asked for.
        assert!(resident < 7_000_000 && untouched > 85_000_000, "{resident} {untouched}");
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "touched");
        let [now, rest] = memory();
        assert!(now - resident > untouched / 10 * 9, "{now} of {untouched}");
        assert!(rest < untouched / 10, "{rest} of {untouched}");
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

/// Bytes of a process that are no file's, as the kernel counts them.
fn anonymous(pid: u32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

/// Real programs of some size, seen from outside: what zonal says is resident is what the kernel
/// counts, but for the program's own data and stacks. A program that sleeps may have grown by a
/// sixteenth since it published.
#[test]
fn sums_agree_with_the_kernel_for_real_programs() {
    const PYTHON: &str = "
import json, select, sys
kept = [json.loads('{\"a\": [1.5, 2.5, \"text\"], \"b\": %d}' % i) for i in range(150_000)]
kept += [bytes(i % 100_000) for i in range(0, 1_000_000, 997)]
print('ready', flush=True)
while not select.select([sys.stdin], [], [], .01)[0]:
    bytes(1_000_000)
";
    const PERL: &str = "
$| = 1; my %kept;
$kept{\"key $_\"} = [$_, 'x' x ($_ % 300)] for 1 .. 200_000;
print \"ready\\n\"; <STDIN>;
";
    const SQLITE: &str = "
create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000)
insert into t select i, hex(randomblob(100)) from n;
.print ready
";
    if !is_zonal() {
        return;
    }
    let programs: [(&str, &[&str], &str, f64); 3] = [
        ("python3", &["-c", PYTHON], "", 0.02),
        ("perl", &["-e", PERL], "", 0.02 + 1.0 / 16.0),
        ("sqlite3", &["-batch", ":memory:"], SQLITE, 0.02 + 1.0 / 16.0),
    ];
    for (program, arguments, input, behind) in programs {
        if !zonal_tests::have(program, program) {
            continue;
        }
        let mut child = Program::new(program)
            .args(arguments)
            .env("ZONAL_CONF", "stats:live")
            .env("PYTHONMALLOC", "malloc")
            .piped()
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        let look = || {
            let report: Value =
                serde_json::from_str(&stats(child.id()).run().success().stdout).unwrap();
            let figure = |part: &str, name: &str| report[part][name].as_f64().unwrap();
            let ours =
                figure("memory", "resident_bytes") + figure("process", "meta_resident_bytes");
            (ours, anonymous(child.id()), report)
        };
        // The interpreter's own data, relocated code and stack.
        const ELSEWHERE: f64 = 2_500_000.0;
        let agree = |&(ours, theirs, _): &(f64, f64, Value)| {
            (-0.02 * theirs..behind * theirs + ELSEWHERE).contains(&(theirs - ours))
        };
        // Who works on publishes once it gets a processor, and changes between the two figures.
        let mut told = look();
        for _ in 0..50 {
            if agree(&told) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            told = look();
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
        let (ours, theirs, report) = &told;
        println!("{program}: zonal {ours}, the kernel {theirs}");
        assert!(*theirs > 40e6, "{program}: {theirs}");
        assert!(
            agree(&told),
            "{program}: zonal {ours}, the kernel {theirs}: {:#}",
            report["memory"]
        );
    }
}

/// The program neither keeps a descriptor nor needs the page.
#[test]
fn the_program_does_not_notice() {
    if !is_zonal() {
        return;
    }
    let descriptors = |settings: &str| {
        let list = ["-c", "import os; print(len(os.listdir('/proc/self/fd')))"];
        let program = Program::new("python3").args(list).env("ZONAL_CONF", settings);
        program.run().success().quiet().stdout
    };
    assert_eq!(descriptors("stats:live"), descriptors("stats:off"));
    let touched = ["touched", "100", "1000"];
    // A file larger than the limit would be a signal.
    Program::c("stats.c")
        .args(touched)
        .env("ZONAL_CONF", "stats:live")
        .limit(libc::RLIMIT_FSIZE, 1000)
        .run()
        .success();
    for refused in ["EPERM:mkdirat,ftruncate", "ENOSYS:ftruncate,fallocate,unlinkat,mincore"] {
        let outcome = Program::filtered(refused, zonal_tests::compile("stats.c"))
            .args(touched)
            .env("ZONAL_CONF", "stats:live")
            .run()
            .success();
        outcome.quiet();
    }
}
