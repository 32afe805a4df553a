//! How a program ended, and the questions that tests ask about it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Exit status and output of a finished run.
#[derive(Debug)]
pub struct Outcome {
    pub(crate) what: String,
    pub(crate) status: ExitStatus,
    pub(crate) timed_out: bool,
    pub(crate) elapsed: Duration,
    /// All that the program wrote to its standard output.
    pub stdout: String,
    /// All that it wrote to its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Panics with the whole story.
    pub fn fail(&self, why: &str) -> ! {
        let cut = |text: &str| {
            let skip = text.len().saturating_sub(6000);
            let from = (skip..=text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(0);
            text[from..].to_owned()
        };
        panic!(
            "{why}\n  command: {}\n  ended: {} after {:.2} s{}\n  stdout: {}\n  stderr: {}",
            self.what,
            self.status,
            self.elapsed.as_secs_f64(),
            if self.timed_out { " (killed at its time limit)" } else { "" },
            cut(&self.stdout),
            cut(&self.stderr)
        )
    }

    /// Whether the program ended by itself with status 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status.success() && !self.timed_out
    }

    /// The status it exited with, if no signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether it ran into its time limit.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// The signal that killed the program.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Demands status 0.
    pub fn success(self) -> Self {
        if !self.is_success() {
            self.fail("the program failed");
        }
        self
    }

    /// Demands death by this signal.
    pub fn killed_by(self, signal: i32) -> Self {
        if self.timed_out || self.status.signal() != Some(signal) {
            self.fail(&format!("the program was not killed by signal {signal}"));
        }
        self
    }

    /// Demands exactly this standard output.
    pub fn stdout_is(self, expected: &str) -> Self {
        if self.stdout != expected {
            self.fail(&format!("wrong standard output, expected: {expected:?}"));
        }
        self
    }

    /// Demands this text somewhere in the standard output.
    pub fn stdout_has(self, part: &str) -> Self {
        if !self.stdout.contains(part) {
            self.fail(&format!("the standard output lacks {part:?}"));
        }
        self
    }

    /// Demands that nothing was written to standard error: zonal is silent when all is well.
    pub fn quiet(self) -> Self {
        if !self.stderr.is_empty() {
            self.fail("unexpected text on standard error");
        }
        self
    }
}
