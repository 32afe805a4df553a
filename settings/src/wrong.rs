//! What is wrong with a setting, and what would be right.

use core::fmt;

/// A setting that is not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong<'a> {
    /// It is not `key:value`.
    NoColon(&'a [u8]),
    /// There is no such key.
    UnknownKey(&'a [u8]),
    /// The key does not take this value.
    BadValue {
        /// Key and value.
        item: &'a [u8],
        /// What the key takes.
        wanted: &'static str,
    },
    /// One signal shall serve two purposes.
    SignalTaken,
}

const SIZE: &str = "a size such as 512M or 2G, without a B";
const SIGNAL: &str = "HUP, INT, QUIT, USR1, USR2, URG, WINCH, IO, PWR, RTMIN+n or RTMAX-n";
const ON_OFF: &str = "on or off";
const FILE: &str = "a path";

/// Every key with what it takes.
pub const KEYS: [(&str, &str); 24] = [
    ("stats", "exit, live, exit+live or off"),
    ("stats_signal", SIGNAL),
    ("stats_format", "text, json or prometheus"),
    ("stats_file", FILE),
    ("policy", "default, local, or MODE=NODES such as bind=0-1+3"),
    ("limit", SIZE),
    ("soft_limit", SIZE),
    ("node_limit", "NODE=SIZE, joined by +, each node once, such as 0=1G+1=512M"),
    ("watermark_scale_factor", "1 to 3000"),
    ("watermark_boost_factor", "0 to 2147483647"),
    ("thp", "auto, always or never"),
    ("kswapd", "auto, off or always"),
    ("pressure", "auto, off or always"),
    ("purge", ON_OFF),
    ("node_reclaim", "0 to 7"),
    ("numa", ON_OFF),
    ("harden", "0, 1 or 2"),
    ("fence", "a number"),
    ("profile", ON_OFF),
    ("profile_rate", SIZE),
    ("profile_file", FILE),
    ("profile_signal", SIGNAL),
    ("leaks", "exit or off"),
    ("syscalls", "minimal or all"),
];

/// What the key takes, if there is such a key.
pub(crate) fn wanted(key: &[u8]) -> Option<&'static str> {
    KEYS.iter().find(|(name, _)| name.as_bytes() == key).map(|&(_, wanted)| wanted)
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoColon(item) => write!(f, "no ':' in '{}'", Shown(item)),
            Self::UnknownKey(item) if item.trim_ascii_start().len() < item.len() => {
                write!(f, "unknown key in '{}': no spaces around settings", Shown(item))
            }
            Self::UnknownKey(item) => {
                write!(f, "unknown key in '{}'; all keys: docs/CONFIGURATION.md", Shown(item))
            }
            Self::BadValue { item, wanted } => {
                write!(f, "bad value in '{}'; allowed: {wanted}", Shown(item))
            }
            Self::SignalTaken => f.write_str("profile_signal is taken by stats_signal"),
        }
    }
}

/// The start of a setting: a line has to have room for the rest.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 60;
        let text = self.0.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let ends = text.char_indices().nth(MOST).map(|(end, _)| end);
        f.write_str(ends.map_or(text, |end| &text[..end]))?;
        f.write_str(if ends.is_some() { "..." } else { "" })
    }
}
