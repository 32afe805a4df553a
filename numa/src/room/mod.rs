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
//! to another group, or whose limits change, is seen where it is. Every file may be missing; one that
//! is there and cannot be opened just now, because the descriptors are used up or the group has no
//! memory left even for that, is an error: to take it for missing would lift the bound where it is
//! needed most.

#[cfg(test)]
mod fuzz;
mod path;
#[cfg(test)]
mod tests;
mod texts;

use path::Path;
use texts::Meminfo;

use crate::Errno;
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

/// What a control group can still have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupRoom {
    /// Within the bound that has the least left.
    pub nearest: Room,
    /// The same of the bounds beyond which the kernel kills; beyond `memory.high` it only slows the program
    /// down.
    pub killer: Option<Room>,
}

impl GroupRoom {
    /// The tighter bounds of two levels of the hierarchy.
    fn tighter(self, other: Option<GroupRoom>) -> GroupRoom {
        GroupRoom {
            nearest: self.nearest.tighter(other.map(|other| other.nearest)),
            killer: match (self.killer, other.and_then(|other| other.killer)) {
                (Some(killer), other) => Some(killer.tighter(other)),
                (None, other) => other,
            },
        }
    }
}

impl From<Room> for GroupRoom {
    /// The room in a bound beyond which the kernel kills.
    fn from(nearest: Room) -> GroupRoom {
        GroupRoom { nearest, killer: Some(nearest) }
    }
}

/// What is particular to a version of control groups.
struct Version {
    /// Where it is mounted by custom.
    mounts: &'static [&'static [u8]],
    /// Beyond it the kernel kills.
    max: &'static [u8],
    /// Beyond it the kernel slows the program down.
    high: Option<&'static [u8]>,
    current: &'static [u8],
    inactive_file: &'static [u8],
}

const V1: Version = Version {
    mounts: &[b"/sys/fs/cgroup/memory"],
    max: b"memory.limit_in_bytes",
    high: None,
    current: b"memory.usage_in_bytes",
    inactive_file: b"total_inactive_file",
};
const V2: Version = Version {
    // The second beside v1's controllers; a stray one of these may also be beside the first.
    mounts: &[b"/sys/fs/cgroup", b"/sys/fs/cgroup/unified"],
    max: b"memory.max",
    high: Some(b"memory.high"),
    current: b"memory.current",
    inactive_file: b"inactive_file",
};

/// The room of the process's control group; none where it has no limit, or nobody says. As few files
/// as it takes: the start of every process waits for this. And little stack: callers look, too.
pub(crate) fn read_group() -> Result<Option<GroupRoom>, Errno> {
    read_group_below(b"")
}

/// The same where the root directory is `root`.
#[inline(never)]
fn read_group_below(root: &[u8]) -> Result<Option<GroupRoom>, Errno> {
    let (mut path, mut group) = (Path::new(), Path::new());
    let mut version = None;
    let Some(list) = path.join(&[root, b"/proc/self/cgroup"]) else { return Ok(None) };
    // In clusters a group's path has 200 characters.
    let _: Option<()> = unless_missing(os::find_in_lines(list, |lines| {
        // A controller belongs to one version only: v2 has it where v1 does not.
        let of_v1 = texts::group_v1(lines).map(|name| (name, &V1));
        let (name, its) = of_v1.or_else(|| Some((texts::group_v2(lines)?, &V2)))?;
        version = group.join(&[name]).map(|_| its);
        of_v1.and(Some(()))
    }))?;
    let (Some(version), Some(group)) = (version, group.as_c_str()) else { return Ok(None) };
    for mount in version.mounts {
        let room = read_levels([root, mount, group.to_bytes()], version, &mut path)?;
        if room.is_some() {
            return Ok(room);
        }
    }
    Ok(None)
}

/// What was read; none where it cannot be, unless only just now.
fn unless_missing<T>(read: Result<Option<T>, Errno>) -> Result<Option<T>, Errno> {
    read.or_else(|errno| if errno.is_passing() { Err(errno) } else { Ok(None) })
}

/// The tightest of the levels from the group up to the root.
fn read_levels(
    [root, mount, group]: [&[u8]; 3],
    version: &Version,
    path: &mut Path,
) -> Result<Option<GroupRoom>, Errno> {
    let mut tightest = None;
    let mut level = group;
    loop {
        if let Some(room) = read_level([root, mount, level], version, path)? {
            tightest = Some(room.tighter(tightest));
        }
        match texts::parent(level) {
            Some(parent) => level = parent,
            None => return Ok(tightest),
        }
    }
}

fn read_level(
    [root, mount, level]: [&[u8]; 3],
    version: &Version,
    path: &mut Path,
) -> Result<Option<GroupRoom>, Errno> {
    let mut number = |name: &[u8]| {
        let mut buf = [0; 64];
        let Some(path) = path.join(&[root, mount, level, b"/", name]) else { return Ok(None) };
        unless_missing(os::read_start(path, &mut buf).map(|text| Some(texts::amount(text))))
    };
    // Where one file is missing, as at v2's root, the others are, too.
    let Some(max) = number(version.max)? else { return Ok(None) };
    let high = version.high.map_or(Ok(None), &mut number)?.flatten();
    let Some(total) = max.into_iter().chain(high).min() else { return Ok(None) };
    let Some(current) = number(version.current)?.flatten() else { return Ok(None) };
    let Some(stat) = path.join(&[root, mount, level, b"/memory.stat"]) else { return Ok(None) };
    let inactive_file = unless_missing(os::find_in_lines(stat, |lines| {
        texts::field(lines, version.inactive_file)
    }))?;
    let room = |total| {
        let available = texts::available(total, current, inactive_file.unwrap_or(0));
        Room { total, available }
    };
    Ok(Some(GroupRoom { nearest: room(total), killer: max.map(room) }))
}

/// The room of a node, by its number; none where nobody says.
#[inline(never)]
pub(crate) fn read_node(node: usize) -> Result<Option<Room>, Errno> {
    let digits = [b'0' + (node / 10 % 10) as u8, b'0' + (node % 10) as u8];
    let digits = if node < 10 { &digits[1..] } else { &digits[..] };
    let mut path = Path::new();
    let path = path.join(&[b"/sys/devices/system/node/node", digits, b"/meminfo"]);
    let Some(path) = path else { return Ok(None) };
    let mut meminfo = Meminfo::default();
    let room = unless_missing(os::find_in_lines(path, |lines| meminfo.read(lines)))?;
    Ok(room.or_else(|| meminfo.room()))
}
