//! The completions name every subcommand, and the shells accept them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::io::Write as _;
use std::process::{Command, Stdio};

const ZONAL: &str = env!("CARGO_BIN_EXE_zonal");

/// Subcommands, as `zonal help` lists them.
fn subcommands() -> Vec<String> {
    let help = Command::new(ZONAL).arg("help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = list.take_while(|line| !line.is_empty()).map(|line| line.split_whitespace().next());
    names.map(|name| name.unwrap().to_owned()).collect()
}

#[test]
fn every_shell_learns_every_subcommand() {
    let names = subcommands();
    assert!(names.len() > 3, "{names:?}");
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(ZONAL).args(["completions", shell]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let script = String::from_utf8(output.stdout).unwrap();
        for name in &names {
            assert!(script.contains(name.as_str()), "{shell} lacks {name}");
        }
    }
}

#[test]
fn bash_completes_a_subcommand() {
    let output = Command::new(ZONAL).args(["completions", "bash"]).output().unwrap();
    let mut script = String::from_utf8(output.stdout).unwrap();
    script.push_str("\nCOMP_WORDS=(zonal top); COMP_CWORD=1; _zonal zonal top zonal\n");
    script.push_str("printf '%s\\n' \"${COMPREPLY[@]}\"\n");
    let mut bash = Command::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.lines().any(|word| word == "topology"), "{words}");
}

#[test]
fn a_reader_that_has_gone_is_no_crash() {
    let script = format!("{ZONAL} completions zsh | head -1");
    let output = Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("#compdef zonal"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
