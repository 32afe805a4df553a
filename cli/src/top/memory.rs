//! Where the process's memory is: one bar, its legend, and how it went.

use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use zonal_stats::{PAGE_SIZE, Snapshot};

use super::app::App;
use super::bar::{Paint, Part, bar};
use super::spark::sparkline;
use crate::size::{compact, size};

/// Columns left of the bars.
const LABEL: usize = 9;

/// What memory holds: name, bytes, and how it is painted.
fn parts(snapshot: &Snapshot) -> [(&'static str, u64, Paint); 6] {
    let memory = snapshot.memory();
    // What was never touched, or purged, is counted as used or cached but is not resident.
    let absent = memory.untouched_bytes;
    let used = memory.used_small_bytes + memory.used_large_bytes + memory.used_huge_bytes;
    let slabs = memory.slab_free_bytes + memory.slab_tail_bytes;
    let cached =
        (memory.cached_bytes + slabs + memory.pcp_bytes).saturating_sub(memory.holes_bytes);
    let cached_absent = absent.min(cached);
    let used = used.saturating_sub(absent - cached_absent);
    let sent = snapshot.process.in_flight_bytes.min(used);
    [
        ("used", used - sent, Paint::USED),
        ("sent", sent, Paint::SENT),
        ("cached", cached - cached_absent, Paint::CACHED),
        ("free", memory.free_resident_bytes, Paint::FREE),
        ("kept", memory.huge_cached_bytes, Paint::KEPT),
        ("meta", snapshot.process.meta_resident_bytes, Paint::META),
    ]
}

/// Bar, legend, and the history in the lines that are left.
pub(super) fn lines(app: &App, area: Rect) -> Vec<Line<'static>> {
    let snapshot = &app.snapshot;
    let parts = parts(snapshot);
    let resident = snapshot.memory().resident_bytes + snapshot.process.meta_resident_bytes;
    let limit = snapshot.process.limit * PAGE_SIZE;
    let figure = if limit > 0 {
        format!(" {} of {}", size(resident), size(limit))
    } else {
        format!(" {} resident", size(resident))
    };
    let room = usize::from(area.width).saturating_sub(LABEL + figure.len() + 1);
    let whole = limit.max(parts.iter().map(|part| part.1).sum());
    let filled = parts.map(|(_, amount, paint)| Part { amount, paint });
    let mut first = label("memory");
    first.extend(bar(room, whole, &filled, &[]));
    first.push(Span::styled(figure, Style::new().add_modifier(Modifier::BOLD)));

    // From the edge on: on the smallest screen all of it has to fit.
    let mut legend = vec![Span::raw(" ")];
    for (name, amount, paint) in parts {
        let text = format!(" {name} {} ", compact(amount));
        legend.extend([paint.span(), Span::raw(text)]);
    }
    let mut lines = vec![Line::from(first), Line::from(legend)];
    lines.extend(history(app, area.width, area.height.saturating_sub(2)));
    lines
}

/// The course of resident memory, between its least and its most.
fn history(app: &App, width: u16, height: u16) -> Vec<Line<'static>> {
    let room = usize::from(width).saturating_sub(LABEL + 13);
    let values = app.history.resident(room);
    let least = values.iter().min().copied().unwrap_or(0);
    let most = values.iter().max().copied().unwrap_or(0);
    // Small changes do not look like leaps.
    let floor = least - least.min((most - least).max(most / 16));
    let raised: Vec<u64> = values.iter().map(|value| value - floor).collect();
    let rows = sparkline(&raised, most - floor, room, usize::from(height));
    let last = rows.len().saturating_sub(1);
    let line = |(i, row): (usize, String)| {
        let mut spans = label(if i == 0 { "history" } else { "" });
        spans.push(Span::styled(row, Style::new().fg(Color::Green)));
        let bound = match i {
            0 => size(most),
            i if i == last => size(least),
            _ => String::new(),
        };
        spans.push(Span::styled(format!(" {bound:>10}"), Style::new().fg(Color::DarkGray)));
        Line::from(spans)
    };
    rows.into_iter().enumerate().map(line).collect()
}

pub(super) fn label(name: &str) -> Vec<Span<'static>> {
    vec![Span::raw(format!(" {name:<width$}", width = LABEL - 1))]
}
