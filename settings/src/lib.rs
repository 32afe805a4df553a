//! `ZONAL_CONF=key:value,key:value`: what may stand there, for the library that follows it and for the
//! command that says beforehand what is wrong.
//!
//! Keys, values, defaults and effects: `docs/CONFIGURATION.md`, which a test compares with `parse`.
//! Reading order: here the keys, in `mode` what some of them choose among, in `value` how values are
//! read, in `wrong` what is said about those that are not understood.

#![no_std]
#[cfg(test)]
extern crate std;

mod mode;
mod value;
mod wrong;

use zonal_allocator::watermark::WatermarkFactors;
use zonal_allocator::{NodeReclaimMode, Thp, Weights};
use zonal_numa::{MAX_NODES, MemPolicy};
use zonal_stats::Format;

pub use mode::{DEFAULT_RATE, FENCE_PERIOD, Level, MAX_PATH, Mode, PressureMode, SIGNALS};
use value::{
    BOOST_FACTORS, SCALE_FACTORS, bytes, factor, node_limits, number, one_of, policy, signal,
};
use wrong::wanted;
pub use wrong::{KEYS, Wrong};

/// What the user asked for.
#[derive(Debug)]
pub struct Settings<'a> {
    /// A report when the process ends.
    pub stats_at_exit: bool,
    /// A live page.
    pub stats_live: bool,
    /// A report when this signal comes.
    pub stats_signal: Option<i32>,
    /// How reports are written.
    pub stats_format: Format,
    /// Lies in the environment block: to be used at once, the program may overwrite it.
    pub stats_file: Option<&'a [u8]>,
    /// None leaves it to the policies of the kernel.
    pub policy: Option<MemPolicy>,
    /// For weighted interleaving; zeros for the kernel's own.
    pub weights: Weights,
    /// What the process may have, in bytes.
    pub limit: Option<usize>,
    /// What it shall have.
    pub soft_limit: Option<usize>,
    /// What it may have of each node.
    pub node_limits: [Option<usize>; MAX_NODES],
    /// How early free memory is wanted.
    pub watermarks: WatermarkFactors,
    /// Huge pages.
    pub thp: Thp,
    /// What is reclaimed of a node before others are asked.
    pub node_reclaim: NodeReclaimMode,
    /// Whether memory is placed by node.
    pub numa: bool,
    /// No call of the system that is not needed.
    pub minimal_syscalls: bool,
    /// The background thread.
    pub kswapd: Mode,
    /// What is looked for.
    pub harden: Level,
    /// One miss in so many is served by a fenced object.
    pub fence: u64,
    /// Who looks at what is left outside.
    pub pressure: PressureMode,
    /// Whether free memory goes back.
    pub purge: bool,
    /// Samples from the start.
    pub profile: bool,
    /// One sample in so many bytes.
    pub profile_rate: usize,
    /// As for `stats_file`.
    pub profile_file: Option<&'a [u8]>,
    /// Starts, stops and writes profiles.
    pub profile_signal: Option<i32>,
    /// A report of what is still alive at the end.
    pub leaks_at_exit: bool,
}

impl Settings<'_> {
    /// What holds without a word from the user.
    pub const DEFAULT: Self = Self {
        stats_at_exit: false,
        stats_live: false,
        stats_signal: None,
        stats_format: Format::Text,
        stats_file: None,
        policy: None,
        weights: Weights([0; MAX_NODES]),
        limit: None,
        soft_limit: None,
        node_limits: [None; MAX_NODES],
        watermarks: WatermarkFactors::DEFAULT,
        thp: Thp::Auto,
        node_reclaim: NodeReclaimMode::OFF,
        numa: true,
        minimal_syscalls: false,
        kswapd: Mode::Auto,
        harden: Level::Usual,
        fence: FENCE_PERIOD,
        pressure: PressureMode::Auto,
        purge: true,
        profile: false,
        profile_rate: DEFAULT_RATE,
        profile_file: None,
        profile_signal: None,
        leaks_at_exit: false,
    };
}

/// Follows the settings of `text` in order. What is wrong with one goes to `complain`; it changes nothing.
pub fn parse<'a>(text: &'a [u8], settings: &mut Settings<'a>, mut complain: impl FnMut(Wrong<'a>)) {
    for item in text.split(|&byte| byte == b',').filter(|item| !item.is_empty()) {
        let mut parts = item.splitn(2, |&byte| byte == b':');
        let key = parts.next().unwrap_or_default();
        let value = parts.next();
        match (wanted(key), set(settings, key, value.unwrap_or_default())) {
            (Some(_), Some(true)) => {}
            _ if value.is_none() => complain(Wrong::NoColon(item)),
            (Some(wanted), None) => complain(Wrong::BadValue { item, wanted }),
            _ => complain(Wrong::UnknownKey(item)),
        }
    }
    if settings.profile_signal.is_some() && settings.profile_signal == settings.stats_signal {
        complain(Wrong::SignalTaken);
        settings.profile_signal = None;
    }
}

/// Tells what is wrong with `text`, and follows nothing of it.
pub fn check<'a>(text: &'a [u8], complain: impl FnMut(Wrong<'a>)) {
    let mut settings = Settings::DEFAULT;
    parse(text, &mut settings, complain);
}

/// Whether there is such a key; none where its value is bad.
fn set<'a>(settings: &mut Settings<'a>, key: &[u8], value: &'a [u8]) -> Option<bool> {
    const ON_OFF: &[(&str, bool)] = &[("on", true), ("off", false)];
    let path = Some(value).filter(|path| !path.is_empty());
    match key {
        b"stats" => {
            (settings.stats_at_exit, settings.stats_live) = one_of(
                value,
                &[
                    ("exit", (true, false)),
                    ("live", (false, true)),
                    ("exit+live", (true, true)),
                    ("live+exit", (true, true)),
                    ("off", (false, false)),
                ],
            )?;
        }
        b"stats_signal" => settings.stats_signal = Some(signal(value)?),
        b"stats_format" => {
            let (json, prometheus) = (Format::Json, Format::Prometheus);
            let formats = [("text", Format::Text), ("json", json), ("prometheus", prometheus)];
            settings.stats_format = one_of(value, &formats)?;
        }
        b"stats_file" => settings.stats_file = Some(path?),
        b"policy" => (settings.policy, settings.weights) = policy(value)?,
        b"limit" => settings.limit = Some(bytes(value)?),
        b"soft_limit" => settings.soft_limit = Some(bytes(value)?),
        b"node_limit" => settings.node_limits = node_limits(value)?,
        b"watermark_scale_factor" => settings.watermarks.scale = factor(value, SCALE_FACTORS)?,
        b"watermark_boost_factor" => settings.watermarks.boost = factor(value, BOOST_FACTORS)?,
        b"thp" => {
            let modes = [("auto", Thp::Auto), ("always", Thp::Always), ("never", Thp::Never)];
            settings.thp = one_of(value, &modes)?;
        }
        b"kswapd" => {
            let modes = [("auto", Mode::Auto), ("off", Mode::Off), ("always", Mode::Always)];
            settings.kswapd = one_of(value, &modes)?;
        }
        b"pressure" => {
            let (auto, always) = (PressureMode::Auto, PressureMode::Always);
            let modes = [("auto", auto), ("off", PressureMode::Off), ("always", always)];
            settings.pressure = one_of(value, &modes)?;
        }
        b"purge" => settings.purge = one_of(value, ON_OFF)?,
        b"node_reclaim" => settings.node_reclaim = NodeReclaimMode::from_bits(number(value)?)?,
        b"numa" => settings.numa = one_of(value, ON_OFF)?,
        b"harden" => {
            let levels = [("0", Level::Off), ("1", Level::Usual), ("2", Level::Full)];
            settings.harden = one_of(value, &levels)?;
        }
        b"fence" => settings.fence = number(value)? as u64,
        b"profile" => settings.profile = one_of(value, ON_OFF)?,
        b"profile_rate" => settings.profile_rate = bytes(value)?,
        b"profile_file" => {
            settings.profile_file = Some(path.filter(|path| path.len() <= MAX_PATH)?);
        }
        b"profile_signal" => settings.profile_signal = Some(signal(value)?),
        b"leaks" => settings.leaks_at_exit = one_of(value, &[("exit", true), ("off", false)])?,
        b"syscalls" => {
            settings.minimal_syscalls = one_of(value, &[("minimal", true), ("all", false)])?;
        }
        _ => return Some(false),
    }
    Some(true)
}

#[cfg(test)]
mod tests;
