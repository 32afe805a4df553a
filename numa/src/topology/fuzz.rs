//! Any texts as sysfs: the machine that comes out holds together.

use zonal_fuzz::fuzz;

use super::read_memory;
use super::tests::Sysfs;
use crate::{CpuId, NodeId, NodeMask};

/// The files that are read; an input has `NAME=TEXT` parts, separated by zero bytes.
const FILES: [&str; 14] = [
    "online",
    "has_cpu",
    "has_memory",
    "has_normal_memory",
    "possible",
    "node0/cpulist",
    "node1/cpulist",
    "node2/cpulist",
    "node63/cpulist",
    "node0/distance",
    "node1/distance",
    "node2/distance",
    "node63/distance",
    "node0/meminfo",
];

#[test]
fn sysfs_texts() {
    fuzz("sysfs", |input| {
        let parts = input.split(|&b| b == 0).filter_map(|part| {
            let at = part.iter().position(|&b| b == b'=')?;
            let name = FILES.iter().find(|name| name.as_bytes() == &part[..at])?;
            Some((*name, &part[at + 1..]))
        });
        let sysfs = Sysfs::of_bytes(parts);
        let topology = sysfs.read();
        let online = topology.nodes_online();
        let memory = topology.nodes_with_memory();
        assert!(!online.is_empty() && !topology.nodes_with_cpus().is_empty());
        assert!(online.contains(topology.first_node()));
        for home in online {
            let list = topology.zonelist(home);
            let nodes: NodeMask = list.iter().copied().collect();
            assert_eq!((nodes, list.len()), (memory, memory.count()), "each node once");
            for node in online {
                assert!(topology.distance(home, node) > 0);
            }
        }
        for cpu in [0, 1, 63, 64, 4095, 1 << 20] {
            assert!(topology.node_of_cpu(CpuId::new(cpu)).is_none_or(|node| online.contains(node)));
        }
        let _ = read_memory(sysfs.root(), NodeId::ZERO);
    });
}
