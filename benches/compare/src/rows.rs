//! What is run: patterns of `loads` at thread counts, and real programs.

use crate::Options;
use crate::programs::{self, Program};
use crate::run::Bench;

/// One row of the tables.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name in tables.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Rounds are not repeated beyond this.
    pub max_rounds: usize,
    /// Memory after a second of idling is of interest.
    pub idle: bool,
}

/// What a row runs.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Arguments for `loads`: pattern and options; the operations are scaled.
    Load {
        /// Name of the pattern.
        pattern: &'static str,
        /// Threads.
        threads: usize,
        /// Further options.
        extra: &'static [&'static str],
    },
    /// A pattern of the Rust loads, in the binary of the allocator.
    Rust {
        /// Name of the pattern.
        pattern: &'static str,
        /// Its operations.
        operations: u64,
        /// Threads.
        threads: usize,
    },
    /// A program of the machine.
    Program(Program),
}

/// Pattern, thread counts of the quick run, of the full run, further options, idling.
type Plan = (&'static str, &'static [usize], &'static [usize], &'static [&'static str], bool);

/// Threads of the full run.
const ALL: &[usize] = &[1, 2, 4, 8, 64];
/// The same where threads work in pairs: one would be two.
const PAIRS: &[usize] = &[2, 4, 8, 64];

const PLANS: &[Plan] = &[
    ("pairs", &[1], ALL, &[], false),
    ("pairs", &[1], ALL, &["-b", "64"], false),
    ("random", &[1, 2, 64], ALL, &[], true),
    ("larson", &[2, 8], ALL, &[], true),
    ("prodcons", &[2, 8], PAIRS, &[], true),
    ("exchange", &[2], PAIRS, &[], false),
    ("mstress", &[2, 8], ALL, &[], true),
    ("burst", &[1], ALL, &[], true),
    ("frag", &[1], ALL, &[], true),
    ("realloc", &[1], ALL, &[], false),
    ("calloc", &[1], ALL, &[], false),
    ("aligned", &[1], ALL, &[], false),
    ("blocks", &[1], ALL, &[], true),
    ("falseshare", &[2], ALL, &[], false),
    ("passive", &[2], ALL, &[], false),
    ("churn", &[2], ALL, &[], true),
    ("touch", &[1], ALL, &[], false),
    ("stack", &[1], ALL, &[], true),
    ("tree", &[2], ALL, &[], false),
    ("json", &[1], ALL, &[], false),
    ("onoff", &[1], ALL, &[], true),
];

/// Pattern of the Rust loads, operations, threads.
const RUST: &[(&str, u64, usize)] =
    &[("compile", 240, 1), ("compile", 240, 2), ("serde", 300, 1), ("serde", 300, 2)];

/// The rows asked for.
pub fn select(options: &Options, bench: &Bench) -> Vec<Row> {
    let mut rows = Vec::new();
    for &(pattern, quick, full, extra, idle) in PLANS {
        for &threads in if options.quick { quick } else { full } {
            let name = format!("{pattern}{} t{threads}", extra.concat().replace("-b", "-batch"));
            let kind = Kind::Load { pattern, threads, extra };
            let max_rounds = if pattern == "onoff" && options.quick { 1 } else { usize::MAX };
            rows.push(Row { name, kind, max_rounds, idle });
        }
    }
    for &(pattern, operations, threads) in RUST {
        if options.quick && threads != 1 {
            continue;
        }
        let name = format!("rust-{pattern} t{threads}");
        let kind = Kind::Rust { pattern, operations, threads };
        rows.push(Row { name, kind, max_rounds: usize::MAX, idle: false });
    }
    if !options.no_programs {
        for program in programs::available(bench) {
            let name = program.name.to_owned();
            rows.push(Row {
                name,
                kind: Kind::Program(program),
                max_rounds: usize::MAX,
                idle: false,
            });
        }
    }
    rows.retain(|row| {
        options.only.is_empty() || options.only.iter().any(|part| row.name.contains(part))
    });
    rows
}
