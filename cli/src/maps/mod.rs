//! `zonal maps PID`: what each section of a process holds.

pub(crate) mod picture;

use std::io::{self, Write as _};

use anyhow::Result;
use clap::Args;

use crate::live::Live;
use crate::style::Style;
use picture::Piece;

/// Whom to look at.
#[derive(Debug, Args)]
pub(crate) struct MapsArgs {
    /// A process that publishes its statistics: one started by `zonal run`, or with
    /// ZONAL_CONF=stats:live.
    #[arg(value_name = "PID")]
    pid: u32,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the picture.
pub(crate) fn run(args: &MapsArgs) -> Result<()> {
    let snapshot = Live::open(args.pid)?.read()?;
    let mut out = io::stdout().lock();
    if args.json {
        let mut text = String::new();
        zonal_stats::json::write_sections(&mut text, &snapshot)?;
        return Ok(out.write_all(text.as_bytes())?);
    }
    let style = Style::of_stdout();
    for line in picture::lines(&snapshot, style.width()) {
        writeln!(out, "{}", painted(&line, style))?;
    }
    writeln!(out, "\n{}", painted(&picture::legend(), style))?;
    writeln!(out, "Capital letters: more than half of it. Small: less, the rest is free.")?;
    Ok(())
}

fn painted(line: &[Piece], style: Style) -> String {
    let piece = |piece: &Piece| match piece.content {
        Some(content) => style.paint(content.colour(), &piece.text),
        None => piece.text.clone(),
    };
    line.iter().map(piece).collect()
}
