//! `zonal topology`: the nodes of this machine, read the way the library reads them, and which of
//! them a process uses.

#[cfg(feature = "hwloc")]
mod hwloc;
mod picture;
mod process;
mod ranges;

use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use zonal_numa::{CpuId, MAX_CPUS, Machine, NodeId, NodeMemory, Topology};

use crate::style::Style;
use crate::system::System;
use process::Process;
use ranges::ranges;

/// Whom to look at.
#[derive(Debug, Args)]
pub(crate) struct TopologyArgs {
    /// A running process: where its threads and its memory are.
    #[arg(value_name = "PID")]
    pid: Option<u32>,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the topology and, in a build with hwloc, whether hwloc sees the same.
pub(crate) fn print(args: &TopologyArgs, out: &mut impl Write) -> Result<()> {
    let machine = Machine::linux();
    let system = match args.pid {
        Some(pid) => System::process(pid)?,
        None => System::own(),
    };
    let process = Process::read(&system, machine.topology(), args.pid);
    let view = View::of(&machine, process);
    if args.json {
        return Ok(writeln!(out, "{:#}", view.json())?);
    }
    write!(out, "{}", picture::draw(&view, Style::of_stdout().width()))?;
    #[cfg(feature = "hwloc")]
    writeln!(out, "{}", hwloc::check(machine.topology(), &hwloc::live()?)?)?;
    Ok(())
}

/// All that is shown.
struct View {
    page_size: usize,
    nodes: Vec<Node>,
    process: Process,
}

struct Node {
    id: usize,
    /// In the kernel's list form.
    processors: String,
    has_memory: bool,
    memory: Option<NodeMemory>,
    /// To every node, with memory or without.
    distances: Vec<(usize, u8)>,
    /// Where a thread here looks for memory, in order.
    zonelist: Vec<(usize, u8)>,
}

impl View {
    fn of(machine: &Machine, process: Process) -> View {
        let topology = machine.topology();
        let node = |node: NodeId| {
            let far = |&to: &NodeId| (to.index(), topology.distance(node, to));
            Node {
                id: node.index(),
                processors: processors(topology, node),
                has_memory: topology.nodes_with_memory().contains(node),
                memory: machine.memory(node),
                distances: topology.nodes_online().iter().map(|to| far(&to)).collect(),
                zonelist: topology.zonelist(node).iter().map(far).collect(),
            }
        };
        let nodes = topology.nodes_online().iter().map(node).collect();
        View { page_size: machine.page_size(), nodes, process }
    }

    /// `{"version": 1, "page_size": ..., "nodes": [...], "process": {...}}`.
    fn json(&self) -> Value {
        let steps = |list: &[(usize, u8)]| -> Vec<Value> {
            list.iter().map(|(to, far)| json!({ "node": to, "distance": far })).collect()
        };
        let node = |node: &Node| {
            json!({
                "node": node.id,
                "processors": node.processors,
                "has_memory": node.has_memory,
                "memory_bytes": node.memory.map(|memory| memory.total),
                "free_bytes": node.memory.map(|memory| memory.free),
                "distances": steps(&node.distances),
                "zonelist": steps(&node.zonelist),
            })
        };
        let nodes: Vec<Value> = self.nodes.iter().map(node).collect();
        json!({
            "version": 1,
            "page_size": self.page_size,
            "nodes": nodes,
            "process": self.process.json(),
        })
    }
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
