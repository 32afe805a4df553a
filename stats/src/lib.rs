//! What zonal knows about itself, as plain structs, and three ways to write it down.
//!
//! ```text
//!   allocator  fills ---> Snapshot ---> text         /proc/zoneinfo, buddyinfo, vmstat, slabinfo
//!                            |     ---> json         docs/stats.schema.json
//!                            |     ---> prometheus   text exposition
//!                            v
//!   program   LivePage::publish ~~ shared file ~~> LivePage::read   command `zonal`
//! ```
//!
//! A leaf: it depends on nothing, allocates nothing, calls nothing of the system. Every figure is
//! one line of a table ([`mod@figure`]), which gives the field, its name in the reports, kind,
//! unit and help text; whoever adds one there has it in all three forms.
//!
//! Reading order: [`mod@figure`], [`process`], [`node`], [`class`], [`section`], [`snapshot`], the renderers,
//! [`live`].
#![cfg_attr(not(any(test, zonal_loom)), no_std)]

pub mod class;
pub mod figure;
pub mod json;
pub mod live;
pub mod node;
pub mod process;
pub mod prometheus;
pub mod section;
pub mod snapshot;
mod sync;
pub mod text;

pub use class::Class;
pub use figure::{Figure, Figures, Kind, Unit};
pub use live::LivePage;
pub use node::{Memory, NR_MIGRATETYPES, NR_ORDERS, Node, Numastat, Pcp, Zone, ZoneEvents};
pub use process::{HeapEvents, Process, ProcessEvents};
pub use section::{MAX_PAGEBLOCKS, MAX_SECTIONS, Pageblock, Section, SectionKind};
pub use snapshot::{LAYOUT, MAX_CLASSES, MAX_NODES, SCHEMA_VERSION, Snapshot};

/// Bytes in a page of zonal's.
pub const PAGE_SIZE: u64 = 4096;

/// The forms of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// In the shape of the kernel's `/proc` files.
    #[default]
    Text,
    /// One JSON object on one line.
    Json,
    /// Prometheus text exposition.
    Prometheus,
}

impl Format {
    /// Writes the snapshot in this form.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write<W: core::fmt::Write>(self, out: &mut W, snapshot: &Snapshot) -> core::fmt::Result {
        match self {
            Format::Text => text::write(out, snapshot),
            Format::Json => json::write(out, snapshot),
            Format::Prometheus => prometheus::write(out, snapshot),
        }
    }
}
