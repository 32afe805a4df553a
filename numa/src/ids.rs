//! Numbers of nodes and processors.

use core::fmt;

use crate::MAX_NODES;

/// A node, by the kernel's number: below [`MAX_NODES`], not necessarily dense.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NodeId(u8);

impl NodeId {
    /// Node 0, which every machine is taken to have until it says otherwise.
    pub const ZERO: NodeId = NodeId(0);

    /// The node of this number, if numbers go that far.
    pub const fn new(number: u8) -> Option<NodeId> {
        if (number as usize) < MAX_NODES { Some(NodeId(number)) } else { None }
    }

    /// The node of a number of any width.
    pub const fn from_index(index: usize) -> Option<NodeId> {
        if index < MAX_NODES { Some(NodeId(index as u8)) } else { None }
    }

    /// The number as an index, below [`MAX_NODES`].
    pub const fn index(self) -> usize {
        // The mask states the invariant to the optimiser: no bounds checks.
        (self.0 as usize) & (MAX_NODES - 1)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node{}", self.0)
    }
}

/// A processor, by the kernel's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CpuId(u32);

impl CpuId {
    /// The processor of this number.
    pub const fn new(number: u32) -> CpuId {
        CpuId(number)
    }

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu{}", self.0)
    }
}

const _: () = assert!(size_of::<NodeId>() == 1 && MAX_NODES == 64);
