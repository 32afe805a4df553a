//! zonal's mechanism: the Linux kernel's memory management inside one process.
//!
//! ```text
//!   thread --- Heap: bins --- slabs --- pcp ---+
//!   thread --- Heap: bins --- slabs --- pcp ---+--- Zone (one a node): buddy core under one lock
//!      \         ^ inbox                       |       |
//!       \________| remote frees                |    sections of the window, chunks of 2 MiB
//!                                              |
//!   large runs (32 KiB .. 4 MiB) --------------+    huge blocks (above): mapped directly
//! ```
//!
//! | kernel                                     | here                                    |
//! |--------------------------------------------|-----------------------------------------|
//! | `struct zone`, `free_area`                 | [`zone`], `buddy`                       |
//! | `struct page`                              | page word and cold words in `pagemap`   |
//! | pageblock, its bitmap                      | `Chunk` in `chunk`                      |
//! | `per_cpu_pages` (batch, high)              | `pcp`, one a thread                     |
//! | `rmqueue_bulk`, `free_pcppages_bulk`       | `Pages::alloc_bulk`, `Pages::free_bulk` |
//! | `__isolate_free_page`, putback             | `Pages::purge`                          |
//! | `zone_watermark_ok`                        | [`watermark`], `charge`                 |
//! | `kmem_cache`, slab, partial list           | [`class`], `slab`, `refill`             |
//! | `kmem_cache_node`: partial slabs of a node | `commons`                               |
//! | `drain_all_pages`                          | `Mm::drain_all` in `drain`              |
//! | `/proc/zoneinfo`, `vmstat`, `slabinfo`     | `Mm::snapshot`, [`zonal_stats`]         |
//! | page allocator fallback order              | `zonal_numa::Topology::zonelist`        |
//! | page_owner: who allocated what             | [`profile`], sampled                    |
//! | KFENCE: a few objects are checked          | `fence`                                 |
//! | `__alloc_pages_slowpath`, vmscan           | crate `zonal-reclaim`, above this one   |
//!
//! Reading order: [`class`], `bin`, `heap`, `slab`, `refill`, `remote`, `gate`, then the page
//! layer from [`pages`] down. Nothing here is a `static` that changes, nothing allocates from the
//! heap it implements, and a failed operation has changed nothing.
#![cfg_attr(not(any(test, feature = "fake", zonal_loom)), no_std)]

mod audit;
mod bin;
mod buddy;
mod charge;
mod check;
mod checked;
mod chunk;
pub mod class;
mod collapse;
mod commons;
mod contig;
mod dead;
mod deferred;
mod density;
mod describe;
mod doorbell;
mod drain;
mod error;
mod fault;
mod fence;
mod firm;
mod flight;
mod fork;
mod free;
mod gate;
mod group;
mod grow;
mod guard;
mod heap;
mod holes;
mod holing;
mod huge;
mod kept_pool;
mod kept_room;
mod kept_runs;
mod large;
mod large_cache;
mod lock;
mod lookout;
#[cfg(zonal_loom)]
mod loom;
mod meta;
mod misuse;
pub mod mm;
mod node;
mod node_cache;
mod numastat;
pub mod order;
mod outbox;
mod pagemap;
pub mod pages;
#[cfg(test)]
mod pages_proptest;
#[cfg(test)]
mod pages_tests;
mod pcp;
mod pfn;
mod policy;
pub mod profile;
mod purge;
mod refill;
mod registry;
mod remote;
mod resize;
mod reuse;
mod room;
pub mod run;
mod section;
mod slab;
mod slack;
mod snapshot;
mod strays;
mod survey;
mod sweep;
pub mod sync;
mod turns;
mod visit;
mod vmstat;
pub mod watermark;
mod window;
pub mod word;
pub mod zone;

pub use bin::{Found, HeapHot, Push};
pub use charge::{Cap, Edge, UNLIMITED};
pub use class::{MAX_SMALL, NR_CLASSES, SizeClass};
pub use describe::Place;
pub use error::{AllocError, Mismatch};
pub use free::Remote;
pub use heap::{Heap, HeapId, Patience};
pub use holes::HolesPurged;
pub use lookout::Lookout;
pub use misuse::{BadKind, BadPointer};
pub use mm::{Attempt, Block, Config, MAX_ALIGN, Mm, Request, Weights};
pub use pages::{Lruvec, PageConfig, Pages, Placement};
pub use purge::{PurgeHow, Reclaimer, is_past};
pub use room::{NodeReclaimLock, NodeReclaimMode};
pub use sweep::Sweep;
pub use zonal_numa::PAGE_SIZE;
pub use zone::Thp;

#[cfg(test)]
mod mm_proptest;
#[cfg(test)]
mod mm_tests;
