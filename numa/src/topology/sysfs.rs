//! The topology by `/sys/devices/system/node`, without heap.
//!
//! One node needs one file. Whatever is absent, forbidden or odd costs only what
//! it would have told: without `online` there is one node, without `distance` all
//! others are equally far.

use core::ffi::CStr;

use super::list::{for_each_range, numbers};
use super::{Tables, Topology};
use crate::os::{self, Mapped};
use crate::{Errno, MAX_NODES, NodeId, NodeMask};

/// Where the kernel shows its nodes.
pub(crate) const ROOT: &str = "/sys/devices/system/node";
/// Where it shows their weights.
pub(crate) const WEIGHTS: &str = "/sys/kernel/mm/mempolicy/weighted_interleave";

/// More than any file here holds: the kernel writes at most a page, but for the
/// lists of processors of very large machines.
type Buffer = [u8; 4096];

/// Reads the topology under `root`.
pub(crate) fn read(root: &str) -> Topology {
    let online = read_online(root);
    match (online.count(), online.first()) {
        (2.., _) => read_several(root, online),
        (_, Some(node)) => Topology::one_node(node),
        (_, None) => Topology::one_node(NodeId::ZERO),
    }
}

/// A line is short here: its buffer stays out of the frame of the long files.
#[inline(never)]
fn read_online(root: &str) -> NodeMask {
    // 64 nodes, each in a range of its own.
    let mut buf = [0; 512];
    nodes(root, "online", &mut buf).unwrap_or(NodeMask::EMPTY)
}

#[inline(never)]
fn read_several(root: &str, online: NodeMask) -> Topology {
    let Some(mut tables) = Mapped::<Tables>::zeroed() else {
        return Topology::one_node(online.first().unwrap_or(NodeId::ZERO));
    };
    let mut buf: Buffer = [0; _];
    let mut with_cpus = NodeMask::EMPTY;
    for node in online {
        if read_cpus(root, node, &mut tables, &mut buf) {
            with_cpus.set(node);
        }
        read_distances(root, node, online, &mut tables, &mut buf);
    }
    let with_memory = nodes(root, "has_memory", &mut buf)
        .or_else(|| nodes(root, "has_normal_memory", &mut buf))
        .unwrap_or(online);
    Topology::several(online, with_memory, with_cpus, tables)
}

/// A file that lists nodes. Nodes beyond [`MAX_NODES`] are not managed.
fn nodes(root: &str, name: &str, buf: &mut [u8]) -> Option<NodeMask> {
    let text = read_text(root, None, name, buf).ok()?;
    let mut mask = NodeMask::EMPTY;
    for_each_range(text, |first, last| {
        (first as usize..MAX_NODES.min(last as usize + 1))
            .filter_map(NodeId::from_index)
            .for_each(|node| mask.set(node));
    })?;
    Some(mask)
}

/// Whether the node has processors.
fn read_cpus(root: &str, node: NodeId, tables: &mut Tables, buf: &mut [u8]) -> bool {
    let Ok(text) = read_text(root, Some(node), "cpulist", buf) else {
        return false;
    };
    let mut any = false;
    let list = for_each_range(text, |first, last| {
        tables.set_cpus(first, last, node);
        any = true;
    });
    list.is_some() && any
}

/// A row of distances, one column for each node online.
fn read_distances(root: &str, node: NodeId, online: NodeMask, tables: &mut Tables, buf: &mut [u8]) {
    let Ok(text) = read_text(root, Some(node), "distance", buf) else {
        return;
    };
    // A row that does not fit the nodes (one came or went) would be misread.
    if numbers(text).count() < online.count() {
        return;
    }
    for (other, distance) in online.iter().zip(numbers(text)) {
        tables.set_distance(node, other, distance);
    }
}

/// What the kernel says of a node's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    /// All memory of the node.
    pub total: usize,
    /// Free. Not all of that is handed out: how much is kept depends on many things.
    pub free: usize,
    /// In pages that hold what files hold: free as soon as the kernel drops them.
    pub files: usize,
}

/// The kernel's own figures of a node.
pub(crate) fn read_memory(root: &str, node: NodeId) -> Option<NodeMemory> {
    let mut buf: Buffer = [0; _];
    let text = read_text(root, Some(node), "meminfo", &mut buf).ok()?;
    let bytes = |name: &[u8]| {
        let at = text.windows(name.len()).position(|part| part == name)? + name.len();
        numbers(&text[at..]).next().map(|kib| kib as usize * 1024)
    };
    Some(NodeMemory {
        total: bytes(b" MemTotal:")?,
        free: bytes(b" MemFree:")?,
        files: bytes(b" Active(file):")? + bytes(b" Inactive(file):")?,
    })
}

/// The kernel's weight of a node for weighted interleaving (Linux 6.9).
pub(crate) fn read_weight(root: &str, node: NodeId) -> Option<u8> {
    let mut buf = [0; 16];
    // A file for each node, in one directory.
    let mut path = Path::new();
    path.push(root.as_bytes());
    path.push(b"/node");
    path.push_number(node.index());
    let text = os::read_file(path.as_c_str()?, &mut buf).ok()?;
    numbers(text).next().and_then(|weight| u8::try_from(weight).ok())
}

fn read_text<'b>(
    root: &str,
    node: Option<NodeId>,
    name: &str,
    buf: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    let mut path = Path::new();
    path.push(root.as_bytes());
    if let Some(node) = node {
        path.push(b"/node");
        path.push_number(node.index());
    }
    path.push(b"/");
    path.push(name.as_bytes());
    os::read_file(path.as_c_str().ok_or(Errno::EINVAL)?, buf)
}

/// A path put together on the stack.
struct Path {
    bytes: [u8; 256],
    len: usize,
}

impl Path {
    fn new() -> Path {
        Path { bytes: [0; 256], len: 0 }
    }

    /// Too long a path is cut and loses its end mark, so that it names nothing.
    fn push(&mut self, part: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let len = part.len().min(room.len());
        room[..len].copy_from_slice(&part[..len]);
        self.len += len;
    }

    /// Node numbers have at most two digits.
    fn push_number(&mut self, number: usize) {
        let digits = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        self.push(if number < 10 { &digits[1..] } else { &digits });
    }

    fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}
