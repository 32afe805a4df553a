//! What the screen shows, and what the keys do with it.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use zonal_stats::Snapshot;

use super::history::History;

/// Times between two looks that the keys `+` and `-` choose from.
const PACES: [u64; 7] = [100, 250, 500, 1000, 2000, 5000, 10_000];

/// The pages of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Slabs,
    Maps,
}

impl View {
    pub(super) const ALL: [View; 3] = [View::Overview, View::Slabs, View::Maps];

    pub(super) fn name(self) -> &'static str {
        match self {
            View::Overview => "overview",
            View::Slabs => "slabs",
            View::Maps => "maps",
        }
    }
}

/// By what the classes of the slab view are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Memory,
    Waste,
    Size,
}

impl Order {
    pub(super) fn name(self) -> &'static str {
        match self {
            Order::Memory => "memory",
            Order::Waste => "free",
            Order::Size => "size",
        }
    }
}

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct App {
    /// Of the process, for the title.
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) snapshot: Box<Snapshot>,
    pub(super) history: History,
    pub(super) view: View,
    pub(super) order: Order,
    pub(super) is_paused: bool,
    pub(super) shows_help: bool,
    /// Lines of the view above the screen.
    pub(super) scroll: usize,
    pace: usize,
}

impl App {
    pub(super) fn new(name: String, pid: u32, interval: Duration) -> Self {
        let wanted = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let pace = PACES.iter().position(|&pace| pace >= wanted).unwrap_or(PACES.len() - 1);
        Self {
            name,
            pid,
            snapshot: Box::default(),
            history: History::default(),
            view: View::Overview,
            order: Order::Memory,
            is_paused: false,
            shows_help: false,
            scroll: 0,
            pace,
        }
    }

    /// Takes in what the process says of itself.
    pub(super) fn update(&mut self, snapshot: Box<Snapshot>) {
        self.history.push(&snapshot);
        if !self.is_paused {
            self.snapshot = snapshot;
        }
    }

    /// Time between two looks.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(PACES[self.pace])
    }

    /// Does what the key says; false to leave.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return true;
        }
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if with_control => return false,
            _ if self.shows_help => self.shows_help = false,
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.shows_help = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('+') => self.pace = self.pace.saturating_sub(1),
            KeyCode::Char('-') => self.pace = (self.pace + 1).min(PACES.len() - 1),
            KeyCode::Char('s') => self.order = self.next_order(),
            KeyCode::Char(digit @ '1'..='3') => {
                self.show(View::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(View::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        true
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scroll = 0;
    }

    fn turn(&mut self, steps: usize) {
        let now = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.show(View::ALL[(now + steps) % View::ALL.len()]);
    }

    fn next_order(&self) -> Order {
        match self.order {
            Order::Memory => Order::Waste,
            Order::Waste => Order::Size,
            Order::Size => Order::Memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App::new("server".into(), 1, Duration::from_millis(1000))
    }

    fn press(app: &mut App, code: KeyCode) -> bool {
        app.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_change_view_and_pace() {
        let mut app = app();
        assert!(press(&mut app, KeyCode::Tab));
        assert_eq!(app.view, View::Slabs);
        assert!(press(&mut app, KeyCode::BackTab) && press(&mut app, KeyCode::BackTab));
        assert_eq!(app.view, View::Maps);
        assert!(press(&mut app, KeyCode::Char('1')));
        assert_eq!(app.view, View::Overview);
        for _ in 0..10 {
            assert!(press(&mut app, KeyCode::Char('+')));
        }
        assert_eq!(app.interval(), Duration::from_millis(100));
        for _ in 0..10 {
            assert!(press(&mut app, KeyCode::Char('-')));
        }
        assert_eq!(app.interval(), Duration::from_secs(10));
        assert!(!press(&mut app, KeyCode::Char('q')));
    }

    #[test]
    fn any_key_closes_the_help_but_control_c_leaves() {
        let mut app = app();
        assert!(press(&mut app, KeyCode::Char('?')) && app.shows_help);
        assert!(press(&mut app, KeyCode::Char('q')) && !app.shows_help);
        app.shows_help = true;
        assert!(!app.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn a_pause_keeps_the_picture_and_goes_on_counting() {
        let mut app = app();
        let at = |taken_ns| {
            let mut snapshot = Box::<Snapshot>::default();
            snapshot.taken_ns = taken_ns;
            snapshot
        };
        app.update(at(1));
        assert!(press(&mut app, KeyCode::Char('p')));
        app.update(at(2));
        assert_eq!(app.snapshot.taken_ns, 1);
        assert_eq!(app.history.resident(10).len(), 2);
    }
}
