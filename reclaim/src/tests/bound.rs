//! Nodes that memory is bound to and that are near full: nothing is handed out that the node has no
//! memory for, whatever zonal's accounts say.

use proptest::prelude::*;

use super::nodes::numastat;
use super::*;

/// So many pages of node 1: less than what counts as near full.
const SMALL: usize = 8192;

fn is_at(machine: &FakeMachine, block: NonNull<u8>, size: usize, home: usize) -> bool {
    let first = block.addr().get() & !(PAGE_SIZE - 1);
    let mut pages = (first..block.addr().get() + size).step_by(PAGE_SIZE);
    pages.all(|at| machine.node_of_addr(at) == Some(node(home)))
}

fn ask(mm: &Mm, heap: OwnHeap, mode: PolicyMode, nodes: &[usize]) {
    let policy = MemPolicy { mode, nodes: mask(nodes) };
    mm.set_policy(heap, Some(policy)).unwrap();
}

/// Takes blocks until there is no more memory; all of them are on node 1.
fn take_all(machine: &FakeMachine, heap: OwnHeap, size: usize) -> Vec<NonNull<u8>> {
    let mut blocks = Vec::new();
    while let Ok(block) = take(heap, size) {
        assert!(is_at(machine, block, size, 1), "block {} of {size} bytes", blocks.len());
        blocks.push(block);
        assert!(blocks.len() * size <= SMALL * PAGE_SIZE, "more than there is");
    }
    blocks
}

#[test]
fn purged_pages_of_slabs_come_again_only_where_the_node_has_some() {
    let machine = four_nodes().limit(1, SMALL).build();
    machine.spill();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[1]));
    let objects: Vec<_> = (0..16_000).map(|_| take(heap, 1000).unwrap()).collect();
    let mut kept = 0;
    for (i, object) in objects.into_iter().enumerate() {
        if i % 40 == 0 {
            kept += 1;
        } else {
            give(heap, object);
        }
    }
    trim(mm, Some(heap), usize::MAX, true);
    assert!(machine.pages_used(node(1)) < SMALL / 4, "there are holes");
    // Others take what was given back, but for 2 MiB.
    let left = machine.pages_used(node(1)) + 512;
    machine.set_limit(node(1), left);
    let taken = take_all(machine, heap, 1000);
    assert!(taken.len() > 1000, "{} objects", taken.len());
    assert!(machine.pages_used(node(1)) <= left);
    // And give it up again.
    machine.set_limit(node(1), SMALL);
    let again = take_all(machine, heap, 1000);
    assert!(kept + taken.len() + again.len() > 20_000, "{} objects", again.len());
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn free_blocks_that_are_elsewhere_come_home_before_they_are_used() {
    let machine = four_nodes().limit(1, 4 * SMALL).build();
    let (mm, heap) = start(machine, Config::default());
    // As when huge pages run out there, and nobody minds.
    machine.divert(node(1), node(0));
    ask(mm, heap, PolicyMode::Preferred, &[1]);
    // SAFETY: only the answer is used.
    let heap = unsafe { mm.exchange(heap) };
    let blocks: Vec<_> = (0..20).map(|_| take(heap, 500_000).unwrap()).collect();
    machine.divert(node(1), node(1));
    assert!(blocks.iter().all(|&block| home(mm, block) == 1 && is_at(machine, block, 500_000, 0)));
    blocks.into_iter().for_each(|block| give(heap, block));
    ask(mm, heap, PolicyMode::Bind, &[1]);
    machine.set_limit(node(1), 1000);
    let taken = take_all(machine, heap, 500_000);
    assert!(!taken.is_empty() && taken.len() <= 8, "{} blocks", taken.len());
    assert!(numastat(mm, heap)[1].bind_full > 0);
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn a_huge_block_that_is_elsewhere_is_brought_home_or_counted() {
    const SIZE: usize = 9 << 20;
    // On this machine they come from where the thread is.
    let machine = four_nodes().limit(1, 16 * SMALL).build();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[1]));
    let stray = take(heap, SIZE).unwrap();
    assert!(is_at(machine, stray, SIZE, 0));
    // Each looks at the one before.
    let lost = take(heap, SIZE).unwrap();
    assert!(is_at(machine, stray, SIZE, 1));
    let stats = numastat(mm, heap)[1];
    assert_eq!((stats.pages_migrated as usize, stats.bind_miss), (SIZE / PAGE_SIZE, 0));
    // What cannot come is counted once.
    machine.set_limit(node(1), machine.pages_used(node(1)));
    assert!(take(heap, SIZE).is_err());
    give(heap, lost);
    give(heap, stray);
    let missed = numastat(mm, heap)[1].bind_miss as usize;
    assert!(missed.abs_diff(SIZE / PAGE_SIZE) < 128, "{missed} pages");
    mm.validate(Some(heap)).unwrap();
}

/// No request stands still for a whole one.
#[test]
fn a_large_huge_block_comes_home_bit_by_bit() {
    const SIZE: usize = 80 << 20;
    const OTHER: usize = 9 << 20;
    let machine = four_nodes().limit(1, 16 * SMALL).build();
    let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[1]));
    let stray = take(heap, SIZE).unwrap();
    let moved = || (numastat(mm, heap)[1].pages_migrated as usize * PAGE_SIZE) >> 20;
    let mut blocks = Vec::new();
    for home in [32, 64, 80] {
        blocks.push(take(heap, OTHER).unwrap());
        assert_eq!(moved(), home);
    }
    assert!(is_at(machine, stray, SIZE, 1));
    // Those that came meanwhile were passed over, but for the last.
    blocks.push(take(heap, OTHER).unwrap());
    assert_eq!(moved(), 89);
    assert_eq!(numastat(mm, heap)[1].bind_miss, 0);
    blocks.into_iter().for_each(|block| give(heap, block));
    give(heap, stray);
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn blocks_of_nodes_in_turn_do_not_serve_bound_requests() {
    const SIZE: usize = 9 << 20;
    let machine = four_nodes().build();
    let (mm, heap) = start(machine, Config::default());
    ask(mm, heap, PolicyMode::Interleave, &[0, 1]);
    let turns = take(heap, SIZE).unwrap();
    give(heap, turns);
    ask(mm, heap, PolicyMode::Preferred, &[0]);
    let own = take(heap, SIZE).unwrap();
    assert_ne!(own, turns, "its pages are on both nodes");
    give(heap, own);
    assert_eq!(take(heap, SIZE).unwrap(), own, "its pages are where they should be");
    ask(mm, heap, PolicyMode::Interleave, &[0, 1]);
    assert_ne!(take(heap, SIZE).unwrap(), own);
}

#[derive(Clone, Debug)]
enum Step {
    Take(usize),
    Give(usize),
    GiveMost,
    Trim,
    /// So many pages are there now, and so many of them are files'.
    Room(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = std::vec![24_usize, 1000, 3000, 30_000, 300_000, 5 << 20];
    let step = prop_oneof![
        12 => prop::sample::select(sizes).prop_map(Step::Take),
        4 => any::<usize>().prop_map(Step::Give),
        1 => Just(Step::GiveMost),
        1 => Just(Step::Trim),
        1 => (1000..SMALL, 0..2000_usize).prop_map(|(all, files)| Step::Room(all, files)),
    ];
    prop::collection::vec((step, 1..40_usize), 1..30)
        .prop_map(|steps| steps.into_iter().flat_map(|(step, nr)| vec![step; nr]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_to_a_bound_node_its_memory_is_there(steps in steps()) {
        let machine = four_nodes().limit(1, SMALL).build();
        machine.spill();
        let (mm, heap) = start(machine, with_policy(PolicyMode::Bind, &[1]));
        let mut blocks = Vec::new();
        for step in steps {
            match step {
                Step::Take(size) => {
                    if let Ok(block) = take(heap, size) {
                        prop_assert!(is_at(machine, block, size, 1), "{} bytes", size);
                        blocks.push(block);
                    }
                }
                Step::Give(i) if !blocks.is_empty() => {
                    give(heap, blocks.swap_remove(i % blocks.len()));
                }
                Step::Give(_) => {}
                Step::GiveMost => {
                    let kept: Vec<_> = blocks.iter().copied().step_by(20).collect();
                    blocks.into_iter().filter(|b| !kept.contains(b)).for_each(|b| give(heap, b));
                    blocks = kept;
                }
                Step::Trim => {
                    trim(mm, Some(heap), usize::MAX, true);
                }
                Step::Room(all, files) => {
                    machine.set_limit(node(1), all);
                    machine.set_files(node(1), files.min(all));
                }
            }
        }
        prop_assert!(mm.validate(Some(heap)).is_ok());
    }
}
