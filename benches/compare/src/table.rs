//! Tables for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::stats::{Cell, QUIET, Quantity, SMALL_KB, Summary};

/// Prints all tables and the verdict.
pub fn print(summary: &Summary) {
    let base = &summary.allocators[summary.base];
    println!(
        "CPU time, {base} = 1 (first column: its milliseconds and spread; ~ marks a spread above 5 %)\n"
    );
    ratios(
        summary,
        |c| c.cpu_ms.median,
        |_| true,
        |c| format!("{:.0} ±{:.0}%", c.cpu_ms.median, 100.0 * c.cpu_ms.spread),
        |c| c.cpu_ms.spread > QUIET,
    );
    println!(
        "\nPeak RSS, {base} = 1 (first column: MiB; the mean is of rows where that is 16 MiB or more)\n"
    );
    ratios(
        summary,
        |c| c.peak_kb.median,
        |c| c.peak_kb.median >= SMALL_KB,
        |c| format!("{:.1}", c.peak_kb.median / 1024.0),
        |c| c.peak_kb.spread > QUIET,
    );
    println!("\nWall time, {base} = 1\n");
    ratios(
        summary,
        |c| c.wall_ms.median,
        |_| true,
        |c| format!("{:.0} ±{:.0}%", c.wall_ms.median, 100.0 * c.wall_ms.spread),
        |c| c.wall_ms.spread > QUIET,
    );
    println!("\nRSS after idling for 1.2 s with all work done, MiB\n");
    plain(summary, |c| c.idle_kb / 1024.0);
    println!("\nMinor page faults\n");
    plain(summary, |c| c.faults);
    println!("\nContext switches\n");
    plain(summary, |c| c.switches);
    verdict(summary);
}

fn new_table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled);
    let columns = header.len();
    table.set_header(header);
    for column in 1..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn ratios(
    summary: &Summary,
    of: Quantity,
    keep: fn(&Cell) -> bool,
    show_base: fn(&Cell) -> String,
    loud: fn(&Cell) -> bool,
) {
    let base = summary.allocators[summary.base].clone();
    let mut table = new_table([vec!["".into(), base], summary.allocators.clone()].concat());
    for (name, cells) in &summary.rows {
        let mut line = vec![
            name.clone(),
            cells[summary.base].as_ref().map_or_else(|| "failed".into(), show_base),
        ];
        line.extend(cells.iter().enumerate().map(|(column, cell)| {
            match (cell, summary.ratio(cells, column, of)) {
                (Some(cell), Some(ratio)) => {
                    format!("{}{ratio:.2}", if loud(cell) { "~" } else { "" })
                }
                _ => "-".into(),
            }
        }));
        table.add_row(line);
    }
    let mut last = vec!["geometric mean".into(), "".into()];
    last.extend((0..summary.allocators.len()).map(|column| {
        summary
            .geomean(column, of, keep)
            .filter(|mean| mean.is_finite())
            .map_or("-".into(), |mean| format!("{mean:.3}"))
    }));
    table.add_row(last);
    println!("{table}");
}

fn plain(summary: &Summary, of: Quantity) {
    let mut table = new_table([vec!["".into()], summary.allocators.clone()].concat());
    for (name, cells) in &summary.rows {
        let values: Vec<f64> = cells.iter().map(|cell| cell.as_ref().map_or(0.0, of)).collect();
        if values.iter().any(|&value| value > 0.0) {
            let digits =
                usize::from(values.iter().all(|&value| value < 10_000.0 && value.fract() != 0.0));
            let shown = values.iter().map(|value| format!("{value:.digits$}"));
            table.add_row(std::iter::once(name.clone()).chain(shown));
        }
    }
    println!("{table}");
}

/// The rows where zonal is behind the best peer.
fn verdict(summary: &Summary) {
    let Some(own) = summary.allocators.iter().position(|name| name == "zonal") else { return };
    let mut behind = Vec::new();
    for (name, cells) in &summary.rows {
        let Some(zonal) = cells[own] else { continue };
        let peers = cells
            .iter()
            .enumerate()
            .filter(|&(column, _)| !summary.allocators[column].starts_with("zonal"));
        let best = peers
            .filter_map(|(column, cell)| cell.map(|cell| (cell.cpu_ms.median, column)))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((best, column)) = best {
            let ratio = zonal.cpu_ms.median / best;
            if ratio > 1.05 {
                let loud = zonal.cpu_ms.spread > QUIET
                    || cells[column].is_some_and(|c| c.cpu_ms.spread > QUIET);
                behind.push((ratio, name, &summary.allocators[column], loud));
            }
        }
    }
    behind.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!(
        "\nzonal is behind the best peer by more than 5 % of CPU time on {} rows",
        behind.len()
    );
    for (ratio, name, peer, loud) in behind {
        println!("  {ratio:.2} x {peer:<12} {name}{}", if loud { "   (noisy)" } else { "" });
    }
}
