//! The kinds of calls, by name.

/// The calls of a machine, as a fake one counts and fails them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`crate::Machine::reserve_at`]
    Reserve,
    /// [`crate::Machine::map_at`]
    MapAt,
    /// [`crate::Machine::map`]
    Map,
    /// [`crate::Machine::probe_hole`]
    ProbeHole,
    /// [`crate::Machine::commit`]
    Commit,
    /// [`crate::Machine::protect_none`]
    ProtectNone,
    /// [`crate::Machine::unmap`]
    Unmap,
    /// [`crate::Machine::remap`]
    Remap,
    /// One span of [`crate::Machine::purge`], by a call of its own.
    Purge,
    /// A batch of spans of [`crate::Machine::purge`] in one call.
    PurgeMany,
    /// [`crate::Machine::advise_huge`]
    AdviseHuge,
    /// [`crate::Machine::collapse`]
    Collapse,
    /// [`crate::Machine::split`]
    Split,
    /// [`crate::Machine::bind`]
    Bind,
    /// [`crate::Machine::allowed_nodes`]
    AllowedNodes,
    /// [`crate::Machine::resident`]
    Resident,
    /// [`crate::Machine::group_room`] and [`crate::Machine::node_room`]
    Room,
    /// [`crate::Machine::memory`]
    Memory,
    /// A batch of pages that are looked for or moved: [`crate::Machine::nodes_of`]
    Place,
    /// [`crate::Machine::register_membarrier`] and [`crate::Machine::membarrier`]
    Membarrier,
}

impl Call {
    /// Whether memory cannot be had without it.
    pub(crate) fn is_needed(self) -> bool {
        use Call::{Commit, Map, MapAt, ProbeHole, ProtectNone, Reserve, Unmap};
        matches!(self, Reserve | MapAt | Map | ProbeHole | Commit | ProtectNone | Unmap)
    }
}
