//! What was, for sparklines and rates.

use std::collections::VecDeque;

use zonal_stats::{Figures as _, PAGE_SIZE, Snapshot};

/// Samples that are kept: more than any terminal has columns.
const LENGTH: usize = 512;

/// A counter whose speed is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Its name on the screen.
    pub(super) label: &'static str,
    /// Its names in the reports; the sum counts.
    names: &'static [&'static str],
    /// Whether it counts pages, and is shown in bytes.
    pub(super) is_pages: bool,
    /// Whether anything but zero is bad news.
    pub(super) is_trouble: bool,
}

const fn pages(label: &'static str, names: &'static [&'static str]) -> Rate {
    Rate { label, names, is_pages: true, is_trouble: false }
}

const fn events(names: &'static [&'static str]) -> Rate {
    Rate { label: names[0], names, is_pages: false, is_trouble: false }
}

const fn trouble(names: &'static [&'static str]) -> Rate {
    Rate { label: names[0], names, is_pages: false, is_trouble: true }
}

impl Rate {
    /// What was counted so far; none where this version of the library does not count it.
    fn count(self, snapshot: &Snapshot) -> Option<u64> {
        self.names.iter().map(|name| counter(snapshot, name)).sum()
    }
}

/// What is shown of `/proc/vmstat`'s kind, in the order of the screen: what the program does in the
/// left column, what reclaim does in the right one.
pub(super) const RATES: [Rate; 8] = [
    pages("pgalloc", &["pgalloc"]),
    pages("pgfault", &["pgfault"]),
    events(&["bin_refill"]),
    events(&["remote_free"]),
    pages("pgscan", &["pgscan_kswapd", "pgscan_direct"]),
    pages("pgsteal", &["pgsteal"]),
    pages("refault", &["workingset_refault"]),
    trouble(&["allocstall"]),
];

/// One moment.
#[derive(Debug, Clone)]
struct Sample {
    taken_ns: u64,
    resident: u64,
    counters: [Option<u64>; RATES.len()],
}

/// The last moments, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
}

impl History {
    pub(super) fn push(&mut self, snapshot: &Snapshot) {
        // A page that was not written since is no new moment.
        if self.samples.back().is_some_and(|last| last.taken_ns >= snapshot.taken_ns) {
            return;
        }
        if self.samples.len() == LENGTH {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            taken_ns: snapshot.taken_ns,
            resident: snapshot.memory().resident_bytes,
            counters: RATES.map(|rate| rate.count(snapshot)),
        });
    }

    /// Resident bytes, at most the last `width` of them.
    pub(super) fn resident(&self, width: usize) -> Vec<u64> {
        let skip = self.samples.len().saturating_sub(width);
        self.samples.iter().skip(skip).map(|sample| sample.resident).collect()
    }

    /// A second's worth of the counter at `index` of [`RATES`], at most the last `width` of them;
    /// none for a counter that this version of the library does not have.
    pub(super) fn rates(&self, index: usize, width: usize) -> Option<Vec<u64>> {
        let is_pages = RATES[index].is_pages;
        self.samples.back()?.counters[index]?;
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let rates: Vec<u64> = pairs
            .map(|(before, after)| {
                let events = after.counters[index].zip(before.counters[index]);
                let events = events.map_or(0, |(after, before)| after.saturating_sub(before));
                let units = if is_pages { events * PAGE_SIZE } else { events };
                per_second(units, after.taken_ns - before.taken_ns)
            })
            .collect();
        let skip = rates.len().saturating_sub(width);
        Some(rates[skip..].to_vec())
    }
}

fn per_second(units: u64, elapsed_ns: u64) -> u64 {
    let rate = u128::from(units) * 1_000_000_000 / u128::from(elapsed_ns.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A counter by its name, wherever it is counted.
fn counter(snapshot: &Snapshot, name: &str) -> Option<u64> {
    let zones = snapshot.zone_events();
    let all =
        zones.values().chain(snapshot.heap_events.values()).chain(snapshot.process_events.values());
    all.filter(|(figure, _)| figure.name == name).map(|(_, value)| value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_second_s_worth() {
        let mut history = History::default();
        let mut snapshot = Box::<Snapshot>::default();
        for (second, refills) in [(1, 100), (2, 300), (4, 500)] {
            snapshot.taken_ns = second * 1_000_000_000;
            snapshot.heap_events.bin_refill = refills;
            history.push(&snapshot);
            history.push(&snapshot);
        }
        let index = RATES.iter().position(|rate| rate.label == "bin_refill").unwrap();
        assert_eq!(history.rates(index, 10), Some(vec![200, 100]));
        assert_eq!(history.rates(index, 1), Some(vec![100]));
    }

    #[test]
    fn every_rate_is_a_counter_of_the_library() {
        let snapshot = Box::<Snapshot>::default();
        for rate in RATES {
            assert_eq!(rate.count(&snapshot), Some(0), "{}", rate.label);
        }
    }

    #[test]
    fn what_is_scanned_is_so_by_the_background_and_by_requests() {
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.nr_nodes = 1;
        let events = &mut snapshot.nodes[0].events;
        (events.pgscan_kswapd, events.pgscan_direct) = (3, 4);
        let rate = RATES.iter().find(|rate| rate.label == "pgscan").unwrap();
        assert_eq!(rate.count(&snapshot), Some(7));
    }
}
