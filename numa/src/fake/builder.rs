//! The shape of a fake machine.

use std::cell::RefCell;

use super::FakeMachine;
use crate::os::Mapped;
use crate::topology::Tables;
use crate::{CpuId, MAX_NODES, NodeId, NodeMask, PAGE_SIZE, ThpMode, Topology};

/// Says what a [`FakeMachine`] looks like. Node numbers that do not exist panic,
/// because the test that names them is wrong.
#[derive(Clone, Debug)]
pub struct FakeBuilder {
    shape: Shape,
}

#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) page_size: usize,
    pub(super) limits: [usize; MAX_NODES],
    pub(super) thp: ThpMode,
    online: NodeMask,
    with_memory: NodeMask,
    with_cpus: NodeMask,
    cpus_per_node: u32,
    distances: Vec<(NodeId, NodeId, u8)>,
}

impl FakeBuilder {
    /// One node with memory without end, two processors, 4 KiB pages.
    #[expect(clippy::new_without_default, reason = "a machine is asked for, not defaulted")]
    pub fn new() -> FakeBuilder {
        let node = NodeMask::of(NodeId::ZERO);
        FakeBuilder {
            shape: Shape {
                page_size: PAGE_SIZE,
                limits: [usize::MAX; MAX_NODES],
                thp: ThpMode::Madvise,
                online: node,
                with_memory: node,
                with_cpus: node,
                cpus_per_node: 2,
                distances: Vec::new(),
            },
        }
    }

    /// Nodes `0..nr`, each with memory and processors.
    #[must_use]
    pub fn nodes(self, nr: usize) -> FakeBuilder {
        assert!(nr <= MAX_NODES, "{nr} nodes are too many");
        let numbers: Vec<usize> = (0..nr).collect();
        self.node_numbers(&numbers)
    }

    /// Nodes of these numbers, each with memory and processors.
    #[must_use]
    pub fn node_numbers(mut self, numbers: &[usize]) -> FakeBuilder {
        assert!(!numbers.is_empty(), "a machine has a node");
        let mask = numbers.iter().map(|&number| node(number)).collect();
        (self.shape.online, self.shape.with_memory, self.shape.with_cpus) = (mask, mask, mask);
        self
    }

    /// Processors of each node that has some.
    #[must_use]
    pub fn cpus_per_node(mut self, nr: u32) -> FakeBuilder {
        self.shape.cpus_per_node = nr;
        self
    }

    /// The node has no processors (far memory).
    #[must_use]
    pub fn memory_only(mut self, number: usize) -> FakeBuilder {
        self.shape.with_cpus.clear(node(number));
        self
    }

    /// The node has no memory.
    #[must_use]
    pub fn cpus_only(mut self, number: usize) -> FakeBuilder {
        self.shape.with_memory.clear(node(number));
        self
    }

    /// The distance between two nodes, both ways.
    #[must_use]
    pub fn distance(mut self, one: usize, other: usize, distance: u8) -> FakeBuilder {
        let (one, other) = (node(one), node(other));
        self.shape.distances.extend([(one, other, distance), (other, one, distance)]);
        self
    }

    /// All distances: a row for each node, in the order of their numbers.
    #[must_use]
    pub fn distances(mut self, rows: &[&[u8]]) -> FakeBuilder {
        for (from, row) in self.shape.online.iter().zip(rows) {
            for (to, &distance) in self.shape.online.iter().zip(row.iter()) {
                self.shape.distances.push((from, to, distance));
            }
        }
        self
    }

    /// How many OS pages a node has.
    #[must_use]
    pub fn limit(mut self, number: usize, pages: usize) -> FakeBuilder {
        self.shape.limits[node(number).index()] = pages;
        self
    }

    /// The OS page: a power of two, at least the real one.
    #[must_use]
    pub fn page_size(mut self, bytes: usize) -> FakeBuilder {
        assert!(bytes.is_power_of_two() && bytes >= PAGE_SIZE, "{bytes} is no page size");
        self.shape.page_size = bytes;
        self
    }

    /// The setting for huge pages.
    #[must_use]
    pub fn thp(mut self, mode: ThpMode) -> FakeBuilder {
        self.shape.thp = mode;
        self
    }

    /// Makes the machine. It lives as long as the process; what stands on it, as the thread that builds
    /// it, which is that of a test.
    pub fn build(self) -> &'static FakeMachine {
        let machine: &'static FakeMachine = Box::leak(Box::new(FakeMachine::new(self.shape)));
        BUILT.with_borrow_mut(|built| built.0.push(machine));
        machine
    }
}

/// The machines of a thread, torn down at its end.
struct Built(Vec<&'static FakeMachine>);

impl Drop for Built {
    fn drop(&mut self) {
        self.0.iter().for_each(|machine| machine.tear_down());
    }
}

thread_local! {
    static BUILT: RefCell<Built> = const { RefCell::new(Built(Vec::new())) };
}

fn node(number: usize) -> NodeId {
    match NodeId::from_index(number) {
        Some(node) => node,
        None => panic!("node {number} cannot be"),
    }
}

impl Shape {
    pub(super) fn online(&self) -> NodeMask {
        self.online
    }

    pub(super) fn first_cpu_node(&self) -> NodeId {
        self.with_cpus.first().or(self.online.first()).unwrap_or(NodeId::ZERO)
    }

    /// A machine with one node answers every question alike, as a real one does.
    pub(super) fn topology(&self) -> Topology {
        if self.online.count() == 1 {
            return Topology::one_node(self.first_cpu_node());
        }
        let Some(mut tables) = Mapped::<Tables>::zeroed() else {
            panic!("no memory for a topology");
        };
        let mut cpu = 0;
        for node in self.with_cpus.iter().filter(|_| self.cpus_per_node > 0) {
            let last = CpuId::new(cpu + self.cpus_per_node - 1);
            tables.set_cpus(cpu, last.index() as u32, node);
            cpu += self.cpus_per_node;
        }
        for &(from, to, distance) in &self.distances {
            tables.set_distance(from, to, u32::from(distance));
        }
        Topology::several(self.online, self.with_memory, self.with_cpus, tables)
    }
}
