//! The kernel's texts about control groups and nodes.

use super::Room;

/// Amounts from here on mean "no limit" in v1, which writes the largest number of pages.
const NO_LIMIT: usize = 1 << 62;

/// The path of the process's group in v1's memory hierarchy, from `/proc/self/cgroup`.
pub(super) fn group_v1(text: &[u8]) -> Option<&[u8]> {
    lines(text).find_map(|line| {
        let (controllers, path) = fields(line)?;
        controllers.split(|&b| b == b',').any(|name| name == b"memory").then_some(path)
    })
}

/// The path of its group in v2's only hierarchy.
pub(super) fn group_v2(text: &[u8]) -> Option<&[u8]> {
    lines(text).find_map(|line| fields(line).filter(|(names, _)| names.is_empty()).map(|(_, p)| p))
}

/// Controllers and path of `4:cpu,memory:/path`; the path without its last slash. One that leads
/// out of the visible hierarchy names nothing.
fn fields(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = line.splitn(3, |&b| b == b':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let is_visible = path.starts_with(b"/") && !path.starts_with(b"/..");
    is_visible.then(|| (controllers, path.strip_suffix(b"/").unwrap_or(path)))
}

/// The group above; none above the root.
pub(super) fn parent(group: &[u8]) -> Option<&[u8]> {
    group.iter().rposition(|&b| b == b'/').map(|slash| &group[..slash])
}

/// The amount in a file of one line; none for `max` and what is as good as that.
pub(super) fn amount(text: &[u8]) -> Option<usize> {
    number(text.trim_ascii()).filter(|&bytes| bytes < NO_LIMIT)
}

/// The value behind `name` in a file of `name value` lines.
pub(super) fn field(text: &[u8], name: &[u8]) -> Option<usize> {
    lines(text).find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(b" ")?;
        number(value.trim_ascii())
    })
}

/// What a group can still have.
pub(super) fn available(total: usize, current: usize, inactive_file: usize) -> usize {
    total.saturating_sub(current.saturating_sub(inactive_file))
}

/// What a node's `meminfo` says, as far as it was read.
#[derive(Default)]
pub(super) struct Meminfo {
    total: Option<usize>,
    free: Option<usize>,
    inactive_file: Option<usize>,
}

impl Meminfo {
    /// Takes in more lines, such as `Node 0 MemFree:  123 kB`; the room as soon as all is known.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<Room> {
        let kib = |name: &[u8]| {
            lines(text).find_map(|line| {
                let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                words.find(|word| *word == name)?;
                number(words.next()?)?.checked_mul(1024)
            })
        };
        self.total = self.total.or_else(|| kib(b"MemTotal:"));
        self.free = self.free.or_else(|| kib(b"MemFree:"));
        self.inactive_file = self.inactive_file.or_else(|| kib(b"Inactive(file):"));
        self.inactive_file.and(self.room())
    }

    /// The room, once the lines that tell it were seen.
    pub(super) fn room(&self) -> Option<Room> {
        let available = self.free?.saturating_add(self.inactive_file.unwrap_or(0));
        Some(Room { total: self.total?, available })
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n')
}

/// A decimal number, digits only.
fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_usize, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"12:pids:/user.slice\n7:cpu,memory:/docker/af01\n1:name=systemd:/\n\
                            0::/system.slice/a.service\n";

    #[test]
    fn the_group_of_each_version() {
        assert_eq!(group_v1(HYBRID), Some(&b"/docker/af01"[..]));
        assert_eq!(group_v2(HYBRID), Some(&b"/system.slice/a.service"[..]));
        assert_eq!(group_v2(b"0::/\n"), Some(&b""[..]));
        assert_eq!(group_v1(b"0::/\n"), None);
        assert_eq!(group_v1(b"3:memorystick:/a\n"), None);
        // A name with colons, and a group outside the namespace.
        assert_eq!(group_v2(b"0::/a:b/c\n"), Some(&b"/a:b/c"[..]));
        assert_eq!(group_v2(b"0::/../other\n"), None);
        assert_eq!(group_v1(b"nonsense"), None);
    }

    #[test]
    fn levels_lead_to_the_root_and_end_there() {
        let mut levels = vec![&b"/a/b/c"[..]];
        while let Some(above) = parent(levels[levels.len() - 1]) {
            levels.push(above);
        }
        assert_eq!(levels, [&b"/a/b/c"[..], b"/a/b", b"/a", b""]);
    }

    #[test]
    fn limits_of_both_versions() {
        assert_eq!(amount(b"1073741824\n"), Some(1 << 30));
        assert_eq!(amount(b"max\n"), None);
        assert_eq!(amount(b"9223372036854771712\n"), None);
        assert_eq!(amount(b"\n"), None);
        assert_eq!(amount(b"99999999999999999999999\n"), None);
    }

    #[test]
    fn fields_match_whole_names() {
        let stat = b"anon 1\nworkingset_inactive_file 7\ninactive_file 4096\ninactive_file_x 3\n";
        assert_eq!(field(stat, b"inactive_file"), Some(4096));
        assert_eq!(field(stat, b"active_file"), None);
        assert_eq!(field(b"inactive_file 12x\n", b"inactive_file"), None);
    }

    #[test]
    fn inactive_files_are_no_use_of_memory() {
        assert_eq!(available(1000, 900, 300), 400);
        assert_eq!(available(1000, 1200, 0), 0);
        assert_eq!(available(1000, 100, 300), 1000);
    }

    #[test]
    fn a_node() {
        let text = b"\nNode 0 MemTotal:       24683736 kB\nNode 0 MemFree:        23000000 kB\n\
                     Node 0 Inactive(anon):   1 kB\nNode 0 Inactive(file):   1000 kB\n";
        let room = Room { total: 24_683_736 << 10, available: 23_001_000 << 10 };
        assert_eq!(Meminfo::default().read(text), Some(room));
        let mut meminfo = Meminfo::default();
        let mut lines = text.split_inclusive(|&b| b == b'\n');
        assert_eq!(lines.find_map(|line| meminfo.read(line)), Some(room));
        assert_eq!(Meminfo::default().read(b"Node 0 MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_tighter_room() {
        let room = |available| Room { total: 9, available };
        assert_eq!(room(5).tighter(Some(room(3))), room(3));
        assert_eq!(room(5).tighter(Some(room(7))), room(5));
        assert_eq!(room(5).tighter(None), room(5));
    }
}
