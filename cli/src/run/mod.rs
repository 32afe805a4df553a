//! `zonal run`: find the library and the program, warn where a preload cannot work, then become the
//! program.
//!
//! Reading order: [`library`] and [`program`] find the two files, [`elf`] and [`warnings`] look into
//! them, [`environment`] makes `LD_PRELOAD` and `ZONAL_CONF`, [`exec`] takes the step.

pub(crate) mod elf;
mod environment;
mod exec;
pub(crate) mod library;
pub(crate) mod program;
pub(crate) mod warnings;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

pub(crate) use program::NotStarted;

use crate::profile::DEFAULT_SIGNAL;

/// What `zonal run` was asked for.
#[derive(Debug, Args)]
#[command(override_usage = "zonal run [OPTIONS] [--] PROGRAM [ARGS]...")]
#[command(after_help = "\
The program publishes its statistics for `zonal stats`, `top` and `maps` (stats:live) unless the \
key `stats` is set otherwise.

What --stats, --profile and --leaks write at exit is missing if PROGRAM ends by _exit, by a signal, \
or by becoming another program, as `sh -c` does.

The library is $ZONAL_LIB, or the libzonal.so beside this command, in ../lib or in the system's \
library folders.

Exit status: that of PROGRAM; 125 if zonal itself fails, 126 if PROGRAM cannot be started, 127 if \
it is not found.")]
pub(crate) struct RunArgs {
    /// Settings for zonal; they come after, and win over, those already in ZONAL_CONF.
    #[arg(long, value_name = "KEY:VALUE,...")]
    conf: Vec<OsString>,

    /// Report on stderr at exit: the same as --conf stats:exit+live.
    #[arg(long)]
    stats: bool,

    /// Sample allocations from the start and write a heap profile at exit; FILE may hold %p for the
    /// process id. For zonal profile or pprof to read.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "zonal.heap.%p")]
    profile: Option<PathBuf>,

    /// Report what is still alive at exit, by the stacks that allocated it: the same as
    /// --conf leaks:exit.
    #[arg(long)]
    leaks: bool,

    /// Do not warn about programs on which a preload has no effect.
    #[arg(long, short)]
    quiet: bool,

    /// Print what zonal says as JSON: one line on stderr before the program starts, and the report of
    /// --stats.
    #[arg(long)]
    json: bool,

    /// The program and its arguments.
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Becomes the program; returns only if that fails.
pub(crate) fn run(args: &RunArgs) -> Result<Infallible> {
    let library = library::find()?;
    let library_head = elf::Head::read(&library)?
        .with_context(|| format!("{}: not an ELF file", library.display()))?;
    let name = args.program.first().context("no program given")?;
    let path = program::find(name)?;
    let warnings = if args.quiet { Vec::new() } else { warnings::of(&path, &library_head) };
    announce(args.json, &path, &library, &warnings);
    let mut added = args.conf.clone();
    if args.stats {
        added.push("stats:exit+live".into());
    }
    if args.json {
        added.push("stats_format:json".into());
    }
    crate::live::tidy();
    if args.leaks {
        added.push("leaks:exit".into());
    }
    if let Some(file) = &args.profile {
        // The program may change its directory.
        let file = std::path::absolute(file).context("the current directory")?;
        let mut setting = OsString::from("profile_file:");
        setting.push(file);
        if setting.as_encoded_bytes().contains(&b',') {
            bail!("--profile: a comma in {:?} cannot be passed on", setting);
        }
        added.extend(["profile:on".into(), setting]);
    }
    // For `zonal stats`, `zonal profile` and their like, unless the user says what to do.
    let defaults = [("stats", "live"), ("profile_signal", DEFAULT_SIGNAL)];
    let variables = environment::with_zonal(std::env::vars_os(), &library, &added, &defaults)?;
    let error = exec::replace(&path, &args.program, variables)?;
    Err(NotStarted::from_exec(name, &error).into())
}

/// What there is to say before the program has stderr for itself.
fn announce(as_json: bool, program: &Path, library: &Path, warnings: &[String]) {
    let mut err = io::stderr();
    if as_json {
        let line = json!({
            "version": 1,
            // The program's, too.
            "pid": std::process::id(),
            "program": program.to_string_lossy(),
            "library": library.to_string_lossy(),
            "warnings": warnings,
        });
        let _ = writeln!(err, "{line}");
    } else {
        for warning in warnings {
            let _ = writeln!(err, "zonal: warning: {}: {warning}", program.display());
        }
    }
}
