//! The first page: memory, nodes against their watermarks, free area, caches, rates.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::app::App;
use super::screen::heading;
use super::{caches, free_area, memory, nodes, rates};

/// Lines of the parts whose height does not depend on the machine, headings included.
const MEMORY: u16 = 4;
const FREE_AREA: u16 = 7;
const CACHES: u16 = 3;
const RATES: u16 = 5;
/// A larger screen has a taller history, up to so many lines more.
const TALLER: u16 = 6;

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let mut room = area.height.saturating_sub(MEMORY + FREE_AREA + CACHES + RATES);
    let mut take = |lines: u16| {
        let taken = lines.min(room);
        room -= taken;
        taken
    };
    let nr_nodes = app.snapshot.nodes().len();
    let nodes = take(u16::try_from(nr_nodes).unwrap_or(u16::MAX).saturating_add(1).max(2));
    // The sizes of the classes, if there is a line for them.
    let caches = CACHES + take(1);
    let memory = MEMORY + take(TALLER);
    let rows = [memory, nodes, FREE_AREA, caches, RATES].map(Constraint::Length);
    let [memory, nodes, free_area, caches, rates] = Layout::vertical(rows).areas(area);
    lines(frame, memory, memory::lines(app, memory));
    let below = |name: &str, area: Rect, frame: &mut Frame<'_>| {
        frame.render_widget(heading(name, area.width), Rect { height: 1.min(area.height), ..area });
        Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area }
    };
    let room = Rect { height: nodes.height.saturating_sub(1), ..nodes };
    let columns = nodes::columns(nr_nodes, room);
    let all = nodes::lines(&app.snapshot, columns, room.width);
    let shown = usize::from(room.height);
    app.scroll = app.scroll.min(all.len().saturating_sub(shown));
    let name = if all.len() > shown {
        format!("{nr_nodes} nodes: Up and Down show the others")
    } else {
        "nodes".into()
    };
    let area = below(&name, nodes, frame);
    lines(frame, area, all.into_iter().skip(app.scroll).collect());
    let area = below("free area: blocks by order", free_area, frame);
    lines(frame, area, free_area::lines(&app.snapshot));
    let area = below("page caches and slabs", caches, frame);
    lines(frame, area, caches::lines(&app.snapshot, area.width));
    let area = below("rates, a second", rates, frame);
    lines(frame, area, rates::lines(&app.history, area.width));
}

fn lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    frame.render_widget(Paragraph::new(lines), area);
}
