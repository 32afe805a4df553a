//! `loads`: standard allocation patterns with fixed operation counts, one a run.
//!
//! Blocks come from the C symbols `malloc`, `calloc`, `realloc`, `posix_memalign` and `free`, and Rust's
//! own containers from its default allocator, which calls the same ones. So a library in `LD_PRELOAD`
//! serves all of it, and the binary is the same for every allocator.
//!
//! Prints one line `work_ns=... peak_kb=... end_kb=... idle_kb=...` when done.

mod block;
mod measure;
mod patterns;
mod rng;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::patterns::{PATTERNS, Params};

const USAGE: &str =
    "usage: loads PATTERN [-t THREADS] [-n OPERATIONS] [-s BYTES] [-b BATCH] [-i IDLE_MS]
       loads list
       loads served                               print the file that malloc comes from, and its version if it says one
       loads measure FILE PROGRAM [ARGUMENT]...   run a program and write its resource use to FILE";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("loads: {message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = std::env::args();
    let _self = args.next();
    let name = args.next().ok_or("which pattern?")?;
    match name.as_str() {
        "list" => {
            for pattern in PATTERNS {
                println!(
                    "{:<12} {:>12} operations  {}",
                    pattern.name, pattern.operations, pattern.about
                );
            }
            return Ok(());
        }
        "served" => {
            println!("{}", measure::serving_library());
            if let Some(version) = measure::serving_version() {
                println!("{version}");
            }
            return Ok(());
        }
        "measure" => return measure::program(args),
        _ => {}
    }
    let pattern =
        PATTERNS.iter().find(|p| p.name == name).ok_or_else(|| format!("no pattern {name}"))?;

    let mut params = Params { threads: 1, operations: pattern.operations, size: None, batch: 1 };
    let mut idle = Duration::ZERO;
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        let value: u64 = value.parse().map_err(|_| format!("{option} {value}: not a number"))?;
        match option.as_str() {
            "-t" if value >= 1 => params.threads = value as usize,
            "-n" => params.operations = value,
            "-s" => params.size = Some(value as usize),
            "-b" if value >= 1 => params.batch = value as usize,
            "-i" => idle = Duration::from_millis(value),
            _ => return Err(format!("{option} {value}: unknown option or value")),
        }
    }

    let start = Instant::now();
    let survivors = (pattern.run)(&params);
    let work = start.elapsed();
    let end = measure::resident();
    if !idle.is_zero() {
        std::thread::sleep(idle);
    }
    let last = measure::resident();
    drop(survivors);
    println!(
        "work_ns={} peak_kb={} end_kb={} idle_kb={}",
        work.as_nanos(),
        last.peak_kb,
        end.now_kb,
        last.now_kb
    );
    Ok(())
}
