//! `zonal stats PID`: one report of a running process, in the forms that it could write itself.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use zonal_stats::Format;

use crate::live::Live;

/// The forms of a report.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// In the shape of the kernel's /proc files.
    Text,
    /// One JSON object on one line.
    Json,
    /// Prometheus text exposition.
    Prometheus,
}

/// Whom to look at, and how to print it.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// A process that publishes its statistics: one started by `zonal run`, or with
    /// ZONAL_CONF=stats:live.
    #[arg(value_name = "PID")]
    pid: u32,

    /// The form of the report.
    #[arg(long, value_enum, default_value = "text")]
    format: Form,

    /// Print JSON: the same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// How long to wait for a fresh report: kswapd's longest sleep, and some more.
const PATIENCE: Duration = Duration::from_millis(700);
/// A report older than this is worth a word.
const OLD: Duration = Duration::from_secs(2);

/// Prints the report. A process that does nothing renews nothing: then a line on stderr says how
/// old it is.
pub(crate) fn run(args: &StatsArgs) -> Result<()> {
    let snapshot = Live::open(args.pid)?.read_within(PATIENCE)?;
    let format = match args.format {
        _ if args.json => Format::Json,
        Form::Text => Format::Text,
        Form::Json => Format::Json,
        Form::Prometheus => Format::Prometheus,
    };
    let mut text = String::new();
    format.write(&mut text, &snapshot)?;
    io::stdout().write_all(text.as_bytes())?;
    let age = Live::age(&snapshot);
    if age > OLD {
        let (pid, seconds) = (args.pid, age.as_secs_f64());
        let asked = if snapshot.asked_kernel == 0 { "" } else { " (what is in memory: now)" };
        let text = format!("{pid} sleeps: its figures are {seconds:.1} s old{asked}");
        let _ = writeln!(io::stderr(), "zonal: {text}");
    }
    Ok(())
}
