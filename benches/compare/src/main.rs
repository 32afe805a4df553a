//! `compare`: loads x allocators, interleaved, in child processes with `LD_PRELOAD`.
//!
//! One round runs every allocator on one load before the next load, so that a slow minute of the
//! machine falls on all of them alike, in an order drawn anew each time: what a run leaves behind,
//! huge pages or none, is met by another one the next time. Medians over the rounds are compared.

mod allocators;
mod plot;
mod programs;
mod rows;
mod run;
mod stats;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::allocators::Allocator;
use crate::rows::{Kind, Row};
use crate::run::{Bench, Sample};

/// Compare allocators on loads: CPU time, wall time, memory, faults.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// About five minutes: fewer rows, three rounds, of the installed peers only tcmalloc
    #[arg(long)]
    quick: bool,
    /// Rounds; the medians are reported [default: 7, quick: 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// Multiplies the number of operations of each load
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only the rows whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these allocators
    #[arg(long, value_delimiter = ',')]
    allocators: Vec<String>,
    /// The allocator that ratios refer to
    #[arg(long, default_value = "mimalloc3")]
    base: String,
    /// The library under test [default: the release build beside benches/]
    #[arg(long, env = "ZONAL_LIB")]
    zonal: Option<PathBuf>,
    /// A further allocator, or the same with other settings: NAME=FILE[,VARIABLE=VALUE]...
    #[arg(long)]
    also: Vec<String>,
    /// Leave the real programs out
    #[arg(long)]
    no_programs: bool,
    /// Take the peers as they were built
    #[arg(long)]
    no_build: bool,
    /// Name of the files written to benches/results/
    #[arg(long)]
    name: Option<String>,
    /// Run nothing: tables and picture from the samples of an earlier run, results/NAME.csv
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    from: Option<String>,
    /// Print the rows and the allocators, and run nothing
    #[arg(long)]
    list: bool,
}

impl Options {
    /// Whether there is no comparison without this allocator.
    fn needs(&self, name: &str) -> bool {
        let is_named = self.allocators.iter().any(|named| named == name);
        is_named || name == "zonal" || name == self.base
    }
}

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of this workspace.
fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn compare(options: &Options) -> io::Result<()> {
    let results = home().join("results");
    std::fs::create_dir_all(&results)?;
    let name = options.from.as_deref().or(options.name.as_deref());
    let name = name.unwrap_or(if options.quick { "quick" } else { "full" });
    let raw = results.join(format!("{name}.csv"));
    if options.from.is_none() && !run_all(options, &raw)? {
        return Ok(());
    }
    let samples: Vec<Sample> =
        csv::Reader::from_path(&raw)?.deserialize().collect::<Result<_, _>>()?;
    let summary = stats::summarise(&samples, &options.base);
    table::print(&summary);
    let picture = results.join(format!("{name}.svg"));
    plot::draw(&summary, &picture).map_err(|error| io::Error::other(error.to_string()))?;
    println!("\nfrom {}: {}", raw.display(), picture.display());
    Ok(())
}

/// Runs what is asked for and writes the samples; false where only a list is wanted.
fn run_all(options: &Options, raw: &Path) -> io::Result<bool> {
    let bench = Bench::new()?;
    let rows = rows::select(options, &bench);
    let allocators = allocators::select(options, &bench)?;
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        return Ok(false);
    }
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 7 }).max(1);
    let idle_rounds = if options.quick { 1 } else { 3 };
    let times = (rounds, idle_rounds);
    let samples = measure(&bench, &rows, &allocators, times, options.scale);
    let mut writer = csv::Writer::from_path(raw)?;
    samples.iter().try_for_each(|sample| writer.serialize(sample))?;
    writer.flush()?;
    Ok(true)
}

/// Every row on every allocator, round after round; the last turns idle instead of being timed.
fn measure(
    bench: &Bench,
    rows: &[Row],
    allocators: &[Allocator],
    (rounds, idle_rounds): (usize, usize),
    scale: f64,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut random = fastrand::Rng::with_seed(0);
    let mut order: Vec<_> = allocators.iter().collect();
    let all = rounds + idle_rounds;
    for round in 0..all {
        let idle = round >= rounds;
        for row in rows {
            if round >= row.max_rounds && !idle || idle && !row.idle {
                continue;
            }
            eprint!("\r\x1b[Kround {} of {all}: {}", round + 1, row.name);
            random.shuffle(&mut order);
            for &allocator in &order {
                if allocator.rust_only && !matches!(row.kind, Kind::Rust { .. }) {
                    continue;
                }
                match bench.run(row, allocator, round, scale, idle) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => eprintln!("\r\x1b[K{} on {}: {error}", row.name, allocator.name),
                }
            }
        }
    }
    eprintln!("\r\x1b[K");
    samples
}
