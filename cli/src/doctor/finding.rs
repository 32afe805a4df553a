//! What the doctor says about one thing it looked at.

use std::fmt;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Note,
    /// Costs memory, speed or safety, or soon will.
    Warning,
    /// zonal does not work, or not for long.
    Problem,
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One thing that was looked at: what it is, what that means, and what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    pub(super) means: Option<String>,
    pub(super) change: Option<String>,
}

impl Finding {
    fn new(level: Level, check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level, found: found.into(), means: None, change: None }
    }

    pub(super) fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Fine, check, found)
    }

    pub(super) fn note(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Note, check, found)
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, found)
    }

    pub(super) fn problem(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Problem, check, found)
    }

    pub(super) fn means(mut self, text: impl Into<String>) -> Self {
        self.means = Some(text.into());
        self
    }

    pub(super) fn change(mut self, text: impl Into<String>) -> Self {
        self.change = Some(text.into());
        self
    }
}
