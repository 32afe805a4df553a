//! The free area as a heat map: order by migratetype, warm and cold apart.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use zonal_stats::node::{MIGRATETYPES, WARMTHS};
use zonal_stats::{NR_ORDERS, Snapshot};

const LABEL: usize = 14;
const CELL: usize = 6;
/// The reserve of urgent requests: one row for warm and cold together.
const RESERVE: usize = 2;

/// The head, and five rows: slabs' and large runs' pageblocks warm and cold, and the reserve.
pub(super) fn lines(snapshot: &Snapshot) -> Vec<Line<'static>> {
    let mut head = format!("{:LABEL$}", "");
    for order in 0..NR_ORDERS {
        head.push_str(&format!("{order:>CELL$}"));
    }
    let mut lines = vec![Line::styled(head, Style::new().fg(Color::DarkGray))];
    for (mt, migratetype) in MIGRATETYPES.into_iter().enumerate() {
        if mt == RESERVE {
            let blocks = |order| count(snapshot, order, mt, 0) + count(snapshot, order, mt, 1);
            lines.push(row(migratetype.into(), blocks));
            continue;
        }
        // Warm first: that is memory which could go back.
        for (warm, warmth) in WARMTHS.into_iter().enumerate().rev() {
            let name = format!("{migratetype} {warmth}");
            lines.push(row(name, |order| count(snapshot, order, mt, warm)));
        }
    }
    lines
}

fn count(snapshot: &Snapshot, order: usize, migratetype: usize, warm: usize) -> u64 {
    snapshot.nodes().iter().map(|node| node.free_area[order][migratetype][warm]).sum()
}

fn row(name: String, blocks: impl Fn(usize) -> u64) -> Line<'static> {
    let mut spans = vec![Span::raw(format!(" {name:<width$}", width = LABEL - 1))];
    for order in 0..NR_ORDERS {
        let blocks = blocks(order);
        let text = if blocks == 0 { "\u{b7}".into() } else { short(blocks) };
        spans.push(Span::styled(format!("{text:>CELL$}"), heat(blocks << order)));
    }
    Line::from(spans)
}

/// The colour tells the bytes, the number the blocks.
fn heat(pages: u64) -> Style {
    let style = Style::new();
    match pages {
        0 => style.fg(Color::DarkGray),
        1..=255 => style.fg(Color::Blue),
        256..=4095 => style.fg(Color::Cyan),
        4096..=65_535 => style.fg(Color::Yellow),
        _ => style.fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

/// A number in at most four characters.
pub(super) fn short(number: u64) -> String {
    match number {
        0..=9999 => number.to_string(),
        10_000..=999_999 => format!("{}k", number / 1000),
        1_000_000..=999_999_999 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}
