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
//! | `node_barn`, sheaves of SLUB               | `remote::barn`, messages                |
//! | `kmem_cache_node`: partial slabs of a node | `commons`                               |
//! | `drain_all_pages`                          | `Mm::drain_all` in `visit::drain`       |
//! | kswapd, its wait queue                     | `zonal-reclaim`; `doorbell`, `lookout`  |
//! | `/proc/zoneinfo`, `vmstat`, `slabinfo`     | `Mm::snapshot`, [`zonal_stats`]         |
//! | page allocator fallback order              | `zonal_numa::Topology::zonelist`        |
//! | page_owner: who allocated what             | [`profile`], sampled                    |
//! | KFENCE: a few objects are checked          | `fence`                                 |
//! | `__alloc_pages_slowpath`, vmscan           | crate `zonal-reclaim`, above this one   |
//!
//! Reading order: [`class`], `bin`, `hot`, `heap`, `slab`, `refill`, `remote`, `gate`, `mark`, then the page
//! layer from [`pages`] down. The modules below are grouped by what they are about.
//!
//! Nothing here is a `static` that changes, nothing allocates from the heap it implements, and a
//! failed operation has changed nothing.
#![cfg_attr(not(any(test, feature = "fake", zonal_loom)), no_std)]

// A thread's heap: hits, misses, and what other threads do to it.
mod bin;
pub mod class;
mod deferred;
mod free;
mod gate;
mod heap;
mod hot;
mod mark;
mod refill;
mod remote;
mod slab;

// Heaps together: who has which, who visits them, what ended threads leave.
mod commons;
mod registry;
mod visit;

// Large blocks: runs of pages.
mod large;
mod resize;

// Huge blocks, mapped directly or made of many pageblocks.
mod huge;

// The page layer: the zones of nodes, and what they are made of.
mod buddy;
mod charge;
mod chunk;
#[cfg(zonal_holds)]
#[expect(unsafe_code, reason = "the processor's clock; text without a heap")]
mod holds;
mod holes;
mod node;
mod pagemap;
pub mod pages;
mod pcp;
mod purge;
mod section;
mod thp;
pub mod watermark;
mod window;
pub mod word;
pub mod zone;

// Nodes: which one serves a request, and what is promised of it.
mod policy;

// The whole, and what the crate above asks of it.
mod doorbell;
mod lookout;
pub mod mm;

// Beside it: what finds misuse, what is told of all of it.
mod figures;
mod misuse;
pub mod profile;

// What all of it is written in.
mod deadline;
mod error;
mod fault;
mod lock;
mod meta;
pub mod order;
mod pfn;
pub mod run;
pub mod sync;

// Models and tests.
#[cfg(zonal_loom)]
mod loom;
#[cfg(test)]
mod mm_proptest;
#[cfg(test)]
mod mm_tests;
#[cfg(test)]
mod pages_proptest;
#[cfg(test)]
mod pages_tests;

pub use charge::{Cap, Edge, UNLIMITED};
pub use class::{MAX_SMALL, NR_CLASSES, SizeClass};
pub use deadline::Deadline;
pub use error::{AllocError, Mismatch};
pub use free::Remote;
pub use heap::{Heap, HeapId, OwnHeap, Patience};
pub use holes::HolesPurged;
pub use hot::{Found, HeapHot, Push};
pub use large::Kept;
pub use lookout::Lookout;
pub use mark::{Mark, State as MarkState};
pub use misuse::{BadKind, BadPointer, Place};
pub use mm::{Attempt, Block, Config, MAX_ALIGN, Mm, Request, Weights};
pub use pages::{Level, Lruvec, PageConfig, Pages, Placement};
pub use policy::{NodeReclaimLock, NodeReclaimMode};
pub use purge::{PurgeHow, Reclaimer, is_past};
pub use thp::Thp;
pub use visit::sweep::{Sweep, Swept};
pub use zonal_numa::PAGE_SIZE;
