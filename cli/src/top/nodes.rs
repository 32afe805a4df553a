//! The nodes as bars, with the watermarks of their zones where there is a limit.

use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use zonal_stats::{Node, PAGE_SIZE, Snapshot};

use super::bar::{Mark, Paint, Part, bar};
use crate::size::size;

/// One line a node, as many as there is room for.
pub(super) fn lines(snapshot: &Snapshot, area: Rect) -> Vec<Line<'static>> {
    let nodes = snapshot.nodes();
    let room = usize::from(area.height);
    let mut lines: Vec<_> =
        nodes.iter().take(room).map(|node| line(snapshot, node, usize::from(area.width))).collect();
    if nodes.len() > room {
        lines.pop();
        lines.push(Line::from(format!(" and {} more nodes", nodes.len() + 1 - room)));
    }
    lines
}

fn line(snapshot: &Snapshot, node: &Node, width: usize) -> Line<'static> {
    let zone = &node.zone;
    let name = format!(" node {:<2}", node.id);
    // A node without a limit of its own shares that of the process.
    let own = (zone.limit, zone.min, zone.low, zone.high);
    let process = &snapshot.process;
    let shared = (process.limit, process.min, process.low, process.high);
    let (limit, min, low, high) = if zone.limit > 0 { own } else { shared };
    let figure = if limit > 0 {
        format!(" {} of {}", size(zone.nr_charged * PAGE_SIZE), size(limit * PAGE_SIZE))
    } else {
        let committed = size((zone.nr_managed + zone.nr_huge) * PAGE_SIZE);
        format!(" {} of {committed} committed", size(zone.nr_charged * PAGE_SIZE))
    };
    let whole = if limit > 0 { limit } else { zone.nr_managed + zone.nr_huge };
    let parts = [
        Part { amount: zone.nr_out.saturating_sub(zone.nr_holes), paint: Paint::USED },
        Part { amount: zone.nr_huge, paint: Paint::KEPT },
        Part { amount: zone.nr_free_resident, paint: Paint::FREE },
    ];
    // Marks are headroom: they stand at the right, counted from the limit.
    let mark = |headroom: u64, symbol, colour| Mark {
        at: if limit > 0 { limit.saturating_sub(headroom) } else { 0 },
        symbol,
        colour,
    };
    let marks =
        [mark(high, "h", Color::Green), mark(low, "l", Color::Yellow), mark(min, "m", Color::Red)];
    let room = width.saturating_sub(name.len() + 1 + figure.len() + 1);
    let mut spans = vec![Span::raw(format!("{name} "))];
    spans.extend(bar(room, whole, &parts, &marks));
    let headroom = limit.saturating_sub(zone.nr_charged);
    let colour = match headroom {
        _ if limit == 0 => Color::Reset,
        headroom if headroom < min => Color::Red,
        headroom if headroom < low => Color::Yellow,
        _ => Color::Green,
    };
    spans.push(Span::styled(figure, Style::new().fg(colour)));
    Line::from(spans)
}
