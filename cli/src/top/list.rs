//! `zonal top` without a process: all that publish, largest first.

use std::io::{self, Write as _};

use anyhow::Result;
use serde_json::{Value, json};
use zonal_stats::Snapshot;

use crate::live::Live;
use crate::size::size;
use crate::style::Style;

/// A process that publishes.
pub(super) struct Entry {
    pub(super) pid: u32,
    name: String,
    snapshot: Box<Snapshot>,
}

/// What stands above the lines of [`Entry::line`].
pub(super) fn head() -> String {
    format!("{:>8} {:>10} {:>10} {:>8}  {}", "PID", "RESIDENT", "FREE", "THREADS", "NAME")
}

pub(super) const NOBODY: &str =
    "No process publishes its statistics. Start one with: zonal run -- PROGRAM";

/// Processes that are looked at together: each takes a descriptor.
const AT_ONCE: usize = 256;

impl Entry {
    /// All of them. Many are asked before the first is waited for.
    pub(super) fn all() -> Vec<Entry> {
        let mut found: Vec<Entry> = Live::all().chunks(AT_ONCE).flat_map(Self::some).collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.snapshot.memory().resident_bytes));
        found
    }

    fn some(pids: &[u32]) -> Vec<Entry> {
        // Some may have ended meanwhile.
        let lives: Vec<Live> = pids.iter().filter_map(|&pid| Live::open(pid).ok()).collect();
        Live::ask_all(&lives);
        let entry = |live: &Live| {
            let snapshot = live.last().ok()?;
            Some(Entry { pid: live.pid(), name: live.name(), snapshot })
        };
        lives.iter().filter_map(entry).collect()
    }

    pub(super) fn line(&self) -> String {
        let (memory, process) = (self.snapshot.memory(), &self.snapshot.process);
        let (resident, free) = (size(memory.resident_bytes), size(memory.free_resident_bytes));
        let threads = process.nr_threads();
        format!("{:>8} {resident:>10} {free:>10} {threads:>8}  {}", self.pid, self.name)
    }

    fn json(&self) -> Value {
        let memory = self.snapshot.memory();
        json!({
            "pid": self.pid,
            "name": self.name,
            "resident_bytes": memory.resident_bytes,
            "free_resident_bytes": memory.free_resident_bytes,
            "nr_heaps": self.snapshot.process.nr_heaps,
        })
    }
}

/// Prints a line for each process.
pub(super) fn print(as_json: bool) -> Result<()> {
    let found = Entry::all();
    let mut out = io::stdout().lock();
    if as_json {
        let processes: Vec<Value> = found.iter().map(Entry::json).collect();
        return Ok(writeln!(out, "{:#}", json!({ "version": 1, "processes": processes }))?);
    }
    if found.is_empty() {
        return Ok(writeln!(out, "{NOBODY}")?);
    }
    writeln!(out, "{}", Style::of_stdout().bold(&head()))?;
    found.iter().try_for_each(|entry| Ok(writeln!(out, "{}", entry.line())?))
}
