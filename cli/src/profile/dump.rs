//! The text that the library writes: figures, return addresses, and the list of mappings.

use anyhow::{Context as _, Result};

/// A parsed profile.
#[derive(Debug, Default)]
pub(super) struct Dump {
    /// Mean bytes between two samples.
    pub(super) rate: Option<i64>,
    /// Sampled objects that found no place.
    pub(super) lost: Option<u64>,
    pub(super) stacks: Vec<Stack>,
    /// In order of address.
    pub(super) mappings: Vec<Mapping>,
}

/// What one stack allocated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stack {
    pub(super) live: i64,
    pub(super) live_bytes: i64,
    pub(super) total: i64,
    pub(super) total_bytes: i64,
    /// Addresses inside the calls, the innermost first.
    pub(super) frames: Vec<u64>,
}

/// A file mapped for execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) path: String,
}

impl Dump {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let head = lines.next().context("the file is empty")?;
        head.strip_prefix("heap profile:").context("the first line is another one")?;
        let mut dump = Self::default();
        for line in lines.by_ref() {
            if line == "MAPPED_LIBRARIES:" {
                break;
            }
            if let Some(comment) = line.strip_prefix("# ") {
                dump.rate = after(comment, "rate");
                dump.lost = after(comment, "lost");
            } else if !line.is_empty() {
                let stack = Stack::parse(line).with_context(|| format!("bad line: {line}"))?;
                dump.stacks.push(stack);
            }
        }
        dump.mappings = lines.filter_map(Mapping::parse).collect();
        Ok(dump)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.live_bytes.max(0).unsigned_abs()).sum()
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.total_bytes.max(0).unsigned_abs()).sum()
    }
}

/// The number behind `word`.
fn after<T: std::str::FromStr>(text: &str, word: &str) -> Option<T> {
    text.split_whitespace().skip_while(|part| *part != word).nth(1)?.parse().ok()
}

impl Stack {
    /// `live: bytes [total: bytes] @ 0x1 0x2`
    fn parse(line: &str) -> Option<Self> {
        let (figures, frames) = line.split_once('@')?;
        let mut numbers = figures
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (live, live_bytes, total, total_bytes) = (next()?, next()?, next()?, next()?);
        let frames = frames.split_whitespace().map(|frame| {
            // Return addresses: one less lies in the call.
            let address = u64::from_str_radix(frame.strip_prefix("0x")?, 16).ok()?;
            address.checked_sub(1)
        });
        let frames = frames.collect::<Option<_>>()?;
        Some(Self { live, live_bytes, total, total_bytes, frames })
    }
}

impl Mapping {
    /// `start-end r-xp offset dev inode path`, as `/proc/PID/maps` has it. Only code counts.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        fields.next()?.contains('x').then_some(())?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (hex(start)?, hex(end)?, hex(fields.next()?)?);
        let path = fields.nth(2)?.trim_start().to_owned();
        path.starts_with(['/', '[']).then_some(Self { start, end, offset, path })
    }

    pub(super) fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
heap profile:     3:     1600 [    10:     5000] @ heapprofile
# zonal 0.1.0 pid 17 rate 524288 lost 2
     1:      600 [     4:     2000] @ 0x401001 0x7f0000000011
     2:     1000 [     6:     3000] @

MAPPED_LIBRARIES:
00400000-00401000 r--p 00000000 fe:01 99   /usr/bin/a program
00401000-00402000 r-xp 00001000 fe:01 99   /usr/bin/a program
7f0000000000-7f0000001000 r-xp 00000000 00:00 0
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn reads_what_the_library_writes() {
        let dump = Dump::parse(TEXT).unwrap();
        assert_eq!((dump.rate, dump.lost), (Some(524_288), Some(2)));
        assert_eq!((dump.live_bytes(), dump.total_bytes()), (1600, 5000));
        let frames = vec![0x40_1000, 0x7f00_0000_0010];
        let first = Stack { live: 1, live_bytes: 600, total: 4, total_bytes: 2000, frames };
        assert_eq!(dump.stacks[0], first);
        assert!(dump.stacks[1].frames.is_empty());
        let paths: Vec<_> = dump.mappings.iter().map(|map| map.path.as_str()).collect();
        assert_eq!(paths, ["/usr/bin/a program", "[vdso]"]);
        assert!(dump.mappings[0].contains(0x40_1fff) && !dump.mappings[0].contains(0x40_0fff));
        assert_eq!(dump.mappings[0].offset, 0x1000);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "hello", "heap profile: 0: 0 [0: 0] @ heapprofile\nnonsense"] {
            assert!(Dump::parse(text).is_err(), "{text}");
        }
        let cut = "heap profile: 0: 0 [0: 0] @ heapprofile\n 1: 2 [3: 4] @ 0x";
        assert!(Dump::parse(cut).is_err());
    }
}
