//! The findings as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::finding::{Finding, Level};
use crate::style::Style;
use crate::system::printable;

/// Width of the column with the name of the check.
const NAME: usize = 12;
/// Where the text of a finding begins.
const INDENT: usize = 2 + 8 + NAME;

/// One finding a paragraph, what matters most first.
pub(super) fn text(subject: &str, findings: &[Finding], style: Style) -> String {
    let mut out = format!("zonal doctor: {}\n\n", printable(subject));
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    for finding in sorted {
        let word = style.paint(paint(finding.level), &format!("{:<8}", finding.level));
        let name = style.bold(&format!("{:<NAME$}", finding.check));
        let _ = writeln!(out, "  {word}{name}{}", printable(&finding.found));
        for (label, text) in [("", &finding.means), ("-> ", &finding.change)] {
            if let Some(text) = text {
                paragraph(&mut out, label, &printable(text), style.width());
            }
        }
    }
    let _ = writeln!(out, "\n{}", summary(findings));
    out
}

fn paint(level: Level) -> u8 {
    match level {
        Level::Fine => 32,
        Level::Note => 36,
        Level::Warning => 33,
        Level::Problem => 31,
    }
}

/// Wraps `text` behind the column of the findings.
fn paragraph(out: &mut String, label: &str, text: &str, width: usize) {
    let room = width.saturating_sub(INDENT + label.len()).max(30);
    let mut line = String::new();
    let mut label = label.to_owned();
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > room {
            let _ = writeln!(out, "{:INDENT$}{label}{line}", "");
            label = " ".repeat(label.len());
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{:INDENT$}{label}{line}", "");
}

fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let plural =
        |count: usize, word: &str| format!("{count} {word}{}", ["s", ""][usize::from(count == 1)]);
    match (count(Level::Problem), count(Level::Warning)) {
        (0, 0) => "Nothing stands in the way of zonal.".into(),
        (problems, warnings) => {
            format!("{}, {}.", plural(problems, "problem"), plural(warnings, "warning"))
        }
    }
}

/// `{"version": 1, "subject": ..., "findings": [...]}`; see docs/COMMANDS.md.
pub(super) fn json(subject: &str, findings: &[Finding]) -> Value {
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "level": finding.level.word(),
                "found": finding.found,
                "means": finding.means,
                "change": finding.change,
            })
        })
        .collect();
    json!({ "version": 1, "subject": subject, "findings": findings })
}
