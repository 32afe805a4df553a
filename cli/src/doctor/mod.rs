//! `zonal doctor`: what stands between a program and zonal, what bounds its memory, and what to
//! change.
//!
//! Reading order: [`finding`] is what comes out; [`preload`] and [`allocators`] ask whether zonal
//! serves the program at all, [`statistics`] what it says of itself, [`settings`] what was asked of it, [`limits`]
//! what bounds it, [`machine`] how the kernel is set; [`render`] prints. Everything else is read from files of the
//! kernel ([`crate::system`]); no process is stopped.

mod allocators;
mod finding;
mod limits;
mod machine;
mod preload;
mod render;
mod settings;
mod statistics;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write as _};

use anyhow::{Result, bail};
use clap::Args;

use crate::run::program;
use crate::style::Style;
use crate::system::System;
use finding::{Finding, Level};

/// Whom to look at.
#[derive(Debug, Args)]
#[command(override_usage = "zonal doctor [--json] [PID | -- PROGRAM]")]
#[command(after_help = "\
Without PID or PROGRAM it looks at the machine and at the limits of this shell.

Exit status: 0 if there is no problem, 1 if there is one, 125 if it cannot look, 126 or 127 if \
PROGRAM cannot be executed or is not found.")]
pub(crate) struct DoctorArgs {
    /// A running process.
    #[arg(value_name = "PID", value_parser = pid)]
    pid: Option<u32>,

    /// A program, before it is started.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Whoever gives the name of a program learns where it belongs.
fn pid(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("not a process id; for a program: zonal doctor -- {text}"))
}

/// Prints the findings; the exit status tells whether there is a problem.
pub(crate) fn run(args: &DoctorArgs) -> Result<u8> {
    let (subject, findings) = match (args.pid, args.program.first()) {
        (Some(_), Some(_)) => bail!("give either PID or PROGRAM"),
        (Some(pid), None) => {
            let system = System::process(pid)?;
            let subject = format!("process {pid} ({})", system.name());
            let mut findings = preload::of_process(&system);
            if system.has_library() {
                findings.extend(statistics::of_process(pid));
            }
            (subject, examine(&system, findings))
        }
        (None, Some(name)) => {
            let path = program::find(name)?;
            // What cannot be read at all is no program to judge.
            std::fs::metadata(&path)
                .map_err(|error| program::NotStarted::from_exec(name, &error))?;
            let subject = format!("program {}", path.display());
            (subject, examine(&System::own(), preload::of_program(&path)))
        }
        (None, None) => ("this machine".into(), examine(&System::own(), Vec::new())),
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", render::json(&subject, &findings))?;
    } else {
        write!(out, "{}", render::text(&subject, &findings, Style::of_stdout()))?;
    }
    Ok(u8::from(findings.iter().any(|finding| finding.level == Level::Problem)))
}

fn examine(system: &System, mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.extend(settings::check(system));
    findings.extend(limits::check(system));
    findings.extend(machine::check(system));
    findings
}
