//! Nodes: which one serves a request, and what is promised of it.
//!
//! [`placing`] chooses by the memory policy of the request, [`turns`] among nodes that share the pages, and
//! [`bound`] keeps the promise of a policy that allows no others. [`node_reclaim`] says whether a node is reclaimed
//! before others are asked, which the crate above does.

pub(crate) mod bound;
mod node_reclaim;
mod placing;
pub(crate) mod turns;

pub use self::node_reclaim::{NodeReclaimLock, NodeReclaimMode};
pub(crate) use self::placing::{Placing, is_in_turn};
