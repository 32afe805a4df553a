//! The nodes as bars, with the watermarks of their zones where there is a limit: a line each, or
//! several in a line where the screen has not so many.

use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use zonal_stats::{Node, PAGE_SIZE, Snapshot};

use super::bar::{Mark, Paint, Part, bar};
use crate::size::{compact, size};

/// Columns that a node needs at least, and those from which on nothing is shortened.
const NARROWEST: usize = 20;
const ROOMY: usize = 60;

/// Nodes in a line: as many as it takes to show all in `area`, if they fit.
pub(super) fn columns(nr_nodes: usize, area: Rect) -> usize {
    let most = (usize::from(area.width) / NARROWEST).max(1);
    nr_nodes.div_ceil(usize::from(area.height).max(1)).clamp(1, most)
}

/// The lines of all nodes, so many in each.
pub(super) fn lines(snapshot: &Snapshot, columns: usize, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width) / columns;
    let line = |nodes: &[Node]| nodes.iter().flat_map(|node| cell(snapshot, node, width)).collect();
    snapshot.nodes().chunks(columns).map(line).collect()
}

fn cell(snapshot: &Snapshot, node: &Node, width: usize) -> Vec<Span<'static>> {
    let zone = &node.zone;
    let is_roomy = width >= ROOMY;
    let name = match width {
        0..=29 => format!(" {:<2}", node.id),
        _ => format!(" node {:<2}", node.id),
    };
    // A node without a limit of its own shares that of the process.
    let own = (zone.limit, zone.min, zone.low, zone.high);
    let process = &snapshot.process;
    let shared = (process.limit, process.min, process.low, process.high);
    let (limit, min, low, high) = if zone.limit > 0 { own } else { shared };
    let whole = if limit > 0 { limit } else { zone.nr_managed + zone.nr_huge };
    let (charged, most) = (zone.nr_charged * PAGE_SIZE, whole * PAGE_SIZE);
    let figure = if is_roomy {
        let committed = if limit > 0 { "" } else { " committed" };
        format!(" {} of {}{committed}", size(charged), size(most))
    } else {
        format!(" {}/{}", compact(charged), compact(most))
    };
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
    let rest = width.saturating_sub(name.len() + 1 + room);
    spans.push(Span::styled(format!("{figure:<rest$}"), Style::new().fg(colour)));
    spans
}
