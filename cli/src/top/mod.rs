//! `zonal top`: a process's memory as it changes.
//!
//! Reading order: [`app`] is what is shown and what the keys do, [`screen`] the frame around the
//! pages [`overview`], [`slabs`] and [`blocks`]; the parts of the overview have a file each.
//! [`history`] remembers what was, [`bar`] and [`spark`] draw. Without a terminal [`plain`] prints
//! lines; without a process [`list`] has those that publish, and [`browse`] lets choose one.

mod app;
mod bar;
mod blocks;
mod browse;
mod caches;
mod free_area;
mod history;
mod list;
mod memory;
mod nodes;
mod overview;
mod plain;
mod rates;
mod screen;
mod slabs;
mod spark;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use zonal_stats::Snapshot;

use crate::live::Live;
use app::App;

/// Whom to watch, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: 1 2 3 or Tab for the page, p to pause, + and - for the pace, s for the order of the slabs, \
? for help, q to quit.

Without a terminal, or with --count, one line is printed at each interval.")]
pub(crate) struct TopArgs {
    /// A process that publishes its statistics: one started by `zonal run`, or with
    /// ZONAL_CONF=stats:live. Without PID, all of them are listed, to choose one.
    #[arg(value_name = "PID")]
    pid: Option<u32>,

    /// Seconds between two looks.
    #[arg(long, short, value_name = "SECONDS", default_value = "1")]
    interval: f64,

    /// Print so many lines, and end.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Watches until it is told to stop, or until the process ends.
pub(crate) fn run(args: &TopArgs) -> Result<()> {
    if !(0.05..=3600.0).contains(&args.interval) {
        bail!("--interval: {} is not between 0.05 and 3600 seconds", args.interval);
    }
    let interval = Duration::from_secs_f64(args.interval);
    let is_plain = args.json || args.count.is_some() || !io::stdout().is_terminal();
    match args.pid {
        Some(pid) => {
            let live = Live::open(pid)?;
            if is_plain {
                return plain::print(&live, interval, args.count, args.json);
            }
            // What cannot be read shall not clear the terminal first.
            let first = live.read()?;
            on_screen(|terminal| watch(terminal, &live, first, interval))
        }
        None if is_plain => list::print(args.json),
        None => on_screen(|terminal| {
            browse::run(terminal, interval, |terminal, pid| {
                let live = Live::open(pid)?;
                let first = live.read()?;
                watch(terminal, &live, first, interval)
            })
        }),
    }
}

/// Does it on a screen of its own; the terminal is then as it was.
fn on_screen(show: impl FnOnce(&mut DefaultTerminal) -> Result<()>) -> Result<()> {
    let mut terminal = ratatui::try_init()?;
    let result = show(&mut terminal);
    ratatui::restore();
    result
}

fn watch(
    terminal: &mut DefaultTerminal,
    live: &Live,
    first: Box<Snapshot>,
    interval: Duration,
) -> Result<()> {
    let mut app = App::new(live.name(), live.pid(), interval);
    app.update(first);
    let mut next = Instant::now() + app.interval();
    loop {
        terminal.draw(|frame| screen::draw(frame, &mut app))?;
        let rest = next.saturating_duration_since(Instant::now());
        if event::poll(rest)? {
            if let Event::Key(key) = event::read()?
                && !app.press(key)
            {
                return Ok(());
            }
            // A faster pace takes effect at once.
            next = next.min(Instant::now() + app.interval());
            continue;
        }
        app.update(live.read()?);
        next = Instant::now() + app.interval();
    }
}
