//! Heap profiles: what they say about a program whose allocations are known, by every way to get one.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod protobuf;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zonal_tests::{Program, compile, have, is_zonal, library};

const MB: u64 = 1_000_000;

/// The command, built beside the library.
fn zonal() -> Option<PathBuf> {
    let path = library()?.with_file_name("zonal");
    is_zonal().then_some(path).filter(|path| path.exists())
}

/// A run of `tests/c/profile.c` that leaves its profile at `file`.
fn profiled(mode: &str, file: &Path, more: &str) -> Program {
    let conf = format!("profile:on,profile_file:{},{more}", file.display());
    Program::c("profile.c").arg(mode).env("ZONAL_CONF", conf)
}

/// Bytes by function of a profile, each function once a stack, as flame graphs count.
fn folded(file: &Path, total: bool) -> BTreeMap<String, u64> {
    let mut command = Command::new(zonal().unwrap());
    command.arg("profile").arg(file).args(["--folded", "-o", "-"]);
    if total {
        command.arg("--total");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    by_function(&String::from_utf8(output.stdout).unwrap())
}

fn by_function(text: &str) -> BTreeMap<String, u64> {
    let mut bytes = BTreeMap::new();
    for line in text.lines() {
        let (stack, value) = line.rsplit_once(' ').unwrap();
        let value: u64 = value.parse().unwrap();
        let mut names: Vec<&str> = stack.split(';').collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            *bytes.entry(name.to_owned()).or_default() += value;
        }
    }
    bytes
}

/// With n samples a figure deviates by 1/sqrt(n); five of that happen once in a million runs.
fn assert_near(what: &str, found: u64, truth: u64, rate: u64) {
    let allowed = 5.0 * ((truth / rate).max(1) as f64).sqrt() * rate as f64;
    let error = found.abs_diff(truth) as f64;
    assert!(error < allowed, "{what}: {found} is not {truth} +- {allowed}");
}

fn assert_shares(file: &Path, rate: u64, scale: u64) {
    let live = folded(file, false);
    assert_near("grow_small", live["grow_small"], 30 * scale * MB / 30, rate);
    assert_near("grow_large", live["grow_large"], 90 * scale * MB / 30, rate);
    assert!(!live.contains_key("churn"), "{live:?}");
    let total = folded(file, true);
    assert_near("churn", total["churn"], 60 * scale * MB / 30, rate);
    assert_near("work", total["work"], 180 * scale * MB / 30, rate);
}

#[test]
fn functions_have_their_shares() {
    if zonal().is_none() {
        return;
    }
    let dir = TempDir::new().unwrap();
    for rate in [512 << 10, 32 << 10] {
        let file = dir.path().join(format!("{rate}"));
        let _ = profiled("shares", &file, &format!("profile_rate:{rate}")).run().success().quiet();
        assert_shares(&file, rate, 30);
    }
}

#[test]
fn pprof_reads_it() {
    let Some(zonal) = zonal() else { return };
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("heap");
    let _ = profiled("shares", &file, "profile_rate:64K").run().success().quiet();
    let out = dir.path().join("out.pb.gz");
    let mut command = Command::new(zonal);
    let written = command.arg("profile").arg(&file).arg("--json").arg("-o").arg(&out).output();
    let written = written.unwrap();
    assert!(written.status.success(), "{written:?}");
    let told: serde_json::Value = serde_json::from_slice(&written.stdout).unwrap();
    assert_eq!(told["file"], out.display().to_string());
    assert_near("all", told["total_bytes"].as_u64().unwrap(), 180 * MB, 64 << 10);

    let profile = protobuf::Profile::read(&fs::read(&out).unwrap());
    let types: Vec<&str> = profile.sample_types.iter().map(String::as_str).collect();
    assert_eq!(types, ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
    assert_eq!(profile.period, 64 << 10);
    let [objects, bytes] = [0, 1].map(|value| profile.sum_of("churn", value));
    assert_near("bytes of churn", bytes, 60 * MB, 64 << 10);
    assert!((480..=520).contains(&(bytes / objects)), "{bytes} bytes in {objects} objects");
    assert_near("live", profile.sum_of("grow_large", 3), 90 * MB, 64 << 10);
    assert_eq!(profile.sum_of("churn", 3), 0);
    let line = profile.line_of("grow_small").unwrap();
    let source = fs::read_to_string(zonal_tests::source("profile.c")).unwrap();
    let source = source.lines().nth(line as usize - 1).unwrap();
    assert!(source.contains("malloc(1000)"), "line {line} is {source}");
    assert!(profile.mappings.iter().any(|path| path.contains("libc")), "{:?}", profile.mappings);

    // And the reader that everybody has, on both forms.
    if have("go", "golang-go") {
        for input in [&out, &file] {
            let output = Command::new("go")
                .args(["tool", "pprof", "-top", "-unit=MB", "-sample_index=alloc_space"])
                .arg(input)
                .env("HOME", dir.path())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("Type: alloc_space"), "{output:?}");
            if input == &out {
                assert!(text.contains("grow_large") && text.contains("churn"), "{text}");
            }
        }
    }
}

#[test]
fn threads_and_forked_children_count() {
    if zonal().is_none() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("heap.%p");
    let _ = profiled("threads", &file, "profile_rate:64K").run().success().quiet();
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|path| fs::metadata(path).unwrap().len());
    assert_eq!(files.len(), 2, "the program and its child: {files:?}");
    let live = files.iter().map(|file| folded(file, false).get("grow_large").copied());
    let live: Vec<u64> = live.map(Option::unwrap_or_default).collect();
    let parent = usize::from(live[1] < live[0]);
    assert_eq!(live[parent], 0, "all was freed, by another thread");
    assert_near("4 threads", folded(&files[parent], true)["work"], 4 * 48 * MB, 64 << 10);
    // The child has what its parent had at the fork, and its own.
    assert!(live[1 - parent] > 20 * MB, "{live:?}");
}

#[test]
fn signal_handlers_may_allocate_meanwhile() {
    if zonal().is_none() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("heap");
    let _ = profiled("signals", &file, "profile_rate:4K").run().success().quiet();
    let live = folded(&file, false);
    assert_near("grow_large", live["grow_large"], 90 * MB, 4 << 10);
}

/// What a handler has no room for is done later.
#[test]
fn signals_on_an_alternate_stack() {
    if !is_zonal() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("heap");
    let conf = format!("profile_signal:USR1,profile_file:{}", file.display());
    let program = Program::c("profile.c").arg("stack").arg(&file).env("ZONAL_CONF", conf);
    let _ = program.run().success().quiet();
}

#[test]
fn a_program_starts_stops_and_dumps_by_itself() {
    if zonal().is_none() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("heap");
    let _ = Program::c("profile.c").arg("api").arg(&file).run().success().quiet();
    let total = folded(&file, true);
    assert_near("grow_small", total["grow_small"], 30 * MB, 64 << 10);
    assert!(!total.contains_key("grow_large") && !total.contains_key("churn"), "{total:?}");
}

#[test]
fn the_leak_report_names_the_leaking_function() {
    let Some(zonal) = zonal() else { return };
    let program = Program::c("profile.c").arg("leak").env("ZONAL_CONF", "leaks:exit");
    let report = program.run().success().stderr;
    assert!(report.contains("are alive at exit, from 1 stack ("), "{report}");
    let mut child = Command::new(zonal)
        .arg("symbolize")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), report.as_bytes()).unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let frames: Vec<&str> = text.lines().filter(|line| line.contains('#')).collect();
    assert!(frames[0].contains("#0 grow_small at") && frames[0].contains("profile.c:"), "{text}");
    assert!(frames[1].contains("main"), "{text}");
    assert!(!text.contains("grow_large") && !text.contains("churn"), "{text}");
}

#[test]
fn a_running_process_is_profiled_from_outside() {
    let Some(zonal) = zonal() else { return };
    let dir = TempDir::new().unwrap();
    let mut child = Command::new(&zonal)
        .args(["run", "--conf", "profile_rate:64K", "--"])
        .arg(compile("profile.c"))
        .arg("serve")
        .env("ZONAL_LIB", library().unwrap())
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let profile = || {
        let output = Command::new(&zonal)
            .args(["profile", &child.id().to_string(), "--seconds", "1", "--folded", "-o", "-"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        by_function(&String::from_utf8(output.stdout).unwrap())
    };
    // Twice: the second one knows nothing of the first.
    let live = [profile(), profile()].map(|functions| functions["grow_small"]);
    assert!(live.iter().all(|bytes| (MB / 10..300 * MB).contains(bytes)), "{live:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Until the program waits for input: before, the loader has not mapped all of its libraries.
fn wait_for_sleep(child: &Child) {
    let stat = format!("/proc/{}/stat", child.id());
    let end = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&stat).unwrap().contains("(cat) S ") {
        assert!(Instant::now() < end, "the program did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_cannot_be_profiled_is_said_in_one_line() {
    let Some(zonal) = zonal() else { return };
    let mut plain = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut bare = Command::new("cat")
        .stdin(Stdio::piped())
        .env("LD_PRELOAD", library().unwrap())
        .spawn()
        .unwrap();
    // Without the library the signal would be its end: it must not be sent.
    let mut named = Command::new("cat")
        .stdin(Stdio::piped())
        .env("ZONAL_CONF", "profile_signal:USR1")
        .spawn()
        .unwrap();
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "no profile\n").unwrap();
    [&plain, &bare, &named].into_iter().for_each(wait_for_sleep);
    for (source, why) in [
        (plain.id().to_string(), "not started on zonal"),
        (bare.id().to_string(), "has no signal"),
        (named.id().to_string(), "does not answer"),
        ("4194305".into(), "no such process"),
        (text.display().to_string(), "not a heap profile"),
        ("/no/such/file".into(), "No such file"),
    ] {
        let output = Command::new(&zonal).args(["profile", &source]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{error}");
        assert!(error.contains(why) && error.lines().count() == 1, "{source}: {error}");
    }
    for child in [&mut plain, &mut bare, &mut named] {
        drop(child.stdin.take());
        let mut rest = String::new();
        if let Some(mut out) = child.stdout.take() {
            out.read_to_string(&mut rest).unwrap();
        }
        assert!(child.wait().unwrap().success(), "it lives on");
    }
}

#[test]
fn settings_without_a_profile_leave_no_file() {
    if !is_zonal() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let run = |conf: &str| {
        let program = Program::c("profile.c").arg("leak").dir(dir.path());
        program.env("ZONAL_CONF", conf).run().success()
    };
    let _ = run("profile:off,profile_signal:USR1").quiet();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let told = run("profile:on,profile_file:/no/such/folder/heap").stderr;
    assert!(told.contains("no heap profile in /no/such/folder/heap"), "{told}");
    let _ = run("profile:on").quiet();
    let name = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().file_name();
    assert!(name.to_string_lossy().starts_with("zonal.heap."), "{name:?}");
}
