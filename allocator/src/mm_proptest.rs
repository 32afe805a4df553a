//! Random calls against a map of what is live, on a fake machine of two nodes whose calls fail now and
//! then, each of them: also `clone`, where a keeper is wanted, and `futex`, where threads meet.

use core::ptr::NonNull;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use proptest::prelude::*;
use zonal_numa::fake::{Call, FakeBuilder, FakeMachine};
use zonal_numa::{Errno, Machine, NodeId};

use crate::sync::refused;
use crate::watermark::WatermarkLevel;
use crate::{Attempt, Config, Heap, Mm, Patience, PurgeHow, Request};

#[derive(Clone, Debug)]
enum Step {
    Alloc {
        heap: usize,
        size: usize,
        align: u32,
    },
    Free {
        heap: usize,
        which: usize,
    },
    Drain,
    PurgeHoles,
    Purge,
    /// The nth call of that kind from now on fails.
    Fail {
        call: usize,
        nth: u64,
    },
    /// A keeper is started if one is wanted; or `clone` fails, and it cannot be.
    Keeper {
        starts: bool,
    },
}

const CALLS: [Call; 20] = [
    Call::Reserve,
    Call::MapAt,
    Call::Map,
    Call::ProbeHole,
    Call::Commit,
    Call::ProtectNone,
    Call::Unmap,
    Call::Remap,
    Call::Purge,
    Call::PurgeMany,
    Call::AdviseHuge,
    Call::Collapse,
    Call::Split,
    Call::Bind,
    Call::AllowedNodes,
    Call::Resident,
    Call::Room,
    Call::Memory,
    Call::Place,
    Call::Membarrier,
];
const HEAPS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        6 => 0usize..600,
        3 => 0usize..40_000,
        1 => 0usize..(1 << 20),
        1 => (4usize << 20)..(7 << 20),
    ];
    prop_oneof![
        10 => (0..HEAPS, size, 3u32..14).prop_map(|(heap, size, align)| Step::Alloc {
            heap,
            size,
            align
        }),
        8 => (0..HEAPS, any::<usize>()).prop_map(|(heap, which)| Step::Free { heap, which }),
        1 => Just(Step::Drain),
        1 => Just(Step::PurgeHoles),
        1 => Just(Step::Purge),
        1 => (0..CALLS.len(), 1u64..4).prop_map(|(call, nth)| Step::Fail { call, nth }),
        1 => any::<bool>().prop_map(|starts| Step::Keeper { starts }),
    ]
}

/// Live blocks: start, then size and the byte that fills them.
type Live = BTreeMap<usize, (usize, u8)>;

fn overlaps(live: &Live, start: usize, size: usize) -> bool {
    let before = live.range(..start).next_back();
    let after = live.range(start..).next();
    before.is_some_and(|(&at, &(len, _))| at + len.max(1) > start)
        || after.is_some_and(|(&at, _)| at < start + size.max(1))
}

fn run(steps: Vec<Step>, config: Config) {
    let machine = FakeBuilder::new().nodes(2).build();
    let mm = Mm::new(Machine::fake(machine), config).unwrap();
    let heaps: Vec<&'static Heap> =
        // SAFETY: heaps are never unmapped.
        (0..HEAPS).map(|_| unsafe { mm.attach().unwrap().as_ref() }).collect();
    let own = Some(NonNull::from(heaps[0]));
    let mut live = Live::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Alloc { heap, size, align } => {
                let request = Request { size, align: 1 << align, zeroed: false, grows: false };
                let from = Attempt { node: heaps[heap].node(), level: WatermarkLevel::Low };
                // SAFETY: one thread, which plays the owner of each heap in turn.
                if let Ok(block) = unsafe { heaps[heap].alloc(request, from) } {
                    let start = block.start.addr().get();
                    assert_eq!(start % request.align, 0);
                    assert!(!overlaps(&live, start, size), "{size} bytes at {start:#x}");
                    if block.known_zero && size > 0 {
                        // SAFETY: a fresh block of that size.
                        unsafe { assert_eq!(block.start.add(size - 1).read(), 0) };
                    }
                    // SAFETY: as above.
                    unsafe { block.start.write_bytes(number as u8, size) };
                    live.insert(start, (size, number as u8));
                }
            }
            Step::Free { heap, which } => {
                let Some((&start, &(size, byte))) = live.iter().nth(which % live.len().max(1))
                else {
                    continue;
                };
                live.remove(&start);
                let block =
                    NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start)).unwrap();
                for at in [0, size / 2, size.saturating_sub(1)].into_iter().filter(|&at| at < size)
                {
                    // SAFETY: inside a live block.
                    assert_eq!(unsafe { block.add(at).read() }, byte);
                }
                // SAFETY: live, and no longer used.
                if unsafe { !heaps[heap].try_free_large(block, None) } {
                    // SAFETY: as above.
                    unsafe { heaps[heap].free(block) }.unwrap();
                }
            }
            Step::Drain => {
                mm.drain_all(own);
            }
            Step::PurgeHoles => {
                mm.purge_holes(own, Patience::Wait, PurgeHow::ALL, usize::MAX);
            }
            Step::Purge => {
                mm.pages().purge(heaps[0].node(), usize::MAX, PurgeHow::ALL);
            }
            Step::Fail { call, nth } => machine.fail(CALLS[call], nth, Errno::ENOMEM),
            Step::Keeper { starts } => start_keeper(mm, starts, |keep| keep()),
        }
        mm.validate(own).unwrap();
    }
    machine.fail_no_more();
    for (start, _) in live {
        let block = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start)).unwrap();
        // SAFETY: live, and no longer used.
        unsafe { heaps[0].free(block) }.unwrap();
    }
    for heap in heaps {
        heap.enter().drain_owned(None);
        assert_eq!(heap.take_fault(), None);
    }
    mm.drain_all(own);
    mm.validate(own).unwrap();
    if config.checked {
        // What is in quarantine stays there.
        assert_eq!(mm.check_bins(own), None);
    } else {
        let stats = crate::mm_tests::snapshot(mm, own);
        assert_eq!((stats.small_bytes(), stats.process.nr_huge_blocks), (0, 0));
        assert_eq!(stats.classes().iter().map(|class| class.nr_slabs).sum::<u64>(), 0);
    }
    machine.tear_down();
}

/// What a slow path does that finds work left: it starts a keeper by `spawn`, or is refused that and
/// leaves the work to others.
fn start_keeper(mm: &'static Mm, starts: bool, spawn: impl FnOnce(Box<dyn FnOnce() + Send>)) {
    let bell = mm.doorbell();
    if !bell.wants_keeper() || !bell.claim() {
        return;
    }
    if !starts {
        bell.retire_unserved();
        return;
    }
    spawn(Box::new(move || {
        loop {
            bell.answer();
            mm.drain_all(None);
            mm.purge_holes(None, Patience::Wait, PurgeHow::ALL, usize::MAX);
            for node in mm.pages().online().iter() {
                mm.pages().purge(node, usize::MAX, PurgeHow::ALL);
            }
            if bell.retire() {
                return;
            }
        }
    }));
}

/// What one thread of [`run_threads`] does, on its own heap; blocks go through a common table, so that
/// others free them.
fn run_thread(
    mm: &'static Mm,
    machine: &FakeMachine,
    table: &Table,
    steps: Vec<Step>,
    keepers: &Keepers,
    has_futex: bool,
) {
    let spawn = |keep: Box<dyn FnOnce() + Send>| {
        let keeper = thread::spawn(move || {
            refused::set(!has_futex);
            keep();
        });
        keepers.lock().unwrap().push(keeper);
    };
    // SAFETY: heaps are never unmapped.
    let heap: &'static Heap = unsafe { mm.attach().unwrap().as_ref() };
    let own = Some(NonNull::from(heap));
    let free = |(start, size, byte): (usize, usize, u8)| {
        let block = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start)).unwrap();
        for at in [0, size / 2, size.saturating_sub(1)].into_iter().filter(|&at| at < size) {
            // SAFETY: inside a live block, which left the table with this call.
            assert_eq!(unsafe { block.add(at).read() }, byte, "{size} bytes at {start:#x}");
        }
        // SAFETY: as above, and no longer used.
        if unsafe { !heap.try_free_large(block, None) } {
            // SAFETY: as above.
            unsafe { heap.free(block) }.unwrap();
        }
    };
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Alloc { heap: slot, size, align } => {
                let request = Request { size, align: 1 << align, zeroed: false, grows: false };
                let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
                // SAFETY: this thread owns the heap.
                let Ok(block) = (unsafe { heap.alloc(request, from) }) else { continue };
                // SAFETY: a fresh block of that size.
                unsafe { block.start.write_bytes(number as u8, size) };
                let new = (block.start.addr().get(), size, number as u8);
                let old = table[(slot + number) % table.len()].lock().unwrap().replace(new);
                old.map(free);
            }
            Step::Free { which, .. } => {
                let old = table[which % table.len()].lock().unwrap().take();
                old.map(free);
            }
            Step::Drain => drop(mm.drain_all(own)),
            Step::PurgeHoles => {
                mm.purge_holes(own, Patience::Wait, PurgeHow::ALL, usize::MAX);
            }
            Step::Purge => drop(mm.pages().purge(heap.node(), usize::MAX, PurgeHow::ALL)),
            Step::Fail { call, nth } => machine.fail(CALLS[call], nth, Errno::ENOMEM),
            Step::Keeper { starts } => start_keeper(mm, starts, spawn),
        }
    }
    // SAFETY: this thread's heap, not used from here on.
    unsafe { mm.detach(NonNull::from(heap)) };
}

type Table = [Mutex<Option<(usize, usize, u8)>>; 32];
type Keepers = Mutex<Vec<thread::JoinHandle<()>>>;

fn run_threads(steps: [Vec<Step>; 3], has_futex: bool, config: Config) {
    refused::set(!has_futex);
    let machine = FakeBuilder::new().nodes(2).build();
    let mm = Mm::new(Machine::fake(machine), config).unwrap();
    let table: Table = core::array::from_fn(|_| Mutex::new(None));
    let keepers = Keepers::default();
    thread::scope(|scope| {
        for (i, steps) in steps.into_iter().enumerate() {
            let (table, keepers) = (&table, &keepers);
            scope.spawn(move || {
                refused::set(!has_futex);
                machine.run_on(NodeId::from_index(i % 2).unwrap());
                run_thread(mm, machine, table, steps, keepers, has_futex);
            });
        }
    });
    machine.fail_no_more();
    // Keepers go home by themselves, and none is left on duty that never came.
    keepers.into_inner().unwrap().into_iter().for_each(|keeper| keeper.join().unwrap());
    assert!(mm.doorbell().claim());
    mm.doorbell().retire_unserved();
    mm.validate(None).unwrap();
    // SAFETY: heaps are never unmapped.
    let heap: &'static Heap = unsafe { mm.attach().unwrap().as_ref() };
    for (start, ..) in table.into_iter().filter_map(|slot| slot.into_inner().unwrap()) {
        let block = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start)).unwrap();
        // SAFETY: live, and no longer used.
        unsafe { heap.free(block) }.unwrap();
    }
    let own = Some(NonNull::from(heap));
    heap.enter().drain_owned(None);
    mm.drain_all(own);
    mm.validate(own).unwrap();
    let stats = crate::mm_tests::snapshot(mm, own);
    assert_eq!((stats.small_bytes(), stats.process.nr_huge_blocks), (0, 0));
    machine.tear_down();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn blocks_never_overlap_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..250)) {
        run(steps, Config::default());
    }

    /// As programs have it: some objects fenced, the slack of large blocks looked at.
    #[test]
    fn some_checked_blocks_never_overlap_and_nothing_is_lost(
        steps in prop::collection::vec(step(), 1..250)
    ) {
        run(steps, Config { fence: 3, slack: true, shuffle: true, ..Config::default() });
    }

    /// With seals, a quarantine and guard pages.
    #[test]
    fn checked_blocks_never_overlap_and_nothing_is_lost(
        steps in prop::collection::vec(step(), 1..250)
    ) {
        run(steps, Config { checked: true, ..Config::default() });
    }

    #[test]
    fn threads_lose_nothing_whatever_fails(
        steps in prop::array::uniform3(prop::collection::vec(step(), 1..150)),
        has_futex in any::<bool>(),
        is_usual in any::<bool>(),
    ) {
        let config = Config { fence: 3, slack: true, ..Config::default() };
        run_threads(steps, has_futex, if is_usual { config } else { Config::default() });
    }
}
