//! A second opinion: hwloc's reading of the same machine.

use anyhow::{Context as _, Result, bail};
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::BuildFlags;
use zonal_numa::{CpuId, NodeId, NodeMask, Topology};

/// This machine as hwloc sees it.
pub(super) fn live() -> Result<hwlocality::Topology> {
    // What a cpuset forbids is part of the machine all the same.
    let builder = hwlocality::Topology::builder().with_flags(BuildFlags::INCLUDE_DISALLOWED);
    builder.context("hwloc")?.build().context("hwloc")
}

/// Compares nodes, their memory, their processors and all distances.
pub(super) fn check(ours: &Topology, theirs: &hwlocality::Topology) -> Result<&'static str> {
    let (mut nodes, mut with_memory) = (NodeMask::EMPTY, NodeMask::EMPTY);
    for object in theirs.objects_with_type(ObjectType::NUMANode) {
        let node = node_of(object)?;
        nodes.set(node);
        if has_memory(object) {
            with_memory.set(node);
        }
        check_processors(ours, node, object)?;
    }
    if nodes != ours.nodes_online() {
        bail!("hwloc disagrees: its nodes are {nodes:?}, ours {:?}", ours.nodes_online());
    }
    if with_memory != ours.nodes_with_memory() {
        bail!(
            "hwloc disagrees: its nodes with memory are {with_memory:?}, ours {:?}",
            ours.nodes_with_memory()
        );
    }
    check_distances(ours, theirs)?;
    Ok("hwloc agrees")
}

fn node_of(object: &TopologyObject) -> Result<NodeId> {
    let index = object.os_index().context("hwloc: a node without number")?;
    NodeId::from_index(index).with_context(|| format!("hwloc: node {index} is out of range"))
}

fn has_memory(object: &TopologyObject) -> bool {
    match object.attributes() {
        Some(ObjectAttributes::NUMANode(node)) => node.local_memory().is_some(),
        _ => false,
    }
}

/// hwloc gives a node without processors the processors near it, so only the others compare.
fn check_processors(ours: &Topology, node: NodeId, object: &TopologyObject) -> Result<()> {
    if !ours.nodes_with_cpus().contains(node) {
        return Ok(());
    }
    for cpu in object.cpuset().context("hwloc: a node without cpuset")?.iter_set() {
        let cpu = u32::try_from(usize::from(cpu))?;
        let home = ours.node_of_cpu(CpuId::new(cpu));
        if home != Some(node) {
            bail!("hwloc disagrees: it has processor {cpu} on {node:?}, we on {home:?}");
        }
    }
    Ok(())
}

/// Machines with one node publish no distances, and there is nothing to compare.
fn check_distances(ours: &Topology, theirs: &hwlocality::Topology) -> Result<()> {
    for matrix in theirs.distances_with_name("NUMALatency").context("hwloc")? {
        for ((from, to), distance) in matrix.object_distances() {
            let (Some(from), Some(to)) = (from, to) else { continue };
            let (from, to) = (node_of(from)?, node_of(to)?);
            let own = ours.distance(from, to);
            if u64::from(own) != distance {
                bail!("hwloc disagrees: {from:?} to {to:?} is {distance}, ours {own}");
            }
        }
    }
    Ok(())
}

/// Machines that are not there, as hwloc describes them, through the library's own code.
#[cfg(test)]
mod tests {
    use hwlocality::Topology as Hwloc;
    use zonal_numa::Machine;
    use zonal_numa::fake::FakeBuilder;

    use super::*;

    fn synthetic(text: &str) -> Hwloc {
        let built = Hwloc::builder().from_synthetic(text).map(|builder| builder.build());
        built.unwrap_or_else(|error| panic!("{text}: {error}")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn nodes(theirs: &Hwloc) -> Vec<usize> {
        let nodes = theirs.objects_with_type(ObjectType::NUMANode);
        nodes.filter_map(TopologyObject::os_index).collect()
    }

    /// Synthetic machines have no distances; they are given here.
    fn built(theirs: &Hwloc, distance: impl Fn(usize, usize) -> u8) -> FakeBuilder {
        let numbers = nodes(theirs);
        let mut fake = FakeBuilder::new().node_numbers(&numbers);
        for &from in &numbers {
            for &to in numbers.iter().filter(|&&to| to > from) {
                fake = fake.distance(from, to, distance(from, to));
            }
        }
        fake
    }

    /// The order by the words of the issue: the own node, then by distance, memory without
    /// processors last; equals by turns from the home on.
    fn oracle(topology: &Topology, home: NodeId) -> Vec<NodeId> {
        let mut list: Vec<NodeId> = topology.nodes_with_memory().iter().collect();
        let turn = |node: &NodeId| (node.index() + 64 - home.index()) % 64;
        list.sort_by_key(turn);
        list.sort_by_key(|&node| topology.distance(home, node));
        list.sort_by_key(|&node| !topology.nodes_with_cpus().contains(node));
        list.sort_by_key(|&node| node != home);
        list
    }

    fn check_zonelists(topology: &Topology) {
        for home in topology.nodes_online() {
            assert_eq!(topology.zonelist(home), oracle(topology, home), "{home:?}");
        }
    }

    #[test]
    fn eight_nodes_with_sixty_four_cores() {
        let theirs = synthetic("NUMANode:8 Package:1 Core:8 PU:1");
        // A cube: so many steps as bits differ.
        let fake = built(&theirs, |a, b| 10 + 6 * (a ^ b).count_ones() as u8);
        let machine = Machine::fake(fake.cpus_per_node(8).build());
        let ours = machine.topology();
        assert_eq!(check(ours, &theirs).unwrap(), "hwloc agrees");
        assert_eq!(ours.node_of_cpu(CpuId::new(63)), NodeId::from_index(7));
        check_zonelists(ours);
        // Every node is the second choice of as many as any other.
        let seconds: NodeMask = ours.nodes_online().iter().map(|n| ours.zonelist(n)[1]).collect();
        assert!(seconds.count() >= 4, "{seconds:?}");
    }

    #[test]
    fn sub_numa_clusters() {
        let theirs = synthetic("Package:2 NUMANode:2 Core:8 PU:2");
        let fake = built(&theirs, |a, b| if a / 2 == b / 2 { 12 } else { 21 });
        let machine = Machine::fake(fake.cpus_per_node(16).build());
        let ours = machine.topology();
        assert_eq!(check(ours, &theirs).unwrap(), "hwloc agrees");
        check_zonelists(ours);
        let list = |node| ours.zonelist(NodeId::from_index(node).unwrap()).to_vec();
        let numbers = |list: Vec<NodeId>| list.iter().map(|n| n.index()).collect::<Vec<_>>();
        assert_eq!(numbers(list(1)), [1, 0, 2, 3], "the other half of the package first");
    }

    #[test]
    fn far_memory() {
        // Two packages with memory of their own, and two memories behind the whole machine.
        let theirs = synthetic(
            "[numa(memory=8GB)] [numa(memory=8GB)] Package:2 [numa(memory=8GB)] Core:4 PU:1",
        );
        let far: Vec<usize> = far_of(&theirs);
        assert_eq!((nodes(&theirs).len(), far.len()), (4, 2));
        let is_far = |node: usize| far.contains(&node);
        let fake = built(&theirs, |a, b| if is_far(a) || is_far(b) { 14 } else { 21 });
        let fake = far.iter().fold(fake.cpus_per_node(4), |fake, &node| fake.memory_only(node));
        let machine = Machine::fake(fake.build());
        let ours = machine.topology();
        assert_eq!(check(ours, &theirs).unwrap(), "hwloc agrees");
        check_zonelists(ours);
        for home in ours.nodes_with_cpus() {
            let list = ours.zonelist(home);
            assert!(list[2..].iter().all(|n| is_far(n.index())), "nearer, and yet last: {list:?}");
        }
    }

    /// Memories that all processors are equally near to.
    fn far_of(theirs: &Hwloc) -> Vec<usize> {
        let everywhere =
            |node: &&TopologyObject| node.cpuset().is_some_and(|set| *set == theirs.cpuset());
        let nodes = theirs.objects_with_type(ObjectType::NUMANode).filter(everywhere);
        nodes.filter_map(TopologyObject::os_index).collect()
    }
}
