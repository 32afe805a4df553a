//! What lies where: sections and their pageblocks, for `zonal maps`.

/// Most sections that a snapshot lists.
pub const MAX_SECTIONS: usize = 256;
/// Most pageblocks that a snapshot describes: 8 GiB.
pub const MAX_PAGEBLOCKS: usize = 4096;

/// What a section is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum SectionKind {
    /// Pages of 4 KiB.
    Base = 0,
    /// Huge pages.
    Huge = 1,
    /// Huge pages, some of which were broken up to purge pages singly.
    Holed = 2,
    /// One huge block in use, mapped on its own.
    HugeBlock = 3,
    /// Freed huge blocks kept for reuse.
    HugeCached = 4,
}

impl SectionKind {
    /// All of them.
    pub const ALL: [SectionKind; 5] = [
        SectionKind::Base,
        SectionKind::Huge,
        SectionKind::Holed,
        SectionKind::HugeBlock,
        SectionKind::HugeCached,
    ];

    /// Its name in the reports.
    pub const fn name(self) -> &'static str {
        match self {
            SectionKind::Base => "base",
            SectionKind::Huge => "huge",
            SectionKind::Holed => "holed",
            SectionKind::HugeBlock => "huge-block",
            SectionKind::HugeCached => "huge-cached",
        }
    }
}

/// A range of addresses of one node and one kind.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub struct Section {
    /// Its first address.
    pub start: u64,
    /// Its pages.
    pub nr_pages: u64,
    /// Of these, committed from the start on.
    pub nr_committed: u64,
    /// Of these, in memory by the kernel's word.
    pub nr_resident: u64,
    /// Its node.
    pub node: u64,
    /// A [`SectionKind`] as a number.
    pub kind: u64,
    /// Index of its first pageblock in [`crate::Snapshot::pageblocks`].
    pub first_pageblock: u64,
    /// Pageblocks described there; fewer than it has when the table is full.
    pub nr_pageblocks: u64,
}

impl Section {
    /// What it is.
    pub fn kind(&self) -> SectionKind {
        SectionKind::ALL[self.kind.min(SectionKind::ALL.len() as u64 - 1) as usize]
    }
}

/// What 2 MiB of a section hold, in pages.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Pageblock {
    /// In slabs.
    pub slab: u16,
    /// In large blocks.
    pub large: u16,
    /// In page caches.
    pub pcp: u16,
    /// In free blocks.
    pub free: u16,
    /// Of these, resident.
    pub free_resident: u16,
    /// In memory by the kernel's word, whatever they hold.
    pub resident: u16,
    /// What it is used for: index into [`crate::node::MIGRATETYPES`].
    pub migratetype: u16,
    /// Zero.
    pub reserved: u16,
}
