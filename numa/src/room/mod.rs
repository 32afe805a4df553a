//! What memory the process can still have: its control group's share, and what a node has left.
//!
//! ```text
//!   /proc/self/cgroup --- texts::group --> path of the group (v1 or v2)
//!   MOUNT/path/...    --- texts::limit, texts::field --> a level; then its parent, up to the root
//!   node0/meminfo     --- texts::field --> a node
//! ```
//!
//! The kernel charges a process to its control group and to all groups above that, so the level
//! with the least room counts. Nothing is remembered between two readings: a process that is moved
//! to another group, or whose limits change, is seen where it is. Every file may be missing.

#[cfg(test)]
mod fuzz;
mod path;
#[cfg(test)]
mod tests;
mod texts;

use path::Path;
use texts::Meminfo;

use crate::os;

/// Room in a budget that others share: a control group, a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// The whole budget in bytes.
    pub total: usize,
    /// Of it, what is free or holds file pages that nobody used lately, which the kernel drops
    /// before it refuses anything.
    pub available: usize,
}

impl Room {
    /// The one in which less is left.
    #[must_use]
    pub fn tighter(self, other: Option<Room>) -> Room {
        other.filter(|other| other.available < self.available).unwrap_or(self)
    }
}

/// What is particular to a version of control groups.
struct Version {
    /// Where it is mounted by custom.
    mounts: &'static [&'static [u8]],
    limits: &'static [&'static [u8]],
    current: &'static [u8],
    inactive_file: &'static [u8],
}

const V1: Version = Version {
    mounts: &[b"/sys/fs/cgroup/memory"],
    limits: &[b"memory.limit_in_bytes"],
    current: b"memory.usage_in_bytes",
    inactive_file: b"total_inactive_file",
};
const V2: Version = Version {
    // The second beside v1's controllers; a stray one of these may also be beside the first.
    mounts: &[b"/sys/fs/cgroup", b"/sys/fs/cgroup/unified"],
    limits: &[b"memory.max", b"memory.high"],
    current: b"memory.current",
    inactive_file: b"inactive_file",
};

/// The room of the process's control group; none where it has no limit, or nobody says. As few files
/// as it takes: the start of every process waits for this. And little stack: callers look, too.
pub(crate) fn read_group() -> Option<Room> {
    read_group_below(b"")
}

/// The same where the root directory is `root`.
#[inline(never)]
fn read_group_below(root: &[u8]) -> Option<Room> {
    let (mut path, mut group) = (Path::new(), Path::new());
    let mut version = None;
    // In clusters a group's path has 200 characters.
    os::find_in_lines(path.join(&[root, b"/proc/self/cgroup"])?, |lines| {
        // A controller belongs to one version only: v2 has it where v1 does not.
        let of_v1 = texts::group_v1(lines).map(|name| (name, &V1));
        let (name, its) = of_v1.or_else(|| Some((texts::group_v2(lines)?, &V2)))?;
        version = group.join(&[name]).map(|_| its);
        of_v1.and(Some(()))
    });
    let (version, group) = (version?, group.as_c_str()?.to_bytes());
    version.mounts.iter().find_map(|mount| read_levels([root, mount, group], version, &mut path))
}

/// The tightest of the levels from the group up to the root.
fn read_levels(
    [root, mount, group]: [&[u8]; 3],
    version: &Version,
    path: &mut Path,
) -> Option<Room> {
    let mut tightest = None;
    let mut level = group;
    loop {
        if let Some(room) = read_level([root, mount, level], version, path) {
            tightest = Some(room.tighter(tightest));
        }
        match texts::parent(level) {
            Some(parent) => level = parent,
            None => return tightest,
        }
    }
}

fn read_level(
    [root, mount, level]: [&[u8]; 3],
    version: &Version,
    path: &mut Path,
) -> Option<Room> {
    let mut number = |name: &[u8]| {
        let mut buf = [0; 64];
        let path = path.join(&[root, mount, level, b"/", name])?;
        Some(texts::amount(os::read_start(path, &mut buf).ok()?))
    };
    // Where one file is missing, as at v2's root, the others are, too.
    let total = version.limits.iter().map_while(|name| number(name)).flatten().min()?;
    let current = number(version.current)??;
    let stat = path.join(&[root, mount, level, b"/memory.stat"])?;
    let inactive_file = os::find_in_lines(stat, |lines| texts::field(lines, version.inactive_file));
    let available = texts::available(total, current, inactive_file.unwrap_or(0));
    Some(Room { total, available })
}

/// The room of a node, by its number; none where nobody says.
#[inline(never)]
pub(crate) fn read_node(node: usize) -> Option<Room> {
    let digits = [b'0' + (node / 10 % 10) as u8, b'0' + (node % 10) as u8];
    let digits = if node < 10 { &digits[1..] } else { &digits[..] };
    let mut path = Path::new();
    let path = path.join(&[b"/sys/devices/system/node/node", digits, b"/meminfo"])?;
    let mut meminfo = Meminfo::default();
    os::find_in_lines(path, |lines| meminfo.read(lines)).or_else(|| meminfo.room())
}
