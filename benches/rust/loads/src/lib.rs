//! Loads of Rust programs: containers, trees and strings through `GlobalAlloc`, which knows size and
//! alignment at compile time. Each binary beside this package names its allocator and calls [`main`].
//!
//! `rust-NAME PATTERN [-t THREADS] [-n OPERATIONS]` prints `work_ns=... peak_kb=...` when done.

mod compile;
mod serde;

use std::fs;
use std::hint::black_box;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

/// A load: its name, what the default number of operations is, and one operation with a number.
type Pattern = (&'static str, u64, fn(u64) -> u64);

const PATTERNS: [Pattern; 3] =
    [("compile", 240, compile::unit), ("serde", 300, serde::request), ("pairs", 1_000_000, pair)];

/// A box that is dropped at once: for `gate.py`, which counts its instructions.
fn pair(n: u64) -> u64 {
    drop(black_box(Box::<[u64; 8]>::new_uninit()));
    n
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rust-loads: {message}");
            ExitCode::from(2)
        }
    }
}

/// The same on an allocator that can say its version: `rust-NAME version` prints it.
pub fn main_of(version: u32) -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| word == "version") {
        println!("{version}");
        return ExitCode::SUCCESS;
    }
    main()
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("which pattern?")?;
    if name == "list" {
        PATTERNS.iter().for_each(|(name, operations, _)| println!("{name} {operations}"));
        return Ok(());
    }
    let &(_, mut operations, work) =
        PATTERNS.iter().find(|p| p.0 == name).ok_or_else(|| format!("no pattern {name}"))?;
    let mut threads = 1;
    while let Some(option) = args.next() {
        let value = args.next().and_then(|v| v.parse::<u64>().ok());
        match (option.as_str(), value) {
            ("-t", Some(n)) if n >= 1 => threads = n,
            ("-n", Some(n)) => operations = n,
            _ => return Err(format!("{option}: unknown option or value")),
        }
    }
    let start = Instant::now();
    let sum: u64 = thread::scope(|scope| {
        let worker = |t: u64| (t..operations).step_by(threads as usize).map(work).sum::<u64>();
        let handles: Vec<_> = (1..threads).map(|t| scope.spawn(move || worker(t))).collect();
        let own = worker(0);
        own + handles.into_iter().map(|h| h.join().unwrap_or(0)).sum::<u64>()
    });
    let work_ns = start.elapsed().as_nanos();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    let peak = peak.trim().trim_end_matches(" kB");
    println!("work_ns={work_ns} peak_kb={peak} sum={sum}");
    Ok(())
}
