//! Medians, spreads, ratios and geometric means.

use statrs::statistics::{Data, Distribution, OrderStatistics};

use crate::allocators::place;
use crate::run::Sample;

/// Rows whose base stays below this are left out of the memory means: code and libraries dominate them.
pub const SMALL_KB: f64 = 16384.0;
/// A row with a larger spread decides nothing.
pub const QUIET: f64 = 0.05;

/// One measured quantity of one row on one allocator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figure {
    /// Median over the rounds.
    pub median: f64,
    /// Half the distance between the quartiles, as a part of the median.
    pub spread: f64,
}

/// One row on one allocator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cell {
    pub cpu_ms: Figure,
    pub wall_ms: Figure,
    pub peak_kb: Figure,
    pub idle_kb: f64,
    pub faults: f64,
    pub switches: f64,
}

/// The whole comparison.
#[derive(Debug)]
pub struct Summary {
    /// Names of the columns.
    pub allocators: Vec<String>,
    /// Names of the rows, and a cell a column; none where the run failed.
    pub rows: Vec<(String, Vec<Option<Cell>>)>,
    /// The column that ratios refer to.
    pub base: usize,
}

/// Reduces samples to medians.
pub fn summarise(samples: &[Sample], base: &str) -> Summary {
    let rows = names(samples.iter().map(|s| &s.row));
    let mut names = names(samples.iter().map(|s| &s.allocator));
    names.sort_by_key(|name| place(name));
    let cell = |row: &str, allocator: &str| {
        let all = samples.iter().filter(|s| s.row == row && s.allocator == allocator);
        let (idle, timed): (Vec<_>, Vec<_>) = all.partition(|s| s.idle);
        let figure =
            |value: fn(&Sample) -> u64| figure(timed.iter().map(|s| value(s) as f64).collect());
        (!timed.is_empty()).then(|| Cell {
            cpu_ms: scaled(figure(|s| s.cpu_us), 1e-3),
            wall_ms: scaled(figure(|s| s.wall_us), 1e-3),
            peak_kb: figure(|s| s.peak_kb),
            idle_kb: median_idle(&idle),
            faults: figure(|s| s.minor_faults).median,
            switches: figure(|s| s.voluntary_switches + s.involuntary_switches).median,
        })
    };
    Summary {
        rows: rows
            .into_iter()
            .map(|row| (row.clone(), names.iter().map(|name| cell(&row, name)).collect()))
            .collect(),
        base: names.iter().position(|n| n == base).unwrap_or(0),
        allocators: names,
    }
}

/// Each once, as they first come.
fn names<'a>(all: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut names = Vec::new();
    for name in all {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn scaled(figure: Figure, by: f64) -> Figure {
    Figure { median: figure.median * by, spread: figure.spread }
}

fn figure(values: Vec<f64>) -> Figure {
    let mut data = Data::new(values);
    let median = data.median();
    let half = (data.upper_quartile() - data.lower_quartile()) / 2.0;
    Figure { median, spread: if median > 0.0 { half / median } else { 0.0 } }
}

/// 0 where the row does not idle.
fn median_idle(samples: &[&Sample]) -> f64 {
    let values: Vec<f64> = samples.iter().map(|s| s.idle_kb as f64).collect();
    if values.is_empty() { 0.0 } else { figure(values).median }
}

/// What a table shows.
pub type Quantity = fn(&Cell) -> f64;

impl Summary {
    /// A cell's quantity over the base's.
    pub fn ratio(&self, row: &[Option<Cell>], column: usize, of: Quantity) -> Option<f64> {
        let base = of(row[self.base].as_ref()?);
        let value = of(row[column].as_ref()?);
        (base > 0.0 && value > 0.0).then(|| value / base)
    }

    /// The geometric mean of a column's ratios over the rows that `keep` admits by the base's cell.
    pub fn geomean(&self, column: usize, of: Quantity, keep: fn(&Cell) -> bool) -> Option<f64> {
        let logs: Vec<f64> = self
            .rows
            .iter()
            .filter(|(_, cells)| cells[self.base].as_ref().is_some_and(keep))
            .filter_map(|(_, cells)| self.ratio(cells, column, of))
            .map(f64::ln)
            .collect();
        Data::new(logs).mean().map(f64::exp)
    }
}
