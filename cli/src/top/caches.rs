//! Page caches against what they may hold, and how full the slabs of each class are.

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use zonal_stats::{Class, Figures as _, PAGE_SIZE, Pcp, Snapshot};

use super::bar::{Paint, Part, bar};
use super::memory::label;
use crate::size::size;

const EIGHTHS: [&str; 8] = [
    "\u{2581}", "\u{2582}", "\u{2583}", "\u{2584}", "\u{2585}", "\u{2586}", "\u{2587}", "\u{2588}",
];

/// One line for the page caches, one with a cell for each class, one with their sizes.
pub(super) fn lines(snapshot: &Snapshot, width: u16) -> Vec<Line<'static>> {
    vec![pcp(snapshot, usize::from(width)), slabs(snapshot), sizes(snapshot)]
}

fn pcp(snapshot: &Snapshot, width: usize) -> Line<'static> {
    let mut total = Pcp::default();
    for node in snapshot.nodes() {
        total.add(&node.pcp);
    }
    let figure = format!(
        " {} of {}  batch {}",
        size(total.count * PAGE_SIZE),
        size(total.high * PAGE_SIZE),
        total.batch
    );
    let mut spans = label("pcp");
    let room = width.saturating_sub(spans[0].content.len() + figure.len() + 1);
    let parts = [Part { amount: total.count, paint: Paint::CACHED }];
    spans.extend(bar(room, total.high.max(total.count), &parts, &[]));
    spans.push(Span::raw(figure));
    Line::from(spans)
}

/// One cell a class: its height tells how much of the slabs is in use, its colour how much memory
/// is not.
fn slabs(snapshot: &Snapshot) -> Line<'static> {
    let mut spans = label("slabs");
    spans.extend(snapshot.classes().iter().map(cell));
    let used = snapshot.small_bytes();
    let held: u64 = snapshot.classes().iter().map(held_bytes).sum();
    let share = (used * 100).checked_div(held).unwrap_or(0);
    spans.push(Span::raw(format!("  {share} % used")));
    Line::from(spans)
}

fn cell(class: &Class) -> Span<'static> {
    let held = held_bytes(class);
    if held == 0 {
        return Span::styled("\u{b7}", Style::new().fg(Color::DarkGray));
    }
    let level = class.used_bytes() * 8 / held;
    let symbol = EIGHTHS[usize::try_from(level).unwrap_or(7).min(7)];
    let colour = match held - class.used_bytes().min(held) {
        0..=0xf_ffff => Color::Green,
        0x10_0000..=0xff_ffff => Color::Yellow,
        _ => Color::Red,
    };
    Span::styled(symbol, Style::new().fg(colour))
}

/// Some sizes below their cells.
fn sizes(snapshot: &Snapshot) -> Line<'static> {
    let mut text = String::new();
    for (i, class) in snapshot.classes().iter().enumerate() {
        if i % 8 == 0 && text.len() <= i {
            text = format!("{text:<i$}{}", short_bytes(class.size));
        }
    }
    let mut spans = label("");
    spans.push(Span::styled(text, Style::new().fg(Color::DarkGray)));
    Line::from(spans)
}

fn short_bytes(bytes: u64) -> String {
    if bytes < 1024 { bytes.to_string() } else { format!("{}K", bytes / 1024) }
}

/// Bytes in the slabs of a class.
pub(super) fn held_bytes(class: &Class) -> u64 {
    class.nr_objects * class.size
}
