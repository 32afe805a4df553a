//! `zonal profile`: from a running process or from a file that one wrote, to something to look at.
//!
//! ```text
//!   process --signal--> its file --.
//!                                   +--> dump --> symbols --> pprof.pb.gz, or folded stacks
//!   file of `zonal run --profile` --'
//! ```
//!
//! [`target`] reaches the process, [`dump`] reads what it wrote, [`symbols`] finds functions and
//! lines in the files that were mapped, [`pprof`] and [`folded`] write.

mod dump;
mod folded;
mod pprof;
mod symbolize;
mod symbols;
mod target;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use crate::size::size;
use dump::Dump;
use symbols::Symbols;
use target::Target;

pub(crate) use symbolize::{SymbolizeArgs, run as symbolize};
pub(crate) use target::DEFAULT_SIGNAL;

/// What `zonal profile` was asked for.
#[derive(Debug, Args)]
#[command(after_help = "\
A process can be profiled if it was started by `zonal run`, or with profile_signal in ZONAL_CONF. \
Look at the result with `go tool pprof`, https://www.speedscope.app, or, with --folded, \
flamegraph.pl.")]
pub(crate) struct ProfileArgs {
    /// A process, or a file that `zonal run --profile` left.
    #[arg(value_name = "PID|FILE")]
    source: String,

    /// How long to watch the process: 10, or 0 if it is profiled since its start.
    #[arg(long, short, value_name = "N")]
    seconds: Option<u64>,

    /// Where to write; - is standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write one line for each stack, as flame graphs are made of, rather than pprof's format.
    #[arg(long)]
    folded: bool,

    /// With --folded: all bytes that were allocated, rather than those still alive.
    #[arg(long, requires = "folded")]
    total: bool,

    /// Print the line about the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Takes or reads a profile and writes it.
pub(crate) fn run(args: &ProfileArgs) -> Result<()> {
    let (text, root, name) = match args.source.parse::<u32>() {
        Ok(pid) => {
            let target = Target::find(pid)?;
            let text = target.take(args.seconds.map(Duration::from_secs))?;
            (text, target.root(), pid.to_string())
        }
        Err(_) => {
            if args.seconds.is_some() {
                bail!("--seconds needs a process");
            }
            (read(Path::new(&args.source))?, PathBuf::from("/"), stem(&args.source))
        }
    };
    let dump =
        Dump::parse(&text).with_context(|| format!("{}: not a heap profile", args.source))?;
    if let Some(lost) = dump.lost.filter(|lost| *lost > 0) {
        let mut err = io::stderr();
        let _ = writeln!(err, "zonal: {lost} sampled objects found no place and count as freed");
    }
    if dump.stacks.is_empty() {
        let why = "little was allocated, or only objects that were freed just before";
        let _ = writeln!(io::stderr(), "zonal: no sample: {why}");
    }
    let mut symbols = Symbols::new(&dump.mappings, &root);
    let bytes = if args.folded {
        folded::write(&dump, &mut symbols, args.total)
    } else {
        pprof::write(&dump, &mut symbols)?
    };
    let suffix = if args.folded { "folded" } else { "pb.gz" };
    let path = args.output.clone().unwrap_or_else(|| format!("zonal.{name}.{suffix}").into());
    if path.as_os_str() == "-" {
        return io::stdout().lock().write_all(&bytes).context("standard output");
    }
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    let (live, total, stacks) = (dump.live_bytes(), dump.total_bytes(), dump.stacks.len());
    let text = if args.json {
        json!({
            "version": 1,
            "file": path.to_string_lossy(),
            "rate_bytes": dump.rate,
            "live_bytes": live,
            "total_bytes": total,
            "nr_stacks": stacks,
            "nr_lost": dump.lost,
        })
        .to_string()
    } else {
        let (live, total, plural) = (size(live), size(total), if stacks == 1 { "" } else { "s" });
        format!("{}: {live} alive, {total} allocated, from {stacks} stack{plural}", path.display())
    };
    writeln!(io::stdout(), "{text}").context("standard output")
}

fn read(path: &Path) -> Result<String> {
    const GZIP: &[u8] = &[0x1f, 0x8b];
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    if bytes.starts_with(GZIP) {
        let what = "compressed: a result of `zonal profile`, for pprof to read";
        bail!("{}: not what `zonal run --profile` leaves but {what}", path.display());
    }
    // Paths of mappings need not be text.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `zonal.heap.17` of `dir/zonal.heap.17`: the name of an output beside the input.
fn stem(source: &str) -> String {
    let name = Path::new(source).file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "profile".into());
    name.strip_prefix("zonal.").map_or_else(|| name.clone(), str::to_owned)
}
