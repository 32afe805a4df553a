//! The second page: the size classes as a table.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use zonal_stats::{Class, PAGE_SIZE};

use super::app::{App, Order};
use super::bar::{Paint, Part, bar};
use super::caches::held_bytes;
use super::free_area::short;
use crate::size::size;

const HEAD: &str = "    size   slabs partial  objects   active     memory       free  ";

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let mut classes: Vec<&Class> =
        app.snapshot.classes().iter().filter(|class| class.nr_slabs > 0).collect();
    match app.order {
        Order::Memory => classes.sort_by_key(|class| std::cmp::Reverse(memory(class))),
        Order::Waste => classes.sort_by_key(|class| std::cmp::Reverse(free(class))),
        Order::Size => {}
    }
    let room = usize::from(area.height).saturating_sub(1);
    app.scroll = app.scroll.min(classes.len().saturating_sub(room));
    let head = format!("{HEAD}in use");
    let mut lines = vec![Line::styled(head, Style::new().add_modifier(Modifier::BOLD))];
    lines.extend(classes.iter().skip(app.scroll).map(|class| row(class, area.width)));
    if classes.is_empty() {
        lines.push(Line::styled("    no slabs yet", Style::new().fg(Color::DarkGray)));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn row(class: &Class, width: u16) -> Line<'static> {
    let mut spans = vec![Span::raw(format!(
        "{:>8}{:>8}{:>8}{:>9}{:>9}{:>11}{:>11}  ",
        class.size,
        short(class.nr_slabs),
        short(class.nr_partial),
        short(class.nr_objects),
        short(class.nr_active()),
        size(memory(class)),
        size(free(class)),
    ))];
    let room = usize::from(width).saturating_sub(HEAD.len() + 1);
    let parts = [
        Part { amount: class.nr_active(), paint: Paint::USED },
        Part { amount: class.nr_cached, paint: Paint::CACHED },
    ];
    spans.extend(bar(room, class.nr_objects, &parts, &[]));
    Line::from(spans)
}

/// Bytes in the pages of its slabs.
fn memory(class: &Class) -> u64 {
    class.nr_slabs * class.slab_pages * PAGE_SIZE
}

/// Bytes in objects that nobody uses.
fn free(class: &Class) -> u64 {
    held_bytes(class).saturating_sub(class.used_bytes())
}
