//! `zonal topology`: the nodes of this machine, read the way the library reads them.

#[cfg(feature = "hwloc")]
mod hwloc;

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use zonal_numa::{CpuId, MAX_CPUS, Machine, NodeId, Topology};

/// How to print.
#[derive(Debug, Args)]
pub(crate) struct TopologyArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the topology and, in a build with hwloc, whether hwloc sees the same.
pub(crate) fn print(args: &TopologyArgs, out: &mut impl Write) -> Result<()> {
    let machine = Machine::linux();
    let topology = machine.topology();
    if args.json {
        return Ok(writeln!(out, "{:#}", json(&machine))?);
    }
    write!(out, "{}", describe(topology))?;
    writeln!(out, "page size {} KiB", machine.page_size() >> 10)?;
    #[cfg(feature = "hwloc")]
    writeln!(out, "{}", hwloc::check(topology)?)?;
    Ok(())
}

fn describe(topology: &Topology) -> String {
    let mut text = String::new();
    for node in topology.nodes_online() {
        let _ = writeln!(text, "node {}", node.index());
        let _ = writeln!(text, "  processors  {}", processors(topology, node));
        let memory = if topology.nodes_with_memory().contains(node) { "yes" } else { "none" };
        let _ = writeln!(text, "  memory      {memory}");
        let _ = writeln!(text, "  zonelist    {}", with_distances(topology, node));
    }
    text
}

/// The same as an object: `{"version": 1, "page_size": ..., "nodes": [...]}`.
fn json(machine: &Machine) -> Value {
    let topology = machine.topology();
    let node = |node: NodeId| {
        let steps = topology.zonelist(node).iter();
        let steps =
            steps.map(|&to| json!({ "node": to.index(), "distance": topology.distance(node, to) }));
        json!({
            "node": node.index(),
            "processors": processors(topology, node),
            "has_memory": topology.nodes_with_memory().contains(node),
            "zonelist": steps.collect::<Vec<_>>(),
        })
    };
    let nodes: Vec<Value> = topology.nodes_online().into_iter().map(node).collect();
    json!({ "version": 1, "page_size": machine.page_size(), "nodes": nodes })
}

/// Where a thread on `home` looks for memory, in order, each with its distance.
fn with_distances(topology: &Topology, home: NodeId) -> String {
    let step = |&node: &NodeId| format!("{} ({})", node.index(), topology.distance(home, node));
    topology.zonelist(home).iter().map(step).collect::<Vec<_>>().join(", ")
}

/// The processors of a node in the kernel's list form. On a one-node machine the library does not
/// ask for them.
fn processors(topology: &Topology, node: NodeId) -> String {
    if topology.is_one_node() {
        return "all".into();
    }
    let numbers = (0..u32::try_from(MAX_CPUS).unwrap_or(u32::MAX))
        .filter(|&cpu| topology.node_of_cpu(CpuId::new(cpu)) == Some(node));
    let text = ranges(numbers);
    if text.is_empty() { "none".into() } else { text }
}

/// Ascending numbers as `0-3,8`.
fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn ranges_are_those_of_the_kernel() {
        let of = |numbers: &[u32]| ranges(numbers.iter().copied());
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[5]), "5");
        assert_eq!(of(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(of(&[0, 2, 3]), "0,2-3");
    }
}
