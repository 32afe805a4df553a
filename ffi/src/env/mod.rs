//! `ZONAL_CONF=key:value,key:value`: the only configuration that comes from outside.
//!
//! Read once, at the first call of the process, straight from the environment block: no heap, no
//! copy. A process that runs with more rights than its caller (AT_SECURE, as `secure_getenv` has
//! it) reads nothing. An unknown key or a bad value is one line on stderr, and then ignored.
//!
//! Keys, values, defaults and effects: `docs/CONFIGURATION.md`, which a test compares with [`set`].

mod value;

use core::ffi::{CStr, c_char};

use zonal_allocator::watermark::WatermarkFactors;
use zonal_allocator::{NodeReclaimMode, Thp, Weights};
use zonal_numa::{MAX_NODES, MemPolicy, weak_symbol};
use zonal_stats::Format;

use crate::fd::Line;
use crate::harden::{self, Level};
use crate::kswapd::{Mode, PressureMode};
use crate::profile;
use value::{
    BOOST_FACTORS, SCALE_FACTORS, bytes, factor, node_limits, number, one_of, policy, signal,
};

/// What the user asked for.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) stats_at_exit: bool,
    pub(crate) stats_live: bool,
    pub(crate) stats_signal: Option<i32>,
    pub(crate) stats_format: Format,
    /// Lies in the environment block: to be used at once, the program may overwrite it.
    pub(crate) stats_file: Option<&'static [u8]>,
    /// None leaves it to the policies of the kernel.
    pub(crate) policy: Option<MemPolicy>,
    /// For weighted interleaving; zeros for the kernel's own.
    pub(crate) weights: Weights,
    pub(crate) limit: Option<usize>,
    pub(crate) soft_limit: Option<usize>,
    pub(crate) node_limits: [Option<usize>; MAX_NODES],
    pub(crate) watermarks: WatermarkFactors,
    pub(crate) thp: Thp,
    pub(crate) node_reclaim: NodeReclaimMode,
    pub(crate) numa: bool,
    pub(crate) minimal_syscalls: bool,
    pub(crate) kswapd: Mode,
    pub(crate) harden: Level,
    pub(crate) fence: u64,
    pub(crate) pressure: PressureMode,
    pub(crate) purge: bool,
    pub(crate) profile: bool,
    pub(crate) profile_rate: usize,
    /// As for `stats_file`.
    pub(crate) profile_file: Option<&'static [u8]>,
    pub(crate) profile_signal: Option<i32>,
    pub(crate) leaks_at_exit: bool,
}

impl Settings {
    const DEFAULT: Settings = Settings {
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
        fence: harden::FENCE_PERIOD,
        pressure: PressureMode::Auto,
        purge: true,
        profile: false,
        profile_rate: profile::DEFAULT_RATE,
        profile_file: None,
        profile_signal: None,
        leaks_at_exit: false,
    };
}

/// Reads the configuration of this process.
pub(crate) fn read() -> Settings {
    let mut settings = Settings::DEFAULT;
    // SAFETY: getauxval reads a table that the kernel made.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0
        && let Some(text) = variable(b"ZONAL_CONF=")
    {
        parse(text, &mut settings);
    }
    settings
}

/// The value of the variable `name`, which ends in `=`.
fn variable(name: &[u8]) -> Option<&'static [u8]> {
    let mut entry = environment()?;
    loop {
        // SAFETY: the block is an array that ends in null.
        let text = unsafe { *entry };
        if text.is_null() {
            return None;
        }
        // SAFETY: every entry before the null is a string.
        let text = unsafe { CStr::from_ptr(text) };
        if let Some(value) = text.to_bytes().strip_prefix(name) {
            return Some(value);
        }
        // SAFETY: the null is not reached yet.
        entry = unsafe { entry.add(1) };
    }
}

/// The environment block. Calls from `.preinit_array` come before the C library knows it; then it
/// is where the kernel put it: on the stack, behind the arguments.
fn environment() -> Option<*const *const c_char> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: a word of the C library.
    let known = unsafe { environ };
    if !known.is_null() {
        return Some(known);
    }
    let stack_end: *const *const usize = weak_symbol!("__libc_stack_end");
    // SAFETY: null, or the dynamic linker's word with the address where the process started.
    let start = unsafe { stack_end.as_ref() }?;
    // SAFETY: the kernel put there the number of arguments, their addresses, a null, and the
    // environment.
    unsafe {
        let arguments = start.add(1).cast::<*const c_char>();
        let end = arguments.add(start.read());
        (*end).is_null().then(|| end.add(1))
    }
}

#[cold]
#[inline(never)]
fn parse(text: &'static [u8], settings: &mut Settings) {
    for item in text.split(|&byte| byte == b',').filter(|item| !item.is_empty()) {
        let mut parts = item.splitn(2, |&byte| byte == b':');
        let key = parts.next().unwrap_or_default();
        let value = parts.next();
        let wrong = match set(settings, key, value.unwrap_or_default()) {
            Some(true) => continue,
            _ if value.is_none() => "no ':'",
            Some(false) => "unknown key",
            None => "bad value",
        };
        let shown = item.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Line::stderr(format_args!("ZONAL_CONF: {wrong} in '{shown}'"));
    }
    if settings.profile_signal.is_some() && settings.profile_signal == settings.stats_signal {
        Line::stderr(format_args!("ZONAL_CONF: profile_signal is taken by stats_signal"));
        settings.profile_signal = None;
    }
}

/// Whether there is such a key; none where its value is bad.
fn set(settings: &mut Settings, key: &[u8], value: &'static [u8]) -> Option<bool> {
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
            settings.profile_file = Some(path.filter(|path| path.len() <= profile::MAX_PATH)?);
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
