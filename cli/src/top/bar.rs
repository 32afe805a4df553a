//! A line of cells, filled from the left by parts of a whole, with marks on it.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// A part of the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) amount: u64,
    pub(super) paint: Paint,
}

/// How a part looks: a colour, and a symbol that tells it apart without colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    pub(super) symbol: &'static str,
    pub(super) colour: Color,
}

impl Paint {
    pub(super) const USED: Paint = Paint { symbol: "\u{2588}", colour: Color::Green };
    pub(super) const SENT: Paint = Paint { symbol: "\u{259a}", colour: Color::Green };
    pub(super) const CACHED: Paint = Paint { symbol: "\u{2593}", colour: Color::Cyan };
    pub(super) const FREE: Paint = Paint { symbol: "\u{2592}", colour: Color::Yellow };
    pub(super) const KEPT: Paint = Paint { symbol: "\u{2591}", colour: Color::Magenta };
    pub(super) const META: Paint = Paint { symbol: "\u{25aa}", colour: Color::Blue };

    pub(super) fn span(self) -> Span<'static> {
        Span::styled(self.symbol, Style::new().fg(self.colour))
    }
}

/// A mark at a place of the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) symbol: &'static str,
    pub(super) colour: Color,
}

/// `width` cells that show `whole`.
pub(super) fn bar(width: usize, whole: u64, parts: &[Part], marks: &[Mark]) -> Vec<Span<'static>> {
    let empty = Span::styled("\u{b7}", Style::new().fg(Color::DarkGray));
    let mut cells = vec![empty; width];
    for (i, cell) in cells.iter_mut().enumerate() {
        // What lies at the middle of the cell shows.
        let middle = scale(whole, 2 * i as u64 + 1, 2 * width as u64);
        let mut end = 0;
        if let Some(part) = parts.iter().find(|part| {
            end += part.amount;
            middle < end
        }) {
            *cell = part.paint.span();
        }
    }
    for mark in marks.iter().filter(|mark| mark.at > 0 && mark.at <= whole) {
        let place = scale(width as u64, mark.at, whole);
        let place = usize::try_from(place).unwrap_or(0).min(width.saturating_sub(1));
        let style = Style::new().fg(mark.colour).add_modifier(Modifier::BOLD);
        if let Some(cell) = cells.get_mut(place) {
            *cell = Span::styled(mark.symbol, style);
        }
    }
    cells
}

/// `amount * numerator / denominator`.
fn scale(amount: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(amount) * u128::from(numerator);
    u64::try_from(product / u128::from(denominator.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cells: &[Span<'_>]) -> String {
        cells.iter().map(|cell| cell.content.as_ref()).collect()
    }

    #[test]
    fn parts_fill_their_share() {
        let part = |amount, paint| Part { amount, paint };
        let parts = [part(50, Paint::USED), part(25, Paint::FREE)];
        let drawn = text(&bar(8, 100, &parts, &[]));
        assert_eq!(drawn, "\u{2588}\u{2588}\u{2588}\u{2588}\u{2592}\u{2592}\u{b7}\u{b7}");
        // More than the whole fills it and no more; nothing fills nothing.
        assert_eq!(text(&bar(2, 100, &[part(500, Paint::USED)], &[])), "\u{2588}\u{2588}");
        assert_eq!(text(&bar(2, 0, &[part(0, Paint::USED)], &[])), "\u{b7}\u{b7}");
    }

    #[test]
    fn marks_stand_at_their_place() {
        let mark = |at| Mark { at, symbol: "|", colour: Color::Red };
        let marks = [mark(50 << 10), mark(100 << 10), mark(0), mark(200 << 10)];
        assert_eq!(text(&bar(4, 100 << 10, &[], &marks)), "\u{b7}\u{b7}||");
    }
}
