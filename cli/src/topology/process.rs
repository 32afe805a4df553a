//! Who runs where: a process's processors and nodes, its threads, its memory.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zonal_numa::{CpuId, Topology};

use crate::system::System;

/// A process as the kernel shows it.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// None for this command itself, which stands for programs started from the same shell.
    pub(super) pid: Option<u32>,
    pub(super) name: String,
    /// Processors and nodes that it may use, in the kernel's list form.
    pub(super) processors: String,
    pub(super) nodes: String,
    /// How many there are, by node.
    pub(super) threads: BTreeMap<usize, usize>,
    /// Bytes by node, of all its mappings.
    pub(super) memory: BTreeMap<usize, u64>,
}

impl Process {
    /// What cannot be read stays empty.
    pub(super) fn read(system: &System, topology: &Topology, pid: Option<u32>) -> Process {
        let status = |field| system.status(field).unwrap_or_default();
        let mut process = Process {
            pid,
            name: system.name(),
            processors: status("Cpus_allowed_list"),
            nodes: status("Mems_allowed_list"),
            ..Process::default()
        };
        for stat in system.of_threads("stat") {
            let node = processor(&stat).and_then(|cpu| topology.node_of_cpu(CpuId::new(cpu)));
            if let Some(node) = node {
                *process.threads.entry(node.index()).or_default() += 1;
            }
        }
        for line in system.of_process("numa_maps").unwrap_or_default().lines() {
            for (node, bytes) in pages(line) {
                *process.memory.entry(node).or_default() += bytes;
            }
        }
        process
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "pid": self.pid,
            "name": self.name,
            "processors": self.processors,
            "nodes": self.nodes,
            "threads": self.threads,
            "memory_bytes": self.memory,
        })
    }
}

/// The processor that a thread ran on last, out of its `stat`. The name may hold anything.
fn processor(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    // Field 39, and the first behind the name is number 3.
    rest.split_whitespace().nth(36)?.parse().ok()
}

/// Bytes by node of a line of `numa_maps`.
fn pages(line: &str) -> Vec<(usize, u64)> {
    let size = line.split_whitespace().find_map(|word| word.strip_prefix("kernelpagesize_kB="));
    let size = size.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(4) << 10;
    let node = |word: &str| {
        let (node, nr) = word.strip_prefix('N')?.split_once('=')?;
        Some((node.parse().ok()?, nr.parse::<u64>().ok()? * size))
    };
    line.split_whitespace().filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::{pages, processor};

    #[test]
    fn fields_of_the_kernel() {
        let fields: Vec<String> = (3..53).map(|n| n.to_string()).collect();
        let stat = format!("77 (a (b) c) {}", fields.join(" "));
        assert_eq!(processor(&stat), Some(39));
        assert_eq!(processor("77 (a) S 1"), None);
        let line = "7f00 prefer:1 anon=7 dirty=7 N0=2 N11=5 kernelpagesize_kB=4";
        assert_eq!(pages(line), [(0, 8192), (11, 20480)]);
        let line = "7f00 default huge anon=1 N1=1 kernelpagesize_kB=2048";
        assert_eq!(pages(line), [(1, 2 << 20)]);
    }
}
