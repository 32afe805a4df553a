//! Texts of sysfs, odd ones too, and the order of zonelists.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::list::{for_each_range, numbers};
use super::{Tables, Topology, read, read_memory, read_weight};
use crate::os::Mapped;
use crate::{CpuId, LOCAL_DISTANCE, MAX_NODES, NodeId, NodeMask, NodeMemory, REMOTE_DISTANCE};

/// A directory in the shape of `/sys/devices/system/node`.
pub(crate) struct Sysfs(PathBuf);

impl Sysfs {
    pub(crate) fn new(files: &[(&str, &str)]) -> Sysfs {
        static NR: AtomicU32 = AtomicU32::new(0);
        let nr = NR.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("zonal-numa-{}-{nr}", std::process::id()));
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Sysfs(dir)
    }

    /// From texts that are any bytes; the last one of a name counts.
    pub(crate) fn of_bytes<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Sysfs {
        let sysfs = Sysfs::new(&[]);
        for (name, text) in files {
            let path = sysfs.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        sysfs
    }

    pub(crate) fn root(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn read(&self) -> Topology {
        read(self.root())
    }
}

impl Drop for Sysfs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn node(number: usize) -> NodeId {
    NodeId::from_index(number).unwrap()
}

fn mask(numbers: &[usize]) -> NodeMask {
    numbers.iter().map(|&number| node(number)).collect()
}

fn indices(nodes: &[NodeId]) -> Vec<usize> {
    nodes.iter().map(|node| node.index()).collect()
}

fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    let mut all = Vec::new();
    for_each_range(text.as_bytes(), |first, last| all.push((first, last)))?;
    Some(all)
}

#[test]
fn lists_of_the_kernel() {
    assert_eq!(ranges("0\n"), Some(vec![(0, 0)]));
    assert_eq!(ranges("0-3,8,10-11\n"), Some(vec![(0, 3), (8, 8), (10, 11)]));
    assert_eq!(ranges("\n"), Some(vec![]));
    assert_eq!(ranges(""), Some(vec![]));
    assert_eq!(ranges("4294967295"), Some(vec![(u32::MAX, u32::MAX)]));
}

#[test]
fn texts_that_are_no_lists() {
    for text in ["x", "0-", "-3", "3-1", "0,,1", ",", "0,", "0x1", "+1", "1-2-3", "1 2", "0-31:2/4"]
    {
        assert_eq!(ranges(text), None, "{text:?}");
    }
    assert_eq!(ranges("4294967296"), None);
    let mut calls = 0;
    assert_eq!(for_each_range(b"0-3,x", |_, _| calls += 1), None);
    assert_eq!(calls, 0, "half a list was believed");
}

#[test]
fn rows_of_numbers() {
    assert_eq!(numbers(b"10 21\t 31\n").collect::<Vec<_>>(), [10, 21, 31]);
    assert_eq!(numbers(b"10 x 20").collect::<Vec<_>>(), [10]);
    assert_eq!(numbers(b"\n").count(), 0);
}

/// What the standard library would make of it.
fn naive_list(text: &str) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    let text = text.trim();
    let parts = text.split(',').filter(|_| !text.is_empty());
    parts
        .map(|part| match part.split_once('-') {
            Some((first, last)) => Some((number(first)?, number(last)?)),
            None => number(part).map(|one| (one, one)),
        })
        .map(|range| range.filter(|(first, last)| first <= last))
        .collect()
}

/// A set as the kernel prints it.
fn print_list(set: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let print = |&(a, b): &(u32, u32)| if a == b { format!("{a}") } else { format!("{a}-{b}") };
    ranges.iter().map(print).collect::<Vec<_>>().join(",") + "\n"
}

proptest! {
    #[test]
    fn a_printed_set_reads_back(set in prop::collection::btree_set(0_u32..5000, 0..60)) {
        let read = ranges(&print_list(&set)).unwrap();
        let read: BTreeSet<u32> = read.into_iter().flat_map(|(a, b)| a..=b).collect();
        prop_assert_eq!(read, set);
    }

    #[test]
    fn odd_texts_read_as_the_naive_parser_reads_them(text in "[0-9,+ x:\n-]{0,12}|[0-9]{1,11}(-[0-9]{1,11})?") {
        prop_assert_eq!(ranges(&text), naive_list(&text));
    }

    #[test]
    fn any_bytes_as_files_give_a_machine(
        online in prop::collection::vec(any::<u8>(), 0..40),
        other in "[0-9 ,x\n-]{0,40}",
    ) {
        let sysfs = Sysfs::new(&[
            ("online", "0-2\n"), ("node0/cpulist", &other), ("node1/distance", &other),
            ("has_memory", &other),
        ]);
        for round in 0..2 {
            if round == 1 {
                fs::write(sysfs.0.join("online"), &online).unwrap();
            }
            let topology = sysfs.read();
            prop_assert!(!topology.nodes_with_cpus().is_empty());
            for home in topology.nodes_online() {
                let list: NodeMask = topology.zonelist(home).iter().copied().collect();
                prop_assert_eq!(list, topology.nodes_with_memory());
                prop_assert!(!list.is_empty());
            }
        }
    }
}

#[test]
fn one_node_when_nothing_can_be_read() {
    for topology in [read("/nonexistent"), read(""), read(&"x".repeat(500))] {
        assert!(topology.is_one_node());
        assert_eq!(topology.nodes_online(), mask(&[0]));
        assert_eq!(topology.zonelist(node(5)), [NodeId::ZERO]);
        assert_eq!(topology.node_of_cpu(CpuId::new(9999)), Some(NodeId::ZERO));
        assert_eq!(topology.distance(node(0), node(0)), LOCAL_DISTANCE);
    }
    // A directory opens but does not read.
    assert!(Sysfs::new(&[("online/file", "0-3")]).read().is_one_node());
    for odd in ["", "\n", "no\n", "0-3x\n", "99\n"] {
        let topology = Sysfs::new(&[("online", odd)]).read();
        assert_eq!(topology.nodes_online(), mask(&[0]), "{odd:?}");
        assert_eq!(topology.first_node(), node(0));
    }
    let endless = "0,".repeat(400);
    assert!(Sysfs::new(&[("online", &endless)]).read().is_one_node());
}

#[test]
fn one_node_keeps_its_number() {
    let topology = Sysfs::new(&[("online", "3\n")]).read();
    assert!(topology.is_one_node());
    assert_eq!(topology.nodes_with_memory(), mask(&[3]));
    assert_eq!(topology.zonelist(node(0)), [node(3)]);
}

#[test]
fn two_sockets_and_far_memory() {
    let topology = Sysfs::new(&[
        ("online", "0-1,8\n"),
        ("has_memory", "0-1,8\n"),
        ("node0/cpulist", "0-1,4-5\n"),
        ("node1/cpulist", "2-3,6,4095-9000\n"),
        ("node8/cpulist", "\n"),
        ("node0/distance", "10 21 14\n"),
        ("node1/distance", "21 10 24\n"),
        ("node8/distance", "14 24 10\n"),
    ])
    .read();
    assert_eq!(topology.nodes_online(), mask(&[0, 1, 8]));
    assert_eq!(topology.nodes_with_cpus(), mask(&[0, 1]));
    for (cpu, home) in
        [(0, Some(0)), (3, Some(1)), (5, Some(0)), (7, None), (4095, Some(1)), (4096, None)]
    {
        assert_eq!(topology.node_of_cpu(CpuId::new(cpu)), home.map(node), "cpu {cpu}");
    }
    assert_eq!(topology.distance(node(8), node(1)), 24);
    // Far memory comes last though it is nearer than the other socket.
    assert_eq!(indices(topology.zonelist(node(0))), [0, 1, 8]);
    assert_eq!(indices(topology.zonelist(node(1))), [1, 0, 8]);
    assert_eq!(indices(topology.zonelist(node(8))), [8, 0, 1]);
    assert_eq!(indices(topology.zonelist(node(40))), [0, 1, 8]);
}

#[test]
fn what_is_missing_costs_only_itself() {
    let topology = Sysfs::new(&[
        ("online", "0-3\n"),
        ("has_normal_memory", "1-3\n"),
        ("node0/cpulist", "0\n"),
        ("node0/distance", "10 20 30 40\n"),
        ("node1/cpulist", "1-x\n"),
        ("node1/distance", "20 10\n"),
    ])
    .read();
    assert_eq!(topology.nodes_with_memory(), mask(&[1, 2, 3]));
    assert_eq!(topology.nodes_with_cpus(), mask(&[0]));
    assert_eq!(topology.node_of_cpu(CpuId::new(1)), None);
    assert_eq!(topology.distance(node(0), node(3)), 40);
    assert_eq!(topology.distance(node(1), node(3)), REMOTE_DISTANCE, "a short row was believed");
    assert_eq!(topology.distance(node(2), node(2)), LOCAL_DISTANCE);
    assert_eq!(indices(topology.zonelist(node(0))), [1, 2, 3], "nearest that has memory");
    assert_eq!(indices(topology.zonelist(node(2))), [2, 3, 1]);
}

#[test]
fn nodes_beyond_the_mask_are_left_out() {
    let topology = Sysfs::new(&[("online", "0,63-4294967295\n")]).read();
    assert_eq!(topology.nodes_online(), mask(&[0, 63]));
}

#[test]
fn equal_distances_spread_over_the_homes() {
    let several = Topology::several(
        mask(&[0, 1, 2, 3]),
        mask(&[0, 1, 2, 3]),
        mask(&[0, 1, 2, 3]),
        Mapped::<Tables>::zeroed().unwrap(),
    );
    for home in 0..4 {
        let expected: Vec<usize> = (0..4).map(|step| (home + step) % 4).collect();
        assert_eq!(indices(several.zonelist(node(home))), expected);
    }
}

/// Picks the next node as one would by hand, again and again.
fn picked(home: NodeId, topology: &Topology) -> Vec<NodeId> {
    let mut left: Vec<NodeId> = topology.nodes_with_memory().iter().collect();
    let mut list = Vec::new();
    while !left.is_empty() {
        let mut best = left[0];
        for &node in &left {
            if node == home || (best != home && is_better(home, node, best, topology)) {
                best = node;
            }
        }
        left.retain(|&node| node != best);
        list.push(best);
    }
    list
}

fn is_better(home: NodeId, node: NodeId, than: NodeId, topology: &Topology) -> bool {
    let cpus = topology.nodes_with_cpus();
    if cpus.contains(node) != cpus.contains(than) {
        return cpus.contains(node);
    }
    let (near, far) = (topology.distance(home, node), topology.distance(home, than));
    let after = |node: NodeId| (node.index() + MAX_NODES - home.index()) % MAX_NODES;
    if near == far { after(node) < after(than) } else { near < far }
}

proptest! {
    #[test]
    fn zonelists_are_what_picking_by_hand_gives(
        online in 1_u64..,
        memory: u64,
        cpus: u64,
        distances in prop::collection::vec(0_u32..5, 64 * 64),
    ) {
        // Few nodes as often as many.
        let online = NodeMask::from_bits(if online % 2 == 0 { online & 0xff | 1 } else { online });
        let mut tables = Mapped::<Tables>::zeroed().unwrap();
        for from in online {
            for to in online {
                let distance = distances[from.index() * MAX_NODES + to.index()];
                tables.set_distance(from, to, distance * 100);
            }
        }
        let (memory, cpus) = (NodeMask::from_bits(memory), NodeMask::from_bits(cpus));
        let topology = Topology::several(online, memory, cpus, tables);
        for home in online {
            prop_assert_eq!(topology.zonelist(home), &picked(home, &topology)[..]);
        }
    }

    #[test]
    fn masks_are_sets(numbers in prop::collection::btree_set(0_usize..MAX_NODES, 0..64)) {
        let all: Vec<usize> = numbers.iter().copied().collect();
        let set = mask(&all);
        prop_assert_eq!(set.iter().map(NodeId::index).collect::<Vec<_>>(), all);
        prop_assert_eq!(set.count(), numbers.len());
        prop_assert_eq!(set.first().map(NodeId::index), numbers.first().copied());
        prop_assert!((0..MAX_NODES).all(|i| set.contains(node(i)) == numbers.contains(&i)));
    }
}

#[test]
fn what_the_kernel_says_of_a_nodes_memory() {
    let text = "Node 3 MemTotal:  1048576 kB\nNode 3 MemFree:  100000 kB\n\
                Node 3 Active:  7 kB\nNode 3 Active(anon):  9 kB\nNode 3 Inactive(anon):  9 kB\n\
                Node 3 Active(file):  3000 kB\nNode 3 Inactive(file):  20000 kB\n";
    let sysfs = Sysfs::new(&[("node3/meminfo", text), ("node4/meminfo", "Node 4 MemFree: x kB\n")]);
    let room = |number| read_memory(sysfs.0.to_str().unwrap(), node(number));
    let expected = NodeMemory { total: 1 << 30, free: 100_000 << 10, files: 23_000 << 10 };
    assert_eq!(room(3), Some(expected));
    assert_eq!((room(4), room(5)), (None, None));
}

#[test]
fn the_weights_of_the_administrator() {
    let files = [("node0", "3\n"), ("node1", "255\n"), ("node2", "256\n"), ("node3", "x\n")];
    let sysfs = Sysfs::new(&files);
    let weight = |number| read_weight(sysfs.0.to_str().unwrap(), node(number));
    assert_eq!([0, 1, 2, 3, 4].map(weight), [Some(3), Some(255), None, None, None]);
}
