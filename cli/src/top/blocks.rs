//! The third page: the picture of `zonal maps`.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::App;
use crate::maps::picture::{self, Content, Piece};

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let legend = Rect { height: 1.min(area.height), ..area };
    let body = Rect { y: area.y + legend.height, height: area.height - legend.height, ..area };
    frame.render_widget(line(&picture::legend()), legend);
    let lines = picture::lines(&app.snapshot, usize::from(area.width));
    app.scroll = app.scroll.min(lines.len().saturating_sub(usize::from(body.height)));
    let shown: Vec<Line<'_>> = lines.iter().skip(app.scroll).map(|pieces| line(pieces)).collect();
    frame.render_widget(Paragraph::new(shown), body);
}

fn line(pieces: &[Piece]) -> Line<'static> {
    let span = |piece: &Piece| match piece.content {
        Some(content) => Span::styled(piece.text.clone(), Style::new().fg(colour(content))),
        None => Span::raw(piece.text.clone()),
    };
    pieces.iter().map(span).collect()
}

fn colour(content: Content) -> Color {
    match content.colour() {
        32 => Color::Green,
        33 => Color::Yellow,
        35 => Color::Magenta,
        36 => Color::Cyan,
        _ => Color::DarkGray,
    }
}
