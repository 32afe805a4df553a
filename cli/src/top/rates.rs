//! How fast the counters run, with their course: two columns.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::free_area::short;
use super::history::{History, RATES, Rate};
use super::spark::sparkline;
use crate::size::size;

const NAME: usize = 12;
const VALUE: usize = 10;

/// Four lines, with two rates each.
pub(super) fn lines(history: &History, width: u16) -> Vec<Line<'static>> {
    let column = usize::from(width) / 2;
    let half = RATES.len() / 2;
    let cell = |index| spans(history, index, column);
    (0..half).map(|row| Line::from([cell(row), cell(row + half)].concat())).collect()
}

fn spans(history: &History, index: usize, column: usize) -> Vec<Span<'static>> {
    let Rate { label, is_pages, is_trouble, .. } = RATES[index];
    let room = column.saturating_sub(1 + NAME + VALUE + 2);
    let rates = history.rates(index, room);
    let now = rates.as_ref().and_then(|rates| rates.last().copied());
    let value = match now {
        None => "-".into(),
        Some(rate) if is_pages => size(rate),
        Some(rate) => short(rate),
    };
    let rates = rates.unwrap_or_default();
    let most = rates.iter().max().copied().unwrap_or(0);
    let course = sparkline(&rates, most, room, 1).concat();
    let is_bad = is_trouble && most > 0;
    let colour = if is_bad { Color::Red } else { Color::Cyan };
    let mut style = Style::new();
    if is_bad {
        style = style.fg(Color::Red).add_modifier(Modifier::BOLD);
    }
    vec![
        Span::styled(format!(" {label:<NAME$}"), style),
        Span::styled(format!("{value:>VALUE$} "), style),
        Span::styled(course, Style::new().fg(colour)),
        Span::raw(" "),
    ]
}
