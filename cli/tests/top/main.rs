//! `zonal top`, `zonal stats` and `zonal maps` on a terminal and without one, of a process that publishes made-up
//! figures: this one.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod publisher;
mod terminal;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use publisher::Publisher;
use terminal::Terminal;

const ZONAL: &str = env!("CARGO_BIN_EXE_zonal");

fn zonal(arguments: &[&str]) -> Command {
    let mut command = Command::new(ZONAL);
    command.args(arguments);
    command
}

fn own_pid() -> String {
    std::process::id().to_string()
}

/// All that needs the published page, one after the other: there is one page.
#[test]
fn a_process_that_publishes() {
    let publisher = Publisher::start();
    the_screen_and_its_keys();
    a_large_screen();
    lines_without_a_terminal();
    the_list_of_processes();
    a_process_is_chosen_from_the_list();
    the_picture_of_sections();
    one_report_in_three_forms();
    nothing_is_written_to_a_page_in_place_of_what_is_closed();
    a_reader_with_another_clock_leaves_the_page();
    drop(publisher);
    let output = zonal(&["maps", &own_pid()]).output().unwrap();
    assert_one_line(&output, "zonal is not in this process");
}

fn the_screen_and_its_keys() {
    let mut terminal = Terminal::start(zonal(&["top", &own_pid(), "--interval", "0.1"]));
    let screen = terminal.wait_for(|screen| screen.contains("q quit"));
    for text in [
        "zonal top",
        "5 threads  zonal 0.1.0  every 100ms",
        "of 2.0 GiB",
        "used 640M",
        "node 0",
        "Large warm",
        "4321",
        "pcp",
        "slabs",
        "allocstall",
    ] {
        assert!(screen.contains(text), "{text:?} is not on the screen:\n{screen}");
    }
    // Stalls at a hundred a second, in red: two samples make a rate.
    let rate = |screen: &str| {
        let words: Vec<&str> = screen.split_whitespace().collect();
        words.windows(2).any(|pair| pair == ["allocstall", "100"])
    };
    let screen = terminal.wait_for(rate);
    assert!(screen.contains('\u{2588}'), "no bar:\n{screen}");
    assert!(terminal.is_coloured("\u{2588}") && terminal.is_alternate());

    terminal.press("2");
    terminal.wait_for(|screen| screen.contains("partial") && screen.contains("4777"));
    terminal.press("s");
    terminal.wait_for(|screen| screen.contains("sort: free"));
    terminal.press("\t");
    terminal.wait_for(|screen| screen.contains("Sl--"));
    terminal.press("?");
    terminal.wait_for(|screen| screen.contains("any key closes"));
    terminal.press("x1");
    terminal.wait_for(|screen| screen.contains("pgalloc") && !screen.contains("any key closes"));
    terminal.press("p");
    terminal.wait_for(|screen| screen.contains("paused") && screen.contains("go on"));
    terminal.press("q");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{status}");
    assert_eq!(screen.trim(), "", "the terminal is left as it was");
}

fn a_large_screen() {
    let mut terminal = Terminal::sized(zonal(&["top", &own_pid()]), 60, 200);
    let screen = terminal.wait_for(|screen| screen.contains("q quit"));
    assert!(screen.lines().count() == 60 && screen.contains("pgsteal"), "{screen}");
    terminal.press("\x03");
    assert!(terminal.end().0.success());
}

fn lines_without_a_terminal() {
    let output = zonal(&["top", &own_pid(), "-i", "0.1", "-n", "3"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    assert_eq!((lines[1][0], lines[1][1]), ("resident", "used"));
    assert_eq!(lines[3][..2], ["700M", "640M"]);
    assert_eq!(lines[3][11], "100", "stalls a second: {text}");

    let output = zonal(&["top", &own_pid(), "--json", "-i", "0.1", "-n", "2"]).output().unwrap();
    let mut times = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let report: serde_json::Value = serde_json::from_str(line).unwrap();
        times.push(report["taken_ns"].as_u64().unwrap());
    }
    assert!(times.len() == 2 && times[0] < times[1], "{times:?}");
}

fn the_list_of_processes() {
    let output = zonal(&["top"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let own = text.lines().find(|line| line.trim_start().starts_with(&own_pid()));
    assert!(own.is_some_and(|line| line.contains("700 MiB")), "{text}");
    let output = zonal(&["top", "--json"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut processes = list["processes"].as_array().unwrap().iter();
    assert!(processes.any(|process| process["pid"] == std::process::id()), "{list}");
}

/// Others may publish on this machine, too: each is looked at until it is this one.
fn a_process_is_chosen_from_the_list() {
    let mut terminal = Terminal::start(zonal(&["top", "-i", "0.1"]));
    terminal.wait_for(|screen| screen.contains("RESIDENT") && screen.contains("Enter"));
    for tries in 1.. {
        terminal.press("\r");
        let screen = terminal.wait_for(|screen| screen.contains("p pause"));
        terminal.press("q");
        terminal.wait_for(|screen| screen.contains("Enter"));
        if screen.contains(&format!("(pid {})", own_pid())) {
            break;
        }
        assert!(tries < 100, "this process is not on the list:\n{screen}");
        terminal.press("j");
    }
    terminal.press("q");
    let (status, screen) = terminal.end();
    assert!(status.success() && screen.trim().is_empty(), "{status} {screen}");
}

fn the_picture_of_sections() {
    let output = zonal(&["maps", &own_pid()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("0x7f0000000000") && text.contains("Sl--"), "{text}");
    let output = zonal(&["maps", "--json", &own_pid()]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sections"][0]["pageblocks"][0]["slab"], 512, "{report}");
}

fn one_report_in_three_forms() {
    let stats = |arguments: &[&str]| {
        let output = zonal(&["stats", &own_pid()]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(stats(&[]).contains("Node 0, zone"));
    assert_eq!(stats(&["--json"]).lines().count(), 1);
    let report: serde_json::Value = serde_json::from_str(&stats(&["--format", "json"])).unwrap();
    assert_eq!(report["memory"]["used_small_bytes"], 640 << 20);
    assert!(stats(&["--format", "prometheus"]).contains("zonal_vmstat_allocstall_total"));
}

/// A file that the command opens must not get the number of a standard descriptor: it would print there.
fn nothing_is_written_to_a_page_in_place_of_what_is_closed() {
    let own = own_pid();
    let commands = [
        vec!["run", "--", "true"],
        vec!["stats", &own],
        vec!["top", "--json", "-n", "1", &own],
        vec!["top", "-n", "1", &own],
        vec!["top", "-n", "1"],
        vec!["top"],
        vec!["maps", &own],
        vec!["doctor", &own],
        vec!["topology"],
        vec!["profile", &own],
        vec!["symbolize", "/"],
        vec!["completions", "bash"],
        vec!["no-such-command"],
    ];
    for closed in ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-"] {
        for arguments in &commands {
            let script = format!("exec {ZONAL} {} {closed}", arguments.join(" "));
            Command::new("sh").args(["-c", &script]).output().unwrap();
            let output = zonal(&["stats", &own]).output().unwrap();
            assert!(output.status.success(), "{script}: {output:?}");
        }
    }
}

/// In another time namespace every process seems to have started at another time.
fn a_reader_with_another_clock_leaves_the_page() {
    let elsewhere = ["--time", "--boottime", "1000"];
    if !Command::new("unshare").args(elsewhere).arg("true").status().is_ok_and(|it| it.success()) {
        // There are none, or they are not for this user.
        return;
    }
    for arguments in [&["top", "-n", "1"][..], &["stats", &own_pid()]] {
        let output =
            Command::new("unshare").args(elsewhere).arg(ZONAL).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let output = zonal(&["stats", &own_pid()]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

/// One line on stderr, nothing on stdout, and a status that is not zero.
#[track_caller]
fn assert_one_line(output: &Output, text: &str) {
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("zonal: ") && stderr.contains(text), "{stderr}");
}

#[test]
fn who_cannot_be_watched_is_one_line() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let mut foreign = Command::new("sleep").arg("60").env_remove("LD_PRELOAD").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    for (pid, text) in
        [(gone.id(), "no such process"), (foreign.id(), "zonal is not in this process")]
    {
        for command in ["top", "maps", "stats"] {
            assert_one_line(&zonal(&[command, &pid.to_string()]).output().unwrap(), text);
        }
    }
    foreign.kill().unwrap();
    // Dead, but not yet taken note of by its parent.
    let state = format!("/proc/{}/stat", foreign.id());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&state).unwrap().contains(") Z") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = zonal(&["top", &foreign.id().to_string()]).output().unwrap();
    assert_one_line(&output, "no such process");
    foreign.wait().unwrap();
    let output = zonal(&["top", "--interval", "0", "1"]).output().unwrap();
    assert_one_line(&output, "--interval");
    let output = zonal(&["top", "-n", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert_one_line(&zonal(&["symbolize", "/"]).output().unwrap(), "/: Is a directory");
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("zonal.1.pb.gz");
    std::fs::write(&packed, [0x1f, 0x8b, 8, 0]).unwrap();
    let output = zonal(&["profile", packed.to_str().unwrap()]).output().unwrap();
    assert_one_line(&output, "for pprof to read");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(zonal(&["help", "run"]).stdout(full).status().unwrap().code(), Some(125));
}

#[test]
fn a_process_of_somebody_else_is_one_line() {
    // SAFETY: takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    // Somebody else may not be able to reach the folder of the build.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("zonal");
    // What this process writes, the child of another thread may have open when it is to be executed.
    assert!(Command::new("cp").arg(ZONAL).arg(&copy).status().unwrap().success());
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    for command in ["top", "maps", "stats", "doctor"] {
        let mut command = if is_root {
            let mut other = Command::new(&copy);
            other.args([command, &own_pid()]).uid(65534).gid(65534);
            other
        } else {
            zonal(&[command, "1"])
        };
        assert_one_line(&command.output().unwrap(), "permission denied");
    }
}
