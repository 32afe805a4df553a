//! In which order the nodes are asked for memory.

use crate::NodeId;

/// The place of `node` in the zonelist of `home`; the lowest comes first.
///
/// The own node, then nodes with processors by distance, then the others by
/// distance: memory without processors is far memory (CXL), kept for when the
/// near is full. Among equals each home starts with the next node by number,
/// so that homes with the same choice do not all fill the same node.
pub(crate) fn rank(home: NodeId, node: NodeId, distance: u8, has_cpus: bool) -> [u8; 4] {
    let steps = (node.index() as u8).wrapping_sub(home.index() as u8) % crate::MAX_NODES as u8;
    [u8::from(node != home), u8::from(!has_cpus), distance, steps]
}

/// Puts `nodes` in the order of the zonelist of `home`.
pub(crate) fn sort(
    home: NodeId,
    nodes: &mut [NodeId],
    distance: impl Fn(NodeId) -> u8,
    has_cpus: impl Fn(NodeId) -> bool,
) {
    // By insertion: the sort of the library would be a tenth of zonal's code, for a list of 64 at
    // most that is sorted once.
    let key = |node| rank(home, node, distance(node), has_cpus(node));
    for end in 1..nodes.len() {
        let mut at = end;
        while at > 0 && key(nodes[at]) < key(nodes[at - 1]) {
            nodes.swap(at, at - 1);
            at -= 1;
        }
    }
}
