//! Colour, where somebody looks: on a terminal, unless `NO_COLOR` is set.

use std::env;
use std::io::{self, IsTerminal as _};

/// How plain output is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colour: bool,
    width: usize,
}

impl Style {
    /// For standard output as it is.
    pub(crate) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|name| name == "dumb");
        let width = if terminal { columns() } else { None };
        // Longer lines are hard to read.
        Self { colour: terminal && !refused && !dumb, width: width.unwrap_or(100).min(100) }
    }

    /// Columns that a paragraph may fill.
    pub(crate) fn width(self) -> usize {
        self.width
    }

    /// `text` in an ANSI colour (30 to 37).
    pub(crate) fn paint(self, colour: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.into() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(1, text)
    }
}

fn columns() -> Option<usize> {
    // SAFETY: an all-zero winsize is a valid value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: `size` is writable and outlives the call.
    let answer = unsafe { libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
