//! The `zonal` command.
//!
//! `zonal run` starts a program with `libzonal.so` preloaded. It replaces itself by the program, so
//! that exit status, signals, descriptors and process id are the program's own.
//!
//! Rust's runtime would ignore SIGPIPE and open `/dev/null` on closed standard descriptors before
//! `main`, and the program would inherit both. Hence the C `main` below, and [`standard`].

#![cfg_attr(not(test), no_main)]

mod completions;
mod doctor;
mod live;
mod maps;
mod profile;
mod run;
mod size;
mod standard;
mod stats;
mod style;
mod system;
mod top;
mod topology;

use std::io::{self, Write as _};

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

/// Status of every failure of the command itself, as env(1) has it. 126 and 127 tell about the
/// program (see [`run::NotStarted`]); all other values are the program's own. 1 is a finding of the
/// doctor.
const OWN_FAILURE: u8 = 125;

/// Starts programs on the zonal memory allocator and shows where their memory is.
#[derive(Debug, Parser)]
#[command(
    name = "zonal",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Guide by task: docs/README.md. All settings of ZONAL_CONF: docs/CONFIGURATION.md. \
                  `make install` puts docs into share/doc/zonal, such as /usr/local/share/doc/zonal."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a program on zonal.
    Run(run::RunArgs),
    /// Print where a process's memory is, and what was done with it.
    Stats(stats::StatsArgs),
    /// Watch where a process's memory is, and what is done with it.
    Top(top::TopArgs),
    /// Show what each section of a process's memory holds, as a picture.
    Maps(maps::MapsArgs),
    /// Say what stands between a process and zonal, and what to change.
    Doctor(doctor::DoctorArgs),
    /// Draw the NUMA nodes as the library sees them, and where threads look for memory.
    Topology(topology::TopologyArgs),
    /// Write a heap profile of a process, or of a file that one left.
    Profile(profile::ProfileArgs),
    /// Put the names of functions into a leak report.
    Symbolize(profile::SymbolizeArgs),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArgs),
}

/// The C entry point: see the module documentation for why it is not Rust's.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const std::ffi::c_char) -> i32 {
    i32::from(start())
}

/// Runs the command line and says in one line why it failed.
#[cfg_attr(test, expect(dead_code, reason = "the test harness brings its own main"))]
fn start() -> u8 {
    standard::fill();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version come this way too; a reader that has gone is no failure of ours.
            let printed = usage.print().and_then(|()| io::stdout().flush());
            let is_lost = printed.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
            return if is_lost || usage.use_stderr() { OWN_FAILURE } else { 0 };
        }
    };
    match execute(cli.command) {
        Ok(status) => status,
        Err(error) => {
            let text = system::printable(&format!("{error:#}"));
            let _ = writeln!(io::stderr(), "zonal: {text}");
            error.downcast_ref::<run::NotStarted>().map_or(OWN_FAILURE, run::NotStarted::status)
        }
    }
}

/// Executes a subcommand; answers its exit status.
fn execute(command: Command) -> Result<u8> {
    match command {
        Command::Run(args) => run::run(&args).map(|never| match never {}),
        Command::Stats(args) => stats::run(&args).map(|()| 0),
        Command::Top(args) => top::run(&args).map(|()| 0),
        Command::Maps(args) => maps::run(&args).map(|()| 0),
        Command::Doctor(args) => doctor::run(&args),
        Command::Topology(args) => topology::print(&args, &mut io::stdout().lock()).map(|()| 0),
        Command::Profile(args) => profile::run(&args).map(|()| 0),
        Command::Symbolize(args) => profile::symbolize(&args, &mut io::stdout().lock()).map(|()| 0),
        Command::Completions(args) => {
            completions::print(&args, &mut Cli::command(), &mut io::stdout().lock()).map(|()| 0)
        }
    }
}
