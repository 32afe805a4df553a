//! A second opinion: hwloc's reading of the same machine.

use anyhow::{Context as _, Result, bail};
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::BuildFlags;
use zonal_numa::{CpuId, NodeId, NodeMask, Topology};

/// Compares nodes, their memory, their processors and all distances.
pub(super) fn check(ours: &Topology) -> Result<&'static str> {
    // What a cpuset forbids is part of the machine all the same.
    let theirs = hwlocality::Topology::builder()
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .context("hwloc")?
        .build()
        .context("hwloc")?;
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
    check_distances(ours, &theirs)?;
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
