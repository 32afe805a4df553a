//! Lines instead of a screen, in the manner of vmstat(8).

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Result;
use zonal_stats::{PAGE_SIZE, Snapshot};

use super::free_area::short;
use super::history::{History, RATES};
use crate::live::Live;
use crate::size::size;

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

const GAUGES: [&str; 5] = ["resident", "used", "cached", "free", "huge-kept"];

fn head() -> String {
    let gauges = GAUGES.map(|name| format!("{name:>10}")).concat();
    let rates = RATES.map(|rate| format!("{:>12}", rate.label)).concat();
    gauges + &rates
}

fn line(snapshot: &Snapshot, history: &History) -> String {
    let memory = snapshot.memory();
    let used = memory.used_small_bytes + memory.used_large_bytes + memory.used_huge_bytes;
    let cached = memory.cached_bytes + memory.slab_free_bytes + memory.pcp_bytes;
    let gauges =
        [memory.resident_bytes, used, cached, memory.free_resident_bytes, memory.huge_cached_bytes];
    let mut text = gauges.map(|bytes| format!("{:>10}", size(bytes))).concat();
    for (index, rate) in RATES.iter().enumerate() {
        let now = history.rates(index, 1).and_then(|rates| rates.last().copied());
        let value = match now {
            None => "-".into(),
            Some(rate_now) if rate.is_pages => short(rate_now / PAGE_SIZE),
            Some(rate_now) => short(rate_now),
        };
        text.push_str(&format!("{value:>12}"));
    }
    text
}
