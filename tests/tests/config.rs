//! `ZONAL_CONF`: what is unknown or wrong costs one line, what is right has its effect.

use zonal_tests::{Outcome, Program, is_zonal};

fn with(settings: &str) -> Outcome {
    Program::c("true.c").env("ZONAL_CONF", settings).run().success().stdout_is("")
}

#[test]
fn one_line_for_what_is_not_understood() {
    if !is_zonal() {
        return;
    }
    for wrong in [
        "nonsense:1",
        "nonsense",
        ":",
        "stats:maybe",
        "limit:",
        "limit:-1",
        "limit:12parsecs",
        "limit:99999999999999999999999",
        "thp:sometimes",
        "policy:bind",
        "policy:nowhere=0",
        "stats_format:xml",
        "numa:perhaps",
        "syscalls:none",
        "nonsense:\u{fc}\u{1f600}",
    ] {
        for settings in
            [wrong.to_owned(), format!("{wrong},thp:never"), format!("thp:never,{wrong}")]
        {
            let outcome = with(&settings);
            let key = wrong.split(':').next().unwrap_or_default();
            let fits = outcome.stderr.lines().count() == 1 && outcome.stderr.contains(key);
            assert!(fits, "{settings}: {:?}", outcome.stderr);
        }
    }
    let long = format!("{}:{}", "k".repeat(5000), "v".repeat(50_000));
    assert_eq!(with(&long).stderr.lines().count(), 1);
}

/// A node that is not there cannot be kept to a limit.
#[test]
fn a_limit_of_a_node_without_memory_is_told() {
    if is_zonal() {
        let said = with("node_limit:63=1G").stderr;
        assert!(said.lines().count() == 1 && said.contains("node 63"), "{said}");
        with("node_limit:0=1G").quiet();
    }
}

/// The first call of this program comes before the C library has set `environ`.
#[test]
fn settings_of_a_process_that_allocates_very_early() {
    if is_zonal() {
        let run = Program::c("early.c").env("ZONAL_CONF", "nonsense:1").run().success();
        assert_eq!(run.stderr.lines().count(), 1, "{:?}", run.stderr);
    }
}

#[test]
fn silence_for_what_is_right() {
    if !is_zonal() {
        return;
    }
    for right in [
        "",
        ",",
        ",,",
        "thp:auto",
        "thp:always",
        "thp:never",
        "limit:1G",
        "limit:512M",
        "policy:local",
        "policy:bind=0",
        "policy:interleave=0",
        "policy:preferred=0",
        "numa:off",
        "syscalls:minimal",
        "stats_format:json",
        "thp:never,limit:2G,,numa:on,",
    ] {
        with(right).quiet();
    }
}

#[test]
fn report_at_exit() {
    if !is_zonal() {
        return;
    }
    let text = with("stats:exit").stderr;
    assert!(text.lines().count() > 5, "a report of {text:?}");

    let json = with("stats:exit,stats_format:json").stderr;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(report.as_object().is_some_and(|object| object.len() > 2), "{report}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let settings = format!("stats:exit,stats_format:json,stats_file:{}", path.display());
    with(&settings).quiet();
    let _: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    // A file that cannot be had costs one line, and the report is on stderr.
    let said = with("stats:exit,stats_file:/nowhere/at/all").stderr;
    let first = said.lines().next().unwrap_or_default();
    assert!(first.contains("no such folder") && first.contains("/nowhere/at/all"), "{said}");
    assert!(said.lines().count() > 5, "no report: {said}");
}

#[test]
fn limit_is_kept() {
    if !is_zonal() {
        return;
    }
    for (size, count) in [("500", "67108864"), ("40000", "64M"), ("3000000", "64m")] {
        Program::c("exhaust.c")
            .args([format!("size={size}").as_str(), "limit=64", "least=70"])
            .env("ZONAL_CONF", format!("limit:{count}"))
            .run()
            .success()
            .quiet()
            .stdout_has("of 64");
        // The same limit, seen from outside: the process cannot hold more.
        Program::c("exhaust.c")
            .args([format!("size={size}").as_str(), "limit=64", "least=101"])
            .env("ZONAL_CONF", format!("limit:{count}"))
            .run()
            .stderr
            .find("only")
            .expect("more than the limit was given");
    }
}
