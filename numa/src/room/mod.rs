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
mod texts;

use path::Path;

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

/// Where control groups are mounted by custom: v1's memory controller, v2 alone, and v2 beside v1.
const MOUNT_V1: &[u8] = b"/sys/fs/cgroup/memory";
const MOUNT_V2: &[u8] = b"/sys/fs/cgroup";
const MOUNT_V2_BESIDE_V1: &[u8] = b"/sys/fs/cgroup/unified";

/// How the two versions call their files.
struct Names {
    limits: &'static [&'static [u8]],
    current: &'static [u8],
    inactive_file: &'static [u8],
}

const V1: Names = Names {
    limits: &[b"memory.limit_in_bytes"],
    current: b"memory.usage_in_bytes",
    inactive_file: b"total_inactive_file",
};
const V2: Names = Names {
    limits: &[b"memory.max", b"memory.high"],
    current: b"memory.current",
    inactive_file: b"inactive_file",
};

/// The room of the process's control group; none where it has no limit, or nobody says. As few files
/// as it takes: the start of every process waits for this.
pub(crate) fn read_group() -> Option<Room> {
    // A line for each of v1's controllers; in clusters a path has 200 characters.
    let mut buf = [0; 4096];
    let text = os::read_start(c"/proc/self/cgroup", &mut buf).ok()?;
    // A controller belongs to one version only.
    if let Some(group) = texts::group_v1(text) {
        return read_levels(MOUNT_V1, group, &V1);
    }
    let mount = if texts::is_v2_alone(text) { MOUNT_V2 } else { MOUNT_V2_BESIDE_V1 };
    read_levels(mount, texts::group_v2(text)?, &V2)
}

/// The tightest of the levels from `group` up to the root.
fn read_levels(mount: &[u8], group: &[u8], names: &Names) -> Option<Room> {
    let mut tightest = None;
    let mut level = group;
    loop {
        if let Some(room) = read_level([mount, level], names) {
            tightest = Some(room.tighter(tightest));
        }
        match texts::parent(level) {
            Some(parent) => level = parent,
            None => return tightest,
        }
    }
}

fn read_level(level: [&[u8]; 2], names: &Names) -> Option<Room> {
    let number = |name: &[u8]| {
        let mut buf = [0; 64];
        let path = Path::of(&[level[0], level[1], b"/", name])?;
        Some(texts::amount(os::read_start(path.as_c_str()?, &mut buf).ok()?))
    };
    // Where one file is missing, as at v2's root, the others are, too.
    let total = names.limits.iter().map_while(|name| number(name)).flatten().min()?;
    let current = number(names.current)??;
    let mut buf = [0; 4096];
    let path = Path::of(&[level[0], level[1], b"/memory.stat"])?;
    let stat = os::read_start(path.as_c_str()?, &mut buf).unwrap_or_default();
    let inactive_file = texts::field(stat, names.inactive_file).unwrap_or(0);
    Some(Room { total, available: texts::available(total, current, inactive_file) })
}

/// The room of a node, by its number; none where nobody says.
pub(crate) fn read_node(node: usize) -> Option<Room> {
    let mut buf = [0; 4096];
    let digits = [b'0' + (node / 10 % 10) as u8, b'0' + (node % 10) as u8];
    let digits = if node < 10 { &digits[1..] } else { &digits[..] };
    let path = Path::of(&[b"/sys/devices/system/node/node", digits, b"/meminfo"])?;
    texts::node(os::read_start(path.as_c_str()?, &mut buf).ok()?)
}
