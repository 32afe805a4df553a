//! Machines of two, eight and sixty-four nodes; nodes that are full of files, that fill up, that go
//! away; reclaim before others are asked.

use proptest::prelude::*;
use zonal_allocator::NodeReclaimMode;
use zonal_stats::Snapshot;

use super::*;
use crate::node_reclaim::{NodeReclaim, node_reclaim};

/// Whether each node's memory may be used, as the figures have it.
fn usable(mm: &Mm, heap: OwnHeap) -> Vec<u64> {
    let mut snapshot = Box::<Snapshot>::default();
    mm.snapshot(Some(heap), Patience::Wait, &mut snapshot);
    snapshot.nodes().iter().map(|node| node.zone.usable).collect()
}

/// The nodes' figures of placement.
pub(super) fn numastat(mm: &Mm, heap: OwnHeap) -> Vec<zonal_stats::Numastat> {
    // Too large for the stack of a test.
    let mut snapshot = Box::<Snapshot>::default();
    mm.snapshot(Some(heap), Patience::Wait, &mut snapshot);
    snapshot.nodes().iter().map(|node| node.numastat).collect()
}

#[derive(Clone, Debug)]
enum Step {
    RunOn(usize),
    Take(usize),
    Ask(Option<(PolicyMode, u64)>),
    Forbid(usize),
    AllowAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let modes = prop::sample::select(std::vec![
        PolicyMode::Preferred,
        PolicyMode::PreferredMany,
        PolicyMode::Bind,
        PolicyMode::Interleave,
        PolicyMode::WeightedInterleave,
    ]);
    let step = prop_oneof![
        2 => (0..64_usize).prop_map(Step::RunOn),
        6 => prop::sample::select(std::vec![100_usize, 5000, 40_000, 300_000]).prop_map(Step::Take),
        1 => (modes, any::<u64>()).prop_map(|policy| Step::Ask(Some(policy))),
        1 => Just(Step::Ask(None)),
        1 => (0..64_usize).prop_map(Step::Forbid),
        1 => Just(Step::AllowAll),
    ];
    prop::collection::vec(step, 1..40)
}

/// One thread, its policy and where it runs, against the words of the policies.
struct Walk {
    machine: &'static FakeMachine,
    mm: &'static Mm,
    heap: OwnHeap,
    nr_nodes: usize,
    here: NodeId,
    allowed: NodeMask,
}

impl Walk {
    fn new(nr_nodes: usize) -> Walk {
        let machine = FakeBuilder::new().nodes(nr_nodes).build();
        machine.run_on(node(0));
        let (mm, heap) = start(machine, Config::default());
        Walk { machine, mm, heap, nr_nodes, here: node(0), allowed: machine_nodes(nr_nodes) }
    }

    /// As a thread does that comes to its slow path again and again.
    fn settle(&mut self) {
        // SAFETY: only the answer is used.
        self.heap = unsafe { self.mm.exchange(self.heap) };
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::RunOn(to) => {
                self.here = node(to % self.nr_nodes);
                self.machine.run_on(self.here);
                self.settle();
            }
            Step::Ask(asked) => {
                let policy = asked.map(|(mode, bits)| self.policy(mode, bits));
                let answer = self.mm.set_policy(self.heap, policy);
                let is_sound = policy.is_none_or(|p| !(p.nodes & self.allowed).is_empty());
                prop_assert_eq!(answer.is_ok(), is_sound, "{:?}", policy);
                self.settle();
            }
            Step::Forbid(which) if self.allowed.count() > 1 => {
                self.allowed.clear(node(which % self.nr_nodes));
                self.machine.allow(self.allowed);
                self.settle();
            }
            Step::Forbid(_) => {}
            Step::AllowAll => {
                self.allowed = machine_nodes(self.nr_nodes);
                self.machine.allow(self.allowed);
                self.settle();
            }
            Step::Take(size) => self.take(size)?,
        }
        Ok(())
    }

    fn policy(&self, mode: PolicyMode, bits: u64) -> MemPolicy {
        let nodes = NodeMask::from_bits(bits) & machine_nodes(self.nr_nodes);
        let nodes = if nodes.is_empty() { NodeMask::of(self.here) } else { nodes };
        let one = || nodes.first().map_or(NodeMask::EMPTY, NodeMask::of);
        MemPolicy { mode, nodes: if mode == PolicyMode::Preferred { one() } else { nodes } }
    }

    /// Nobody is short here, so memory is where the policy says.
    fn take(&mut self, size: usize) -> Result<(), TestCaseError> {
        let on = node(home(self.mm, take(self.heap, size).unwrap()));
        let asked = self.heap.asked_policy().filter(|p| !(p.nodes & self.allowed).is_empty());
        let among = asked.map_or(self.allowed, |policy| policy.nodes & self.allowed);
        // Old slabs of a heap stay in use when what is allowed changes, or what was asked for.
        if size <= 32 << 10 {
            return Ok(());
        }
        prop_assert!(among.contains(on), "{on:?} of {among:?} by {asked:?}");
        let near = self.mm.zonelist(self.here).iter().find(|n| among.contains(**n));
        if asked.is_none() {
            prop_assert_eq!(Some(&on), near);
        }
        Ok(())
    }
}

fn machine_nodes(nr: usize) -> NodeMask {
    (0..nr).map(node).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn memory_is_where_the_policy_says(nr in prop::sample::select(std::vec![2_usize, 8, 64]), steps in steps()) {
        let mut walk = Walk::new(nr);
        for step in &steps {
            walk.step(step)?;
        }
        let stats = numastat(walk.mm, walk.heap);
        let sum = |field: fn(&zonal_stats::Numastat) -> u64| stats.iter().map(field).sum::<u64>();
        prop_assert_eq!(sum(|n| n.numa_miss), sum(|n| n.numa_foreign));
        let taken = sum(|n| n.numa_hit + n.numa_miss);
        prop_assert_eq!(taken, sum(|n| n.local_node + n.other_node));
        prop_assert!(walk.mm.validate(Some(walk.heap)).is_ok());
    }
}

#[test]
fn files_give_way_to_bound_memory_and_then_it_is_over() {
    // 256 MiB, half of it files.
    let machine = four_nodes().limit(1, 65_536).build();
    machine.set_files(node(1), 32_768);
    machine.spill();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[1]));
    let mut blocks = Vec::new();
    while let Ok(block) = take(heap, 1 << 20) {
        blocks.push(block);
        assert!(blocks.len() <= 256, "more than there is");
    }
    assert!(blocks.len() > 240, "{} MiB of 256", blocks.len());
    for block in blocks {
        let pages = (block.addr().get()..block.addr().get() + (1 << 20)).step_by(PAGE_SIZE);
        assert!(pages.into_iter().all(|at| machine.node_of_addr(at) == Some(node(1))));
    }
    let stats = numastat(mm, heap)[1];
    assert!(stats.bind_full > 0 && stats.bind_miss == 0, "{stats:?}");
}

#[test]
fn what_the_kernel_put_elsewhere_is_brought_home() {
    let machine = four_nodes().build();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[1]));
    let _first = take(heap, 1 << 20).unwrap();
    machine.divert(node(1), node(0));
    let blocks: Vec<_> = (0..16).map(|_| take(heap, 1 << 20).unwrap()).collect();
    machine.divert(node(1), node(1));
    for _ in 0..16 {
        take(heap, 1 << 20).unwrap();
    }
    let stats = numastat(mm, heap)[1];
    assert!(stats.pages_migrated > 0, "{stats:?}");
    assert!(blocks.iter().all(|b| machine.node_of_addr(b.addr().get()) == Some(node(1))));
}

#[test]
fn a_node_that_goes_away_is_left_and_comes_back() {
    let machine = four_nodes().build();
    machine.run_on(node(2));
    let (mm, heap) = start(machine, Config::default());
    assert_eq!(spread(mm, heap, 100_000, 20), [0, 0, 20, 0]);
    // As the kernel does with the mask of a process when the memory of a node goes offline.
    machine.allow(mask(&[0, 1, 3]));
    // SAFETY: only the answer is used.
    let heap = unsafe { mm.exchange(heap) };
    assert_eq!(spread(mm, heap, 100_000, 20), [0, 0, 0, 20], "the nearest that is left");
    assert_eq!(usable(mm, heap), [1, 1, 0, 1]);
    machine.allow(mask(&[0, 1, 2, 3]));
    // SAFETY: as above.
    let heap = unsafe { mm.exchange(heap) };
    assert_eq!(spread(mm, heap, 100_000, 20), [0, 0, 20, 0]);
    assert_eq!(usable(mm, heap), [1, 1, 1, 1]);
    let stats = numastat(mm, heap);
    assert_eq!((stats[3].migrations, stats[2].migrations), (1, 1));
    assert!(stats[3].other_node >= 20 * 25, "{stats:?}");
}

#[test]
fn a_node_reclaims_before_others_are_asked_if_it_shall() {
    for (bits, expected) in [(0, false), (1, true), (7, true)] {
        let machine = four_nodes().limit(0, 64 << 8).build();
        machine.run_on(node(0));
        let pages = PageConfig {
            node_reclaim: NodeReclaimMode::from_bits(bits).unwrap(),
            ..PageConfig::default()
        };
        let (mm, heap) = start(machine, Config { pages, ..Config::default() });
        // What smaller blocks leave between them is of no use to larger ones, and yet resident.
        let small: Vec<_> = (0..40).map(|_| take(heap, 500_000).unwrap()).collect();
        small.into_iter().step_by(2).for_each(|block| give(heap, block));
        let nodes = spread(mm, heap, 900_000, 80);
        let stats = numastat(mm, heap)[0];
        let tried = stats.zone_reclaim_success + stats.zone_reclaim_failed > 0;
        assert_eq!(tried, expected, "mode {bits}: {stats:?}");
        assert!(nodes[1] > 0 && nodes[2] + nodes[3] == 0, "mode {bits}: {nodes:?}");
        mm.validate(Some(heap)).unwrap();
    }
    assert_eq!(NodeReclaimMode::from_bits(8), None);
}

#[test]
fn reclaim_on_a_node_tells_what_came_of_it() {
    let machine = four_nodes().build();
    machine.run_on(node(0));
    let node_reclaim_mode = NodeReclaimMode::from_bits(1).unwrap();
    let pages = PageConfig { node_reclaim: node_reclaim_mode, ..PageConfig::default() };
    let (mm, heap) = start(machine, Config { pages, ..Config::default() });
    let reclaim = |on, nr_pages| node_reclaim(heap, node(on), nr_pages);
    assert_eq!(reclaim(0, 100), NodeReclaim::Full, "nothing is free there");
    let blocks: Vec<_> = (0..200).map(|_| take(heap, 500_000).unwrap()).collect();
    blocks.into_iter().step_by(2).for_each(|block| give(heap, block));
    assert_eq!(reclaim(1, 100), NodeReclaim::NoScan, "others run there");
    let other = mm.pages().begin_node_reclaim(node(0)).unwrap();
    assert!(mm.pages().begin_node_reclaim(node(0)).is_none(), "one at a time");
    assert_eq!(reclaim(0, 100), NodeReclaim::NoScan);
    drop(other);
    assert_eq!(reclaim(0, 100), NodeReclaim::Success);
    assert_eq!(reclaim(0, 1_000_000), NodeReclaim::Some);
    assert_eq!(reclaim(0, 100), NodeReclaim::Full, "one page in a hundred stays");
    let stats = numastat(mm, heap)[0];
    assert_eq!((stats.zone_reclaim_success, stats.zone_reclaim_failed), (1, 1));
}
