//! zonal's policy: what happens when a zone says no.
//!
//! The core below never reclaims; it returns [`AllocError::Exhausted`] with every lock released and
//! nothing changed. This crate relieves the pressure and runs the whole operation again, one rung
//! further down the ladder (`ladder.rs`). So there is one retry loop for every kind of request, and reclaim
//! never runs inside a half-done operation.
//!
//! ```text
//!   ffi --> alloc() --> Heap::alloc(node, watermark)  --- Ok --> block
//!              ^                    |
//!              |                 Exhausted
//!              |                    v
//!              +---- act <--- ladder::next(rung)  --- out of memory --> None
//! ```
#![cfg_attr(not(test), no_std)]
// Policy works with numbers and tokens; only what touches a block of the program says otherwise.
#![cfg_attr(not(test), deny(unsafe_code))]

mod ageing;
mod balance;
mod clock;
mod cost;
mod crew;
pub mod kswapd;
mod ladder;
mod lesson;
mod node_reclaim;
mod pages;
pub mod pressure;
mod regain;
pub mod scan;
mod shadow;
mod shrink;
mod slowpath;
mod spare;
mod stall;
mod thrash;

pub use ladder::{Action, Context, Rung, next};
pub use pages::{PageFlags, alloc_pages};
pub use slowpath::{ReallocError, alloc, realloc, trim};
pub use zonal_allocator::{AllocError, BadPointer, Block, Request};

use zonal_allocator::Mm;
use zonal_numa::NodeId;

fn nodes(mm: &Mm) -> impl Iterator<Item = NodeId> {
    mm.pages().online().iter()
}

#[cfg(test)]
mod tests;
