//! Everything at one moment.

use core::mem::offset_of;
use core::ops::Range;

use crate::class::Class;
use crate::figure::Figures;
use crate::node::{Memory, Node, ZoneEvents};
use crate::process::{HeapEvents, Process, ProcessEvents};
use crate::section::{MAX_PAGEBLOCKS, MAX_SECTIONS, Pageblock, Section};

/// Version of the JSON form. It grows when a key is removed or changes its meaning; keys may be
/// added at any time.
pub const SCHEMA_VERSION: u32 = 1;
/// Number of the binary layout below: command and library must have the same.
pub const LAYOUT: u64 = 1 << 32 | size_of::<Snapshot>() as u64;
/// Most nodes.
pub const MAX_NODES: usize = 64;
/// Most size classes.
pub const MAX_CLASSES: usize = 64;

/// The figures of a process at one moment. All zeros is valid and means "nothing yet".
///
/// Too large for the stack of a thread: it lies in a mapping of its own.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Snapshot {
    /// Version of the library, padded with zeros.
    pub version: [u8; 16],
    /// The process, as it numbers itself.
    pub pid: u64,
    /// When this was taken, on the clock that counts from the start of the machine
    /// (`CLOCK_MONOTONIC`), in nanoseconds.
    pub taken_ns: u64,
    /// How long it took, in nanoseconds.
    pub cost_ns: u64,
    /// Whether the kernel was asked what is resident: 1, or 0 where it must not be or did not
    /// answer; all `resident` figures are then those of zonal's own accounts.
    pub asked_kernel: u64,
    /// Where the page map's arrays start; their length is `process.map_mapped_bytes`.
    pub map_start: u64,
    /// The process outside the nodes.
    pub process: Process,
    /// Events of the process.
    pub process_events: ProcessEvents,
    /// Events of all heaps.
    pub heap_events: HeapEvents,
    /// Entries in use of `classes`,
    pub nr_classes: u64,
    /// of `nodes`,
    pub nr_nodes: u64,
    /// of `sections`,
    pub nr_sections: u64,
    /// and of `pageblocks`.
    pub nr_pageblocks: u64,
    /// Sections and huge blocks for which the table had no room.
    pub nr_sections_left_out: u64,
    /// Size classes, smallest first.
    pub classes: [Class; MAX_CLASSES],
    /// Nodes in use.
    pub nodes: [Node; MAX_NODES],
    /// Sections, then huge blocks.
    pub sections: [Section; MAX_SECTIONS],
    /// Pageblocks of the sections, in their order.
    pub pageblocks: [Pageblock; MAX_PAGEBLOCKS],
}

impl Default for Snapshot {
    /// Nothing yet.
    fn default() -> Snapshot {
        Snapshot {
            version: [0; 16],
            pid: 0,
            taken_ns: 0,
            cost_ns: 0,
            asked_kernel: 0,
            map_start: 0,
            process: Process::default(),
            process_events: ProcessEvents::default(),
            heap_events: HeapEvents::default(),
            nr_classes: 0,
            nr_nodes: 0,
            nr_sections: 0,
            nr_pageblocks: 0,
            nr_sections_left_out: 0,
            classes: [Class::default(); MAX_CLASSES],
            nodes: [Node::default(); MAX_NODES],
            sections: [Section::default(); MAX_SECTIONS],
            pageblocks: [Pageblock::default(); MAX_PAGEBLOCKS],
        }
    }
}

impl Snapshot {
    /// The version of the library.
    pub fn version(&self) -> &str {
        let text = self.version.split(|&byte| byte == 0).next().unwrap_or_default();
        // It may come from a page of somebody else's, and go to a terminal.
        let is_plain = text.iter().all(u8::is_ascii_graphic);
        core::str::from_utf8(text).ok().filter(|_| is_plain).unwrap_or("?")
    }

    /// Size classes, smallest first.
    pub fn classes(&self) -> &[Class] {
        head(&self.classes, self.nr_classes)
    }

    /// Nodes in use.
    pub fn nodes(&self) -> &[Node] {
        head(&self.nodes, self.nr_nodes)
    }

    /// The node with that number.
    pub fn node_mut(&mut self, id: u64) -> Option<&mut Node> {
        let nr = self.nodes.len().min(self.nr_nodes as usize);
        self.nodes[..nr].iter_mut().find(|node| node.id == id)
    }

    /// Sections, then huge blocks.
    pub fn sections(&self) -> &[Section] {
        head(&self.sections, self.nr_sections)
    }

    /// Pageblocks of a section, as many as there was room for.
    pub fn pageblocks(&self, section: &Section) -> &[Pageblock] {
        let all = head(&self.pageblocks, self.nr_pageblocks);
        let rest = all.get(section.first_pageblock as usize..).unwrap_or_default();
        head(rest, section.nr_pageblocks)
    }

    /// Where the memory of all nodes is.
    pub fn memory(&self) -> Memory {
        self.sum(|node| &node.memory)
    }

    /// The events of all zones.
    pub fn zone_events(&self) -> ZoneEvents {
        self.sum(|node| &node.events)
    }

    /// Bytes in live small objects.
    pub fn small_bytes(&self) -> u64 {
        self.classes().iter().map(Class::used_bytes).sum()
    }

    /// An estimate of the bytes in live small objects that nobody asked for.
    pub fn waste_bytes(&self) -> u64 {
        self.classes().iter().map(Class::waste_bytes).sum()
    }

    /// The parts in use, in words of 8 bytes: everything before the tables, then what is used of
    /// each table.
    pub fn parts(&self) -> [Range<usize>; 5] {
        let words = |bytes: usize| bytes / size_of::<u64>();
        let part = |start: usize, one: usize, nr: u64, most: usize| {
            words(start)..words(start + one * most.min(nr as usize))
        };
        let sections = offset_of!(Snapshot, sections);
        let pageblocks = offset_of!(Snapshot, pageblocks);
        [
            0..words(offset_of!(Snapshot, classes)),
            part(offset_of!(Snapshot, classes), size_of::<Class>(), self.nr_classes, MAX_CLASSES),
            part(offset_of!(Snapshot, nodes), size_of::<Node>(), self.nr_nodes, MAX_NODES),
            part(sections, size_of::<Section>(), self.nr_sections, MAX_SECTIONS),
            part(pageblocks, size_of::<Pageblock>(), self.nr_pageblocks, MAX_PAGEBLOCKS),
        ]
    }

    /// As words of 8 bytes.
    pub fn words(&self) -> &[u64] {
        let start = core::ptr::from_ref(self).cast::<u64>();
        // SAFETY: plain numbers without padding (asserted below), aligned to 8 bytes.
        unsafe { core::slice::from_raw_parts(start, size_of::<Snapshot>() / size_of::<u64>()) }
    }

    /// As words of 8 bytes.
    pub fn words_mut(&mut self) -> &mut [u64] {
        let start = core::ptr::from_mut(self).cast::<u64>();
        // SAFETY: as in `words`, and every value of every word is a snapshot.
        unsafe { core::slice::from_raw_parts_mut(start, size_of::<Snapshot>() / size_of::<u64>()) }
    }

    fn sum<T: Figures + Default>(&self, part: impl Fn(&Node) -> &T) -> T {
        let mut total = T::default();
        for node in self.nodes() {
            total.add(part(node));
        }
        total
    }
}

// No padding: the structs hold words of 8 bytes, or four times four numbers of 2 bytes.
const _: () = assert!(align_of::<Snapshot>() == 8 && size_of::<Pageblock>() == 16);
const _: () = assert!(
    size_of::<Snapshot>()
        == offset_of!(Snapshot, pageblocks) + MAX_PAGEBLOCKS * size_of::<Pageblock>()
);

fn head<T>(all: &[T], nr: u64) -> &[T] {
    &all[..all.len().min(nr as usize)]
}
