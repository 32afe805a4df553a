//! Sets of nodes.

use core::fmt;
use core::ops::{BitAnd, BitOr};

use crate::{MAX_NODES, NodeId};

/// A set of nodes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct NodeMask(u64);

impl NodeMask {
    /// No node.
    pub const EMPTY: NodeMask = NodeMask(0);

    /// Just this node.
    pub const fn of(node: NodeId) -> NodeMask {
        NodeMask(1 << node.index())
    }

    /// The set whose bit `i` stands for node `i`.
    pub const fn from_bits(bits: u64) -> NodeMask {
        NodeMask(bits)
    }

    /// Bit `i` is set if node `i` is in the set.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds a node.
    pub const fn set(&mut self, node: NodeId) {
        self.0 |= 1 << node.index();
    }

    /// Takes a node out.
    pub const fn clear(&mut self, node: NodeId) {
        self.0 &= !(1 << node.index());
    }

    /// Whether the node is in the set.
    pub const fn contains(self, node: NodeId) -> bool {
        self.0 >> node.index() & 1 != 0
    }

    /// Whether the set holds no node.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many nodes are in the set.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The node with the lowest number.
    pub const fn first(self) -> Option<NodeId> {
        NodeId::from_index(self.0.trailing_zeros() as usize)
    }

    /// The nodes of both sets.
    pub const fn and(self, other: NodeMask) -> NodeMask {
        NodeMask(self.0 & other.0)
    }

    /// The nodes of either set.
    pub const fn or(self, other: NodeMask) -> NodeMask {
        NodeMask(self.0 | other.0)
    }

    /// The nodes by rising number.
    pub const fn iter(self) -> NodeIter {
        NodeIter(self)
    }
}

impl BitAnd for NodeMask {
    type Output = NodeMask;
    fn bitand(self, other: NodeMask) -> NodeMask {
        self.and(other)
    }
}

impl BitOr for NodeMask {
    type Output = NodeMask;
    fn bitor(self, other: NodeMask) -> NodeMask {
        self.or(other)
    }
}

impl From<NodeId> for NodeMask {
    fn from(node: NodeId) -> NodeMask {
        NodeMask::of(node)
    }
}

impl FromIterator<NodeId> for NodeMask {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> NodeMask {
        let mut mask = NodeMask::EMPTY;
        nodes.into_iter().for_each(|node| mask.set(node));
        mask
    }
}

impl IntoIterator for NodeMask {
    type Item = NodeId;
    type IntoIter = NodeIter;
    fn into_iter(self) -> NodeIter {
        self.iter()
    }
}

impl fmt::Debug for NodeMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The nodes of a [`NodeMask`] by rising number.
#[derive(Clone, Copy, Debug)]
pub struct NodeIter(NodeMask);

impl Iterator for NodeIter {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        let node = self.0.first()?;
        self.0.clear(node);
        Some(node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.count(), Some(self.0.count()))
    }
}

impl ExactSizeIterator for NodeIter {}

const _: () = assert!(MAX_NODES == u64::BITS as usize);
