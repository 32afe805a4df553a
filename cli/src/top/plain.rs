//! Lines instead of a screen, in the manner of vmstat(8).

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Result;
use zonal_stats::{PAGE_SIZE, Snapshot};

use super::free_area::short;
use super::history::{History, RATES};
use crate::live::Live;
use crate::size::compact;

/// The head comes again after so many lines.
const PAGE: u64 = 20;

/// Prints a line at each interval, `count` of them or until the process ends.
pub(super) fn print(live: &Live, interval: Duration, count: Option<u64>, json: bool) -> Result<()> {
    let mut history = History::default();
    let mut out = io::stdout().lock();
    let mut printed = 0;
    loop {
        let snapshot = live.read()?;
        history.push(&snapshot);
        if json {
            let mut line = String::new();
            zonal_stats::json::write(&mut line, &snapshot)?;
            out.write_all(line.as_bytes())?;
        } else {
            if printed % PAGE == 0 {
                writeln!(out, "{}", head())?;
            }
            writeln!(out, "{}", line(&snapshot, &history))?;
        }
        out.flush()?;
        printed += 1;
        if count.is_some_and(|count| printed >= count) {
            return Ok(());
        }
        std::thread::sleep(interval);
    }
}

/// What there is, and how wide its column: all of a line fits into 80.
const GAUGES: [(&str, usize); 5] =
    [("resident", 8), ("used", 6), ("cached", 7), ("free", 6), ("kept", 6)];

/// What is counted, in [`RATES`], under a short name.
const COUNTS: [(&str, usize, &str); 7] = [
    ("alloc", 6, "pgalloc"),
    ("fault", 6, "pgfault"),
    ("scan", 6, "pgscan"),
    ("steal", 6, "pgsteal"),
    ("refault", 8, "refault"),
    ("refill", 7, "bin_refill"),
    ("stall", 6, "allocstall"),
];

fn head() -> String {
    let gauges = GAUGES.map(|(name, width)| format!("{name:>width$}")).concat();
    let counts = COUNTS.map(|(name, width, _)| format!("{name:>width$}")).concat();
    let groups = [("memory", 33), ("pages a second", 32), ("events", 13)]
        .map(|(name, width)| format!(" {:-^1$}", name, width - 1))
        .concat();
    format!("{groups}\n{gauges}{counts}")
}

fn line(snapshot: &Snapshot, history: &History) -> String {
    let memory = snapshot.memory();
    let used = memory.used_small_bytes + memory.used_large_bytes + memory.used_huge_bytes;
    let cached = memory.cached_bytes + memory.slab_free_bytes + memory.pcp_bytes;
    let gauges =
        [memory.resident_bytes, used, cached, memory.free_resident_bytes, memory.huge_cached_bytes];
    let mut text = String::new();
    for ((_, width), bytes) in GAUGES.into_iter().zip(gauges) {
        text.push_str(&format!("{:>width$}", compact(bytes)));
    }
    for (_, width, label) in COUNTS {
        let index = RATES.iter().position(|rate| rate.label == label);
        let now = index.and_then(|index| {
            let rate = history.rates(index, 1)?.last().copied()?;
            Some(if RATES[index].is_pages { rate / PAGE_SIZE } else { rate })
        });
        text.push_str(&format!("{:>width$}", now.map_or("-".into(), short)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_a_terminal() {
        for line in head().lines() {
            assert_eq!(line.len(), 78, "{line}");
        }
        let mut history = History::default();
        let mut snapshot = Box::<Snapshot>::default();
        for second in 1..3 {
            snapshot.taken_ns = second * 1_000_000_000;
            snapshot.heap_events.bin_refill = second * 8_765;
            snapshot.nr_nodes = 1;
            snapshot.nodes[0].memory.resident_bytes = 1 << 40;
            snapshot.nodes[0].events.pgalloc = second * 12_345;
            history.push(&snapshot);
        }
        let line = line(&snapshot, &history);
        assert_eq!(line.len(), 78, "{line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["1.0T", "0", "0", "0", "0", "12k", "0", "0", "0", "0", "8765", "0"]);
    }
}
