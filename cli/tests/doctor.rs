//! `zonal doctor` about real processes and programs. An empty library stands in for zonal.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod place;

use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use place::{Place, stderr, stdout};
use serde_json::Value;

/// A program that sleeps, ended with the test.
struct Sleeper(Child);

impl Sleeper {
    /// Waits until the process has become `name` and sleeps: before, it is still a copy of this one, or
    /// the loader has not mapped all of its libraries.
    fn start(mut command: Command, name: &str) -> Self {
        let child = command.spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        let asleep = format!("({name}) S ");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !std::fs::read_to_string(&stat).unwrap().contains(&asleep) {
            assert!(Instant::now() < deadline, "{name} did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn doctor(place: &Place, arguments: &[&str]) -> Output {
    place.zonal().arg("doctor").args(arguments).output().unwrap()
}

#[track_caller]
fn assert_says(output: &Output, status: i32, text: &str) {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(stdout(output).contains(text), "{output:?}");
}

#[test]
fn a_process_with_and_without_the_library() {
    let place = Place::new();
    let mut command = place.zonal();
    command.args(["run", "--conf", "limit:1G", "--", "sleep", "60"]);
    let with = Sleeper::start(command, "sleep");
    let output = doctor(&place, &[&with.pid()]);
    assert_says(&output, 0, &format!("{} is loaded", place.library()));
    assert_says(&output, 0, "limit:1G");

    let mut command = Command::new("sleep");
    command.arg("60").env_remove("LD_PRELOAD");
    let without = Sleeper::start(command, "sleep");
    assert_says(&doctor(&place, &[&without.pid()]), 1, "started without it");
}

#[test]
fn a_static_process_tells_why_the_preload_failed() {
    let place = Place::new();
    let source = "#include <unistd.h>\nint main(void) { return sleep(60); }";
    let program = place.compile(source, &["-static"], "fixed");
    let mut command = Command::new(&program);
    command.env("LD_PRELOAD", place.library());
    let fixed = Sleeper::start(command, "fixed");
    let output = doctor(&place, &[&fixed.pid()]);
    assert_says(&output, 1, "LD_PRELOAD asks for it, but the program is statically linked");
}

#[test]
fn programs_are_judged_before_they_start() {
    let place = Place::new();
    let program = |source: &str, flags: &[&str], name: &str| {
        place.compile(source, flags, name).into_os_string().into_string().unwrap()
    };
    let plain = program("int main(void) { return 0; }", &[], "plain");
    assert_says(&doctor(&place, &["--", &plain]), 0, "can be preloaded");

    let fixed = program("int main(void) { return 0; }", &["-static"], "fixed");
    assert_says(&doctor(&place, &["--", &fixed]), 1, "statically linked");

    let source =
        "char m[64]; void *malloc(unsigned long n) { return m; } int main(void) { return 0; }";
    let own = program(source, &["-w"], "own");
    assert_says(&doctor(&place, &["--", &own]), 1, "defines malloc itself");
}

#[test]
fn json_holds_the_same_findings() {
    let place = Place::new();
    let output = doctor(&place, &["--json", "--", "true"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["version"], 1);
    let findings = report["findings"].as_array().unwrap();
    let text = doctor(&place, &["--", "true"]);
    for finding in findings {
        assert!(stdout(&text).contains(finding["found"].as_str().unwrap()), "{finding} {text:?}");
    }
    assert!(findings.iter().any(|finding| finding["check"] == "preload"), "{report}");
}

#[test]
fn who_cannot_be_looked_at_is_one_line() {
    let place = Place::new();
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let gone = child.id().to_string();
    for (arguments, status, line) in [
        (&[gone.as_str()][..], 125, format!("zonal: {gone}: no such process\n")),
        (&["--", "no-such-program"], 127, "zonal: no-such-program: program not found\n".into()),
    ] {
        let output = doctor(&place, arguments);
        assert_eq!((output.status.code(), stderr(&output)), (Some(status), line.as_str()));
    }
    let output = doctor(&place, &["ls"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("zonal doctor -- ls"), "{output:?}");
}
