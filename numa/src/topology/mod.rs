//! The shape of the machine: nodes, distances, and which node a processor is on.
//!
//! Most machines have one node, so the tables that answer the other questions
//! exist only where there are several.

#[cfg(test)]
mod fuzz;
mod list;
mod sysfs;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod zonelist;

pub use sysfs::NodeMemory;
pub(crate) use sysfs::{ROOT as SYSFS_ROOT, WEIGHTS, read, read_memory, read_weight};
pub(crate) use tables::Tables;

use crate::os::Mapped;
use crate::{CpuId, NodeId, NodeMask};

/// Processors whose node is kept in a table; others are looked up by the kernel.
pub const MAX_CPUS: usize = 4096;
/// The distance from a node to itself.
pub const LOCAL_DISTANCE: u8 = 10;
/// The distance between nodes of which nothing is known.
pub const REMOTE_DISTANCE: u8 = 20;

/// Nodes, distances and zonelists, as they were when the machine was made.
#[derive(Debug)]
pub struct Topology {
    online: NodeMask,
    with_memory: NodeMask,
    with_cpus: NodeMask,
    /// The first node that has memory: the answer to questions about none.
    first: [NodeId; 1],
    tables: Option<Mapped<Tables>>,
}

impl Topology {
    /// A machine with this one node.
    pub(crate) fn one_node(node: NodeId) -> Topology {
        let mask = NodeMask::of(node);
        Topology { online: mask, with_memory: mask, with_cpus: mask, first: [node], tables: None }
    }

    /// A machine with several nodes. Sets that cannot be are put right: no node
    /// outside `online`, and some node with memory and with processors.
    pub(crate) fn several(
        online: NodeMask,
        with_memory: NodeMask,
        with_cpus: NodeMask,
        mut tables: Mapped<Tables>,
    ) -> Topology {
        let some_of =
            |mask: NodeMask| if (mask & online).is_empty() { online } else { mask & online };
        let (with_memory, with_cpus) = (some_of(with_memory), some_of(with_cpus));
        let Some(first) = with_memory.first() else {
            return Topology::one_node(NodeId::ZERO);
        };
        for home in online {
            let mut nodes = [NodeId::ZERO; crate::MAX_NODES];
            let mut len = 0;
            for node in with_memory {
                nodes[len] = node;
                len += 1;
            }
            let distance = |node| tables.distance(home, node);
            zonelist::sort(home, &mut nodes[..len], distance, |node| with_cpus.contains(node));
            tables.zonelist[home.index()] = nodes;
            tables.zonelist_len[home.index()] = len as u8;
        }
        Topology { online, with_memory, with_cpus, first: [first], tables: Some(tables) }
    }

    /// The nodes that exist.
    pub fn nodes_online(&self) -> NodeMask {
        self.online
    }

    /// The nodes with memory; at least one.
    pub fn nodes_with_memory(&self) -> NodeMask {
        self.with_memory
    }

    /// The nodes with processors; at least one.
    pub fn nodes_with_cpus(&self) -> NodeMask {
        self.with_cpus
    }

    /// How many nodes exist.
    pub fn nr_nodes(&self) -> usize {
        self.online.count()
    }

    /// Whether the question of place does not arise.
    pub fn is_one_node(&self) -> bool {
        self.tables.is_none()
    }

    /// The lowest node that has memory.
    pub fn first_node(&self) -> NodeId {
        self.first[0]
    }

    /// The node of a processor, if it was online when the machine was made.
    pub fn node_of_cpu(&self, cpu: CpuId) -> Option<NodeId> {
        match &self.tables {
            None => Some(self.first[0]),
            Some(tables) => tables.node_of_cpu(cpu),
        }
    }

    /// The kernel's distance: [`LOCAL_DISTANCE`] from a node to itself, more to others.
    pub fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        match &self.tables {
            None if from == to => LOCAL_DISTANCE,
            None => REMOTE_DISTANCE,
            Some(tables) => tables.distance(from, to),
        }
    }

    /// The nodes with memory in the order in which a thread on `home` should try
    /// them. Never empty; a node that does not exist has the list of the first.
    pub fn zonelist(&self, home: NodeId) -> &[NodeId] {
        let Some(tables) = &self.tables else {
            return &self.first;
        };
        let home = if self.online.contains(home) { home } else { self.first[0] };
        let len = tables.zonelist_len[home.index()];
        &tables.zonelist[home.index()][..usize::from(len)]
    }
}
