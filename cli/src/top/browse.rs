//! `zonal top` without a process, on a terminal: the list as it changes, to choose one from.

use std::time::Duration;

use anyhow::Result;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use ratatui::{DefaultTerminal, Frame};

use super::list::{self, Entry};

/// What a key asks for.
enum Wish {
    Stay,
    Open(u32),
    Leave,
}

/// The list, and which line of it is chosen.
#[derive(Default)]
struct Browser {
    entries: Vec<Entry>,
    chosen: usize,
    /// Why a process could not be looked at.
    complaint: String,
}

/// Shows the list until the user leaves; `open` shows the process that was chosen.
pub(super) fn run(
    terminal: &mut DefaultTerminal,
    interval: Duration,
    mut open: impl FnMut(&mut DefaultTerminal, u32) -> Result<()>,
) -> Result<()> {
    let mut browser = Browser::default();
    loop {
        browser.update(Entry::all());
        terminal.draw(|frame| browser.draw(frame))?;
        if !event::poll(interval)? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        match browser.press(key) {
            Wish::Stay => {}
            Wish::Leave => return Ok(()),
            // It may have ended, while it was chosen or while it was looked at.
            Wish::Open(pid) => {
                browser.complaint =
                    open(terminal, pid).err().map_or_else(String::new, |e| format!("{e:#}"));
            }
        }
    }
}

impl Browser {
    /// Takes in a new list; the process that was chosen stays so.
    fn update(&mut self, entries: Vec<Entry>) {
        let pid = self.entries.get(self.chosen).map(|entry| entry.pid);
        let place = entries.iter().position(|entry| Some(entry.pid) == pid);
        self.chosen = place.unwrap_or(self.chosen).min(entries.len().saturating_sub(1));
        self.entries = entries;
    }

    fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Stay;
        }
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if with_control => return Wish::Leave,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Leave,
            KeyCode::Down | KeyCode::Char('j') => self.chosen += 1,
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Home => self.chosen = 0,
            KeyCode::Enter => {
                if let Some(entry) = self.entries.get(self.chosen) {
                    return Wish::Open(entry.pid);
                }
            }
            _ => {}
        }
        self.chosen = self.chosen.min(self.entries.len().saturating_sub(1));
        Wish::Stay
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let line = Constraint::Length(1);
        let rows = [line, line, Constraint::Min(0), line];
        let [title, head, body, keys] = Layout::vertical(rows).areas(frame.area());
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let text = format!(" zonal top  processes that publish: {}", self.entries.len());
        let width = usize::from(title.width);
        frame.render_widget(Line::styled(format!("{text:<width$}"), reversed.patch(bold)), title);
        frame.render_widget(Line::styled(list::head(), bold), head);
        let line = |(i, entry): (usize, &Entry)| {
            let style = if i == self.chosen { reversed } else { Style::new() };
            Line::styled(entry.line(), style)
        };
        let skip = (self.chosen + 1).saturating_sub(usize::from(body.height));
        let mut lines: Vec<Line<'_>> =
            self.entries.iter().enumerate().skip(skip).map(line).collect();
        if lines.is_empty() {
            lines.push(Line::from(format!(" {}", list::NOBODY)));
        }
        frame.render_widget(Paragraph::new(lines), body);
        let text = match self.complaint.as_str() {
            "" => " Up Down choose  Enter look at it  q quit".into(),
            complaint => format!(" {complaint}"),
        };
        frame.render_widget(Line::from(text), keys);
    }
}
