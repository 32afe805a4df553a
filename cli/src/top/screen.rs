//! The screen: a title, the page that was chosen, and a line of keys.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::live::Live;

use super::app::{App, View};
use super::{blocks, overview, slabs};

/// A process publishes at least so often while it does anything.
const OLD: Duration = Duration::from_secs(1);

/// Columns and lines for which the pages are made.
const LEAST: (u16, u16) = (80, 24);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let rows = [Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
    let [title, body, keys] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(title_line(app, usize::from(title.width)), title);
    match app.view {
        View::Overview => overview::draw(frame, app, body),
        View::Slabs => slabs::draw(frame, app, body),
        View::Maps => blocks::draw(frame, app, body),
    }
    let area = frame.area();
    let fits = area.width >= LEAST.0 && area.height >= LEAST.1;
    frame.render_widget(if fits { key_line(app) } else { too_small() }, keys);
    if app.shows_help {
        help(frame, body);
    }
}

fn title_line(app: &App, width: usize) -> Line<'static> {
    let left = format!(" zonal top  {} (pid {})", app.name, app.pid);
    let heaps = app.snapshot.process.nr_threads();
    let age = Live::age(&app.snapshot);
    let state = if app.is_paused {
        "paused".into()
    } else if age > 4 * app.interval().max(OLD) {
        format!("{} s old", age.as_secs())
    } else {
        format!("every {:?}", app.interval())
    };
    let right = format!("{heaps} threads  zonal {}  {state} ", app.snapshot.version());
    let gap = width.saturating_sub(left.chars().count() + right.len());
    let style = Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
    Line::styled(format!("{left}{:gap$}{right}", ""), style)
}

fn key_line(app: &App) -> Line<'static> {
    let key = |key: &'static str| Span::styled(key, Style::new().add_modifier(Modifier::BOLD));
    let mut spans = vec![Span::raw(" ")];
    for (i, view) in View::ALL.into_iter().enumerate() {
        let name = format!("{} {}", i + 1, view.name());
        let style = if view == app.view {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        spans.extend([Span::styled(name, style), Span::raw("  ")]);
    }
    let sort = format!(" sort: {}  ", app.order.name());
    let pause = if app.is_paused { " go on  " } else { " pause  " };
    spans.extend([key("p"), Span::raw(pause), key("+-"), Span::raw(" pace  ")]);
    if app.view == View::Slabs {
        spans.extend([key("s"), Span::raw(sort)]);
    }
    spans.extend([key("?"), Span::raw(" help  "), key("q"), Span::raw(" quit")]);
    Line::from(spans)
}

/// Parts that find no room are left out, which is to be known.
fn too_small() -> Line<'static> {
    Line::styled(
        format!(" needs {}x{}; ? help  q quit", LEAST.0, LEAST.1),
        Style::new().add_modifier(Modifier::BOLD),
    )
}

/// A line across the screen that names what comes below.
pub(super) fn heading(name: &str, width: u16) -> Line<'static> {
    let rest = usize::from(width).saturating_sub(name.chars().count() + 4);
    Line::from(vec![
        Span::styled("\u{2500} ", Style::new().fg(Color::DarkGray)),
        Span::styled(name.to_owned(), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(format!(" {}", "\u{2500}".repeat(rest + 1)), Style::new().fg(Color::DarkGray)),
    ])
}

const HELP: &str = "\
 1 2 3, Tab   overview, slabs, maps
 p, Space     pause and go on
 + -          look more often, less often
 s            sort the slabs: memory, free, size
 Up Down      scroll
 q, Esc       quit

 memory: what is resident, by what it holds.
 nodes: pages charged to a node's zone. m l h are the
   watermarks: past low (l) kswapd gives memory back until
   high (h) is free again; past min (m) callers do, too.
 free area: free blocks of 2^order pages; warm ones have
   resident pages, cold ones have none. Brighter is more.
 slabs: how full the slabs of each size class are.
 rates: a second's worth; allocstall should stand at 0.";

fn help(frame: &mut Frame<'_>, body: Rect) {
    let height = u16::try_from(HELP.lines().count()).unwrap_or(u16::MAX) + 2;
    let area = body.centered(Constraint::Length(60), Constraint::Length(height));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" help: any key closes ");
    frame.render_widget(Paragraph::new(HELP).block(block), area);
}
