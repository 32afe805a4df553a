//! `zonal top` without a process: all that publish, largest first.

use std::io::{self, Write as _};

use anyhow::Result;
use serde_json::json;

use crate::live::Live;
use crate::size::size;
use crate::style::Style;

/// Prints a line for each process.
pub(super) fn print(as_json: bool) -> Result<()> {
    let mut found = Vec::new();
    for pid in Live::all() {
        // It may have ended meanwhile.
        if let Ok(live) = Live::open(pid)
            && let Ok(snapshot) = live.read()
        {
            found.push((pid, live.name(), snapshot.memory(), snapshot.process));
        }
    }
    found.sort_by_key(|(_, _, memory, _)| std::cmp::Reverse(memory.resident_bytes));
    let mut out = io::stdout().lock();
    if as_json {
        let processes: Vec<_> = found
            .iter()
            .map(|(pid, name, memory, process)| {
                json!({
                    "pid": pid,
                    "name": name,
                    "resident_bytes": memory.resident_bytes,
                    "free_resident_bytes": memory.free_resident_bytes,
                    "nr_heaps": process.nr_heaps,
                })
            })
            .collect();
        return Ok(writeln!(out, "{:#}", json!({ "version": 1, "processes": processes }))?);
    }
    if found.is_empty() {
        let text = "No process publishes its statistics. Start one with: zonal run -- PROGRAM";
        return Ok(writeln!(out, "{text}")?);
    }
    let head =
        format!("{:>8} {:>10} {:>10} {:>8}  {}", "PID", "RESIDENT", "FREE", "THREADS", "NAME");
    writeln!(out, "{}", Style::of_stdout().bold(&head))?;
    for (pid, name, memory, process) in found {
        let (resident, free) = (size(memory.resident_bytes), size(memory.free_resident_bytes));
        let threads = process.nr_heaps - process.nr_dead_heaps.min(process.nr_heaps);
        writeln!(out, "{pid:>8} {resident:>10} {free:>10} {threads:>8}  {name}")?;
    }
    Ok(())
}
