//! The machine under zonal: nodes, topology, policies and the only OS calls.
//!
//! ```text
//!   Machine ---- map, commit, purge, bind, remap ...  --> os (the kernel)
//!      |-------- topology(): nodes, distances, zonelist order, CPU -> node
//!      |-------- current_node(), now_ns(), random(), thp_mode()
//!      `-------- or a FakeMachine (feature `fake`): any shape, limits, failures
//! ```
//!
//! Nothing here allocates, keeps a static or panics, and a plain build is
//! `no_std`. Calls may change `errno`: whoever needs it intact saves it.
//!
//! Reading order: [`NodeId`], [`NodeMask`], [`Span`], [`Topology`], [`MemPolicy`],
//! [`Machine`], then the fake.
#![cfg_attr(not(any(test, feature = "fake")), no_std)]
#![deny(unsafe_code)]

mod call;
mod errno;
#[cfg(feature = "fake")]
pub mod fake;
mod ids;
mod machine;
mod mask;
mod os;
mod policy;
pub mod probe;
mod room;
mod span;
mod thp;
mod topology;
mod weak;

pub use call::Call;
pub use errno::Errno;
pub use ids::{CpuId, NodeId};
pub use machine::Machine;
pub use mask::{NodeIter, NodeMask};
pub use os::monotonic_ns;
pub use policy::{MemPolicy, PolicyMode};
pub use room::{GroupRoom, Room};
pub use span::Span;
pub use thp::ThpMode;
pub use topology::{LOCAL_DISTANCE, MAX_CPUS, NodeMemory, REMOTE_DISTANCE, Topology};

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Size of a page of zonal in bytes. The OS page may be larger: see
/// [`Machine::page_size`].
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// Node numbers are below this; the kernel's may be sparse.
pub const MAX_NODES: usize = 64;
