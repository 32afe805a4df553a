//! `ZONAL_CONF=key:value,key:value`: the only configuration that comes from outside.
//!
//! Read once, at the first call of the process, straight from the environment block: no heap, no
//! copy. A process that runs with more rights than its caller (AT_SECURE, as `secure_getenv` has
//! it) reads nothing. An unknown key or a bad value is one line on stderr, and then ignored.
//!
//! Keys, values, defaults and effects: `docs/CONFIGURATION.md`, which a test compares with [`set`].

use core::ffi::{CStr, c_char};
use core::str;

use zonal_allocator::zone::Thp;
use zonal_allocator::{NodeReclaimMode, Weights};
use zonal_numa::{MAX_NODES, MemPolicy, NodeId, NodeMask, PolicyMode, weak_symbol};
use zonal_stats::Format;

use crate::fd::Line;
use crate::handler;
use crate::harden::Level;
use crate::kswapd::{Mode, PressureMode};
use crate::profile;

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
    pub(crate) thp: Thp,
    pub(crate) node_reclaim: NodeReclaimMode,
    pub(crate) numa: bool,
    pub(crate) minimal_syscalls: bool,
    pub(crate) kswapd: Mode,
    pub(crate) harden: Level,
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
        thp: Thp::Auto,
        node_reclaim: NodeReclaimMode::OFF,
        numa: true,
        minimal_syscalls: false,
        kswapd: Mode::Auto,
        harden: Level::Usual,
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

fn parse(text: &'static [u8], settings: &mut Settings) {
    for item in text.split(|&byte| byte == b',').filter(|item| !item.is_empty()) {
        let mut parts = item.splitn(2, |&byte| byte == b':');
        let key = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let shown = item.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        match set(settings, key, value) {
            Ok(()) => {}
            Err(Wrong::Key) => Line::stderr(format_args!("ZONAL_CONF: unknown key in '{shown}'")),
            Err(Wrong::Value) => Line::stderr(format_args!("ZONAL_CONF: bad value in '{shown}'")),
        }
    }
    if settings.profile_signal.is_some() && settings.profile_signal == settings.stats_signal {
        Line::stderr(format_args!("ZONAL_CONF: profile_signal is taken by stats_signal"));
        settings.profile_signal = None;
    }
}

enum Wrong {
    Key,
    Value,
}

fn set(settings: &mut Settings, key: &[u8], value: &'static [u8]) -> Result<(), Wrong> {
    match key {
        b"stats" => {
            let modes: &[(&[u8], (bool, bool))] = &[
                (b"exit", (true, false)),
                (b"live", (false, true)),
                (b"exit+live", (true, true)),
                (b"live+exit", (true, true)),
                (b"off", (false, false)),
            ];
            (settings.stats_at_exit, settings.stats_live) = one_of(value, modes)?;
        }
        b"stats_signal" => settings.stats_signal = Some(signal(value).ok_or(Wrong::Value)?),
        b"stats_format" => {
            let formats: &[(&[u8], Format)] = &[
                (b"text", Format::Text),
                (b"json", Format::Json),
                (b"prometheus", Format::Prometheus),
            ];
            settings.stats_format = one_of(value, formats)?;
        }
        b"stats_file" if value.is_empty() => return Err(Wrong::Value),
        b"stats_file" => settings.stats_file = Some(value),
        b"policy" => {
            let (policy, weights) = policy(value).ok_or(Wrong::Value)?;
            (settings.policy, settings.weights) = (policy, weights);
        }
        b"limit" => settings.limit = Some(bytes(value).ok_or(Wrong::Value)?),
        b"soft_limit" => settings.soft_limit = Some(bytes(value).ok_or(Wrong::Value)?),
        b"node_limit" => settings.node_limits = node_limits(value).ok_or(Wrong::Value)?,
        b"thp" => {
            let modes: &[(&[u8], Thp)] =
                &[(b"auto", Thp::Auto), (b"always", Thp::Always), (b"never", Thp::Never)];
            settings.thp = one_of(value, modes)?;
        }
        b"kswapd" => {
            let modes: &[(&[u8], Mode)] =
                &[(b"auto", Mode::Auto), (b"off", Mode::Off), (b"always", Mode::Always)];
            settings.kswapd = one_of(value, modes)?;
        }
        b"pressure" => {
            let modes: &[(&[u8], PressureMode)] = &[
                (b"auto", PressureMode::Auto),
                (b"off", PressureMode::Off),
                (b"always", PressureMode::Always),
            ];
            settings.pressure = one_of(value, modes)?;
        }
        b"purge" => settings.purge = one_of(value, &[(b"on", true), (b"off", false)])?,
        b"node_reclaim" => {
            let mode = number(value).and_then(NodeReclaimMode::from_bits);
            settings.node_reclaim = mode.ok_or(Wrong::Value)?;
        }
        b"numa" => settings.numa = one_of(value, &[(b"on", true), (b"off", false)])?,
        b"harden" => {
            settings.harden =
                one_of(value, &[(b"0", Level::Off), (b"1", Level::Usual), (b"2", Level::Full)])?;
        }
        b"profile" => settings.profile = one_of(value, &[(b"on", true), (b"off", false)])?,
        b"profile_rate" => settings.profile_rate = bytes(value).ok_or(Wrong::Value)?,
        b"profile_file" if value.is_empty() || value.len() > profile::MAX_PATH => {
            return Err(Wrong::Value);
        }
        b"profile_file" => settings.profile_file = Some(value),
        b"profile_signal" => settings.profile_signal = Some(signal(value).ok_or(Wrong::Value)?),
        b"leaks" => settings.leaks_at_exit = one_of(value, &[(b"exit", true), (b"off", false)])?,
        b"syscalls" => {
            settings.minimal_syscalls = one_of(value, &[(b"minimal", true), (b"all", false)])?;
        }
        _ => return Err(Wrong::Key),
    }
    Ok(())
}

fn one_of<T: Copy>(value: &[u8], words: &[(&[u8], T)]) -> Result<T, Wrong> {
    words.iter().find(|(word, _)| *word == value).map(|&(_, meaning)| meaning).ok_or(Wrong::Value)
}

/// `512M` and the like; not zero.
fn bytes(value: &[u8]) -> Option<usize> {
    let (digits, shift) = match value.split_last()? {
        (b'K' | b'k', digits) => (digits, 10),
        (b'M' | b'm', digits) => (digits, 20),
        (b'G' | b'g', digits) => (digits, 30),
        (b'T' | b't', digits) => (digits, 40),
        _ => (value, 0),
    };
    number(digits)?.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

/// `0=1G+1=512M`.
fn node_limits(list: &[u8]) -> Option<[Option<usize>; MAX_NODES]> {
    let mut limits = [None; MAX_NODES];
    for item in list.split(|&byte| byte == b'+') {
        let mut sides = item.splitn(2, |&byte| byte == b'=');
        let node = NodeId::from_index(number(sides.next()?)?)?;
        limits[node.index()] = Some(bytes(sides.next()?)?);
    }
    Some(limits)
}

/// `SIGUSR2`, `USR2`, `RTMAX-3`, `RTMIN+3` or a number. Only those that programs leave to their users:
/// a handler for any other would change what the program does.
fn signal(value: &[u8]) -> Option<i32> {
    let name = value.strip_prefix(b"SIG").unwrap_or(value);
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let named = handler::NAMES.iter().find(|&&(text, _)| text == name).map(|&(_, number)| number);
    let signal = match (named, name) {
        (Some(signal), _) => signal,
        (None, b"RTMIN") => first,
        (None, b"RTMAX") => last,
        (None, _) => match (name.strip_prefix(b"RTMIN+"), name.strip_prefix(b"RTMAX-")) {
            (Some(above), _) => first.checked_add(i32::try_from(number(above)?).ok()?)?,
            (_, Some(below)) => last.checked_sub(i32::try_from(number(below)?).ok()?)?,
            _ => i32::try_from(number(name)?).ok()?,
        },
    };
    let is_left = handler::NAMES.iter().any(|&(_, number)| number == signal);
    (is_left || (first..=last).contains(&signal)).then_some(signal)
}

fn number(digits: &[u8]) -> Option<usize> {
    // `parse` would take a sign.
    digits.first().filter(|first| first.is_ascii_digit())?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// `default`, `local`, or a mode with its nodes: `bind=0-1+3`, `weighted-interleave=0*3+1`.
fn policy(value: &[u8]) -> Option<(Option<MemPolicy>, Weights)> {
    let mut parts = value.splitn(2, |&byte| byte == b'=');
    let mode = match parts.next()? {
        b"default" => return parts.next().is_none().then_some((None, Weights::default())),
        b"local" => PolicyMode::Local,
        b"preferred" => PolicyMode::Preferred,
        b"preferred-many" => PolicyMode::PreferredMany,
        b"bind" => PolicyMode::Bind,
        b"bind-strict" => PolicyMode::BindStrict,
        b"interleave" => PolicyMode::Interleave,
        b"weighted-interleave" => PolicyMode::WeightedInterleave,
        _ => return None,
    };
    let (nodes, weights) = match parts.next() {
        Some(list) => nodes(list)?,
        None => (NodeMask::EMPTY, Weights::default()),
    };
    let has_weights = weights != Weights::default();
    let policy = MemPolicy { mode, nodes };
    let is_sound = policy.is_sound() && (!has_weights || mode == PolicyMode::WeightedInterleave);
    is_sound.then_some((Some(policy), weights))
}

/// `0-1+3`: nodes and ranges of them, joined by `+` because the comma is taken, each with its
/// weight if it has one, as in `0*3`.
fn nodes(list: &[u8]) -> Option<(NodeMask, Weights)> {
    let (mut mask, mut weights) = (NodeMask::EMPTY, Weights::default());
    for item in list.split(|&byte| byte == b'+') {
        let mut sides = item.splitn(2, |&byte| byte == b'*');
        let mut ends = sides.next()?.splitn(2, |&byte| byte == b'-');
        let first = number(ends.next()?)?;
        let last = ends.next().map_or(Some(first), number)?;
        let weight = match sides.next() {
            Some(digits) => number(digits).and_then(|n| u8::try_from(n).ok()).filter(|&n| n > 0)?,
            None => 0,
        };
        if first > last {
            return None;
        }
        for node in first..=last {
            let node = NodeId::from_index(node)?;
            mask.set(node);
            weights.0[node.index()] = weight;
        }
    }
    Some((mask, weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &'static str) -> Settings {
        let mut settings = Settings::DEFAULT;
        parse(text.as_bytes(), &mut settings);
        settings
    }

    #[test]
    fn every_key_is_understood() {
        let s = parsed(
            "stats:exit+live,stats_signal:SIGUSR2,stats_format:json,stats_file:/tmp/a:b,\
             policy:bind=0-1+3,limit:2G,\
             thp:never,numa:off,syscalls:minimal,soft_limit:1G,node_limit:0=3K+63=4M,\
             pressure:always,purge:off",
        );
        assert_eq!(
            (s.soft_limit, s.pressure, s.purge),
            (Some(1 << 30), PressureMode::Always, false)
        );
        assert_eq!((s.node_limits[0], s.node_limits[63]), (Some(3 << 10), Some(4 << 20)));
        assert_eq!(s.node_limits.iter().flatten().count(), 2);
        assert!(s.stats_at_exit && s.stats_live && s.minimal_syscalls && !s.numa);
        assert_eq!(s.stats_signal, Some(libc::SIGUSR2));
        assert_eq!(s.stats_format, Format::Json);
        assert_eq!(s.stats_file, Some(&b"/tmp/a:b"[..]));
        assert_eq!(s.policy, Some(MemPolicy::bind(NodeMask::from_bits(0b1011))));
        assert_eq!((s.limit, s.thp), (Some(2 << 30), Thp::Never));
    }

    #[test]
    fn profiles_have_keys() {
        let s = parsed(
            "profile:on,profile_rate:64K,profile_file:/x/%p,profile_signal:SIGUSR2,leaks:exit",
        );
        assert!(s.profile && s.leaks_at_exit);
        assert_eq!((s.profile_rate, s.profile_signal), (64 << 10, Some(libc::SIGUSR2)));
        assert_eq!(s.profile_file, Some(&b"/x/%p"[..]));
    }

    #[test]
    fn signals_have_names_and_numbers() {
        let signals = [
            ("USR1", Some(libc::SIGUSR1)),
            ("SIGHUP", Some(libc::SIGHUP)),
            ("WINCH", Some(libc::SIGWINCH)),
            ("12", Some(libc::SIGUSR2)),
            ("RTMIN+2", Some(libc::SIGRTMIN() + 2)),
            ("SIGRTMAX-3", Some(libc::SIGRTMAX() - 3)),
            ("SIGSEGV", None),
            ("9", None),
            ("33", None),
            ("RTMAX-99", None),
            ("RTMIN+", None),
            ("", None),
        ];
        for (text, expected) in signals {
            assert_eq!(signal(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn one_signal_serves_one_purpose() {
        let s = parsed("profile_signal:USR1,stats_signal:SIGUSR1");
        assert_eq!((s.stats_signal, s.profile_signal), (Some(libc::SIGUSR1), None));
        let s = parsed("profile_signal:USR2,stats_signal:10");
        assert_eq!((s.stats_signal, s.profile_signal), (Some(libc::SIGUSR1), Some(libc::SIGUSR2)));
    }

    #[test]
    fn bad_items_are_skipped_and_good_ones_kept() {
        let s = parsed(
            "nonsense,:,limit:,limit:-1,limit:0,limit:99999999999999999999G,thp:maybe,\
                        policy:bind,policy:bind=3-1,policy:bind=64,policy:preferred=0+1,\
                        policy:local=0,stats_file:,stats_signal:SIGKILL,,node_limit:64=1M,\
                        node_limit:0=1M+,node_limit:1M,soft_limit:0,stats:exit",
        );
        assert!(s.stats_at_exit);
        assert_eq!((s.limit, s.thp, s.stats_file), (None, Thp::Auto, None));
        assert_eq!((s.soft_limit, s.node_limits), (None, [None; MAX_NODES]));
        assert_eq!(s.policy, None);
    }

    #[test]
    fn policies_have_nodes_and_weights() {
        let s = parsed("policy:weighted-interleave=0*3+1-2+5*255");
        let nodes = NodeMask::from_bits(0b10_0111);
        assert_eq!(s.policy, Some(MemPolicy { mode: PolicyMode::WeightedInterleave, nodes }));
        assert_eq!(s.weights.0[..6], [3, 0, 0, 0, 0, 255]);
        assert_eq!(parsed("policy:local").policy, Some(MemPolicy::LOCAL));
        assert_eq!(parsed("policy:bind=0,policy:default").policy, None);
        for bad in ["=0*0", "=0*256", "=0*", "=*3", "=0*3*3", "=", "=+"] {
            let value = std::format!("weighted-interleave{bad}");
            assert!(policy(value.as_bytes()).is_none(), "{bad}");
        }
        for bad in ["interleave=0*3", "interleave", "local=1", "preferred=0-1", "default=0"] {
            assert!(policy(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let sizes = [("17", 17), ("4K", 4 << 10), ("3m", 3 << 20), ("1T", 1 << 40)];
        for (text, size) in sizes {
            assert_eq!(bytes(text.as_bytes()), Some(size));
        }
        assert_eq!(bytes(b"+4K"), None);
        assert_eq!(bytes(b"K"), None);
    }

    /// Any text: nothing of it that was refused is left, and what is read again says the same.
    #[test]
    fn conf_texts() {
        // A line for every bad item, of millions, would bury what the test has to say.
        let _quiet = Quiet::begin();
        zonal_fuzz::fuzz("conf", |text| {
            // SAFETY: the settings, which borrow from it, end before the text.
            let text: &'static [u8] = unsafe { &*core::ptr::from_ref(text) };
            let mut once = Settings::DEFAULT;
            parse(text, &mut once);
            assert!(once.limit != Some(0));
            assert!(once.stats_file.is_none_or(|path| !path.is_empty() && !path.contains(&b',')));
            let policy = once.policy;
            assert!(policy.is_none_or(MemPolicy::is_sound), "{policy:?}");
            let mut twice = Settings::DEFAULT;
            parse(text, &mut twice);
            parse(text, &mut twice);
            assert_eq!(std::format!("{once:?}"), std::format!("{twice:?}"));
        });
    }

    /// Standard error leads nowhere as long as this lives.
    struct Quiet(i32);

    impl Quiet {
        fn begin() -> Quiet {
            // SAFETY: descriptors of this process; where one cannot be had it stays as it is.
            unsafe {
                let kept = libc::dup(2);
                let nowhere = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
                libc::dup2(nowhere, 2);
                libc::close(nowhere);
                Quiet(kept)
            }
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            // SAFETY: as above.
            unsafe {
                libc::dup2(self.0, 2);
                libc::close(self.0);
            }
        }
    }
}
