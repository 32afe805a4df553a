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

use anyhow::{Context as _, Result};
use clap::Args;

pub(crate) use program::NotStarted;

/// What `zonal run` was asked for.
#[derive(Debug, Args)]
#[command(override_usage = "zonal run [OPTIONS] [--] PROGRAM [ARGS]...")]
#[command(after_help = "\
The program publishes its statistics for `zonal stats`, `top` and `maps` (stats:live) unless the \
key `stats` is set otherwise.

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

    /// Do not warn about programs on which a preload has no effect.
    #[arg(long, short)]
    quiet: bool,

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
    if !args.quiet {
        for warning in warnings::of(&path, &library_head) {
            let _ = writeln!(io::stderr(), "zonal: warning: {}: {warning}", path.display());
        }
    }
    let mut added = args.conf.clone();
    if args.stats {
        added.push("stats:exit+live".into());
    }
    crate::live::tidy();
    let variables = environment::with_zonal(std::env::vars_os(), &library, &added)?;
    let error = exec::replace(&path, &args.program, variables)?;
    Err(NotStarted::from_exec(name, &error).into())
}
