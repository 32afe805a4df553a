//! What only a machine with several nodes needs: 12 KiB in a mapping.

use super::{LOCAL_DISTANCE, MAX_CPUS, REMOTE_DISTANCE};
use crate::os::ZeroValid;
use crate::{CpuId, MAX_NODES, NodeId};

/// Distances, processors and zonelists of a machine with several nodes.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Node of each processor plus one; 0 for one that nobody named.
    cpu_node: [u8; MAX_CPUS],
    /// 0 where nothing is known.
    distance: [[u8; MAX_NODES]; MAX_NODES],
    pub(crate) zonelist: [[NodeId; MAX_NODES]; MAX_NODES],
    pub(crate) zonelist_len: [u8; MAX_NODES],
}

#[expect(unsafe_code, reason = "a claim about a layout")]
// SAFETY: arrays of bytes, and `NodeId` 0 exists.
unsafe impl ZeroValid for Tables {}

impl Tables {
    pub(crate) fn node_of_cpu(&self, cpu: CpuId) -> Option<NodeId> {
        let known = self.cpu_node.get(cpu.index())?.checked_sub(1)?;
        NodeId::new(known)
    }

    /// Says where the processors `first..=last` are.
    pub(crate) fn set_cpus(&mut self, first: u32, last: u32, node: NodeId) {
        let end = (last as usize).saturating_add(1).min(MAX_CPUS);
        let start = (first as usize).min(end);
        self.cpu_node[start..end].fill(node.index() as u8 + 1);
    }

    pub(crate) fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        match self.distance[from.index()][to.index()] {
            0 if from == to => LOCAL_DISTANCE,
            0 => REMOTE_DISTANCE,
            known => known,
        }
    }

    /// Distances beyond a byte are as good as the farthest.
    pub(crate) fn set_distance(&mut self, from: NodeId, to: NodeId, distance: u32) {
        self.distance[from.index()][to.index()] = u8::try_from(distance).unwrap_or(u8::MAX);
    }
}
