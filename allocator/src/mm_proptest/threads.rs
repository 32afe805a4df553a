//! Three threads, each with a heap of its own.

use core::ptr::NonNull;
use std::sync::Mutex;
use std::thread;

use zonal_numa::fake::{FakeBuilder, FakeMachine};
use zonal_numa::{Errno, Machine, NodeId};

use super::{CALLS, Step, start_kswapd};
use crate::sync::refused;
use crate::watermark::WatermarkLevel;
use crate::{Attempt, Config, Deadline, Mm, Patience, PurgeHow, Request};

type Table = [Mutex<Option<(usize, usize, u8)>>; 32];

type Kswapds = Mutex<Vec<thread::JoinHandle<()>>>;

/// The steps of three threads at one time; with futexes, or where the system refuses them.
pub(super) fn run_threads(steps: [Vec<Step>; 3], has_futex: bool, config: Config) {
    refused::set(!has_futex);
    let machine = FakeBuilder::new().nodes(2).build();
    let mm = Mm::new(Machine::fake(machine), config).unwrap();
    let table: Table = core::array::from_fn(|_| Mutex::new(None));
    let kswapds = Kswapds::default();
    thread::scope(|scope| {
        for (i, steps) in steps.into_iter().enumerate() {
            let (table, kswapds) = (&table, &kswapds);
            scope.spawn(move || {
                refused::set(!has_futex);
                machine.run_on(NodeId::from_index(i % 2).unwrap());
                run_thread(mm, machine, table, steps, kswapds, has_futex);
            });
        }
    });
    machine.fail_no_more();
    // Kswapds go home by themselves, and none is left on duty that never came.
    kswapds.into_inner().unwrap().into_iter().for_each(|kswapd| kswapd.join().unwrap());
    assert!(mm.doorbell().claim());
    mm.doorbell().retire_unserved();
    mm.validate(None).unwrap();
    let heap = mm.attach().unwrap();
    for (start, ..) in table.into_iter().filter_map(|slot| slot.into_inner().unwrap()) {
        let block = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start)).unwrap();
        // SAFETY: live, and no longer used.
        unsafe { heap.free(block) }.unwrap();
    }
    let own = Some(heap);
    heap.enter().drain_owned(Deadline::NEVER);
    mm.drain_all(own);
    mm.validate(own).unwrap();
    let stats = crate::mm_tests::snapshot(mm, own);
    assert_eq!((stats.small_bytes(), stats.process.nr_huge_blocks), (0, 0));
    machine.tear_down();
}

/// What one thread of [`run_threads`] does, on its own heap; blocks go through a common table, so that
/// others free them.
fn run_thread(
    mm: &'static Mm,
    machine: &FakeMachine,
    table: &Table,
    steps: Vec<Step>,
    kswapds: &Kswapds,
    has_futex: bool,
) {
    let spawn = |keep: Box<dyn FnOnce() + Send>| {
        let kswapd = thread::spawn(move || {
            refused::set(!has_futex);
            keep();
        });
        kswapds.lock().unwrap().push(kswapd);
    };
    // Each failure comes once: one that another thread asked for may come here.
    let heap = core::iter::repeat_with(|| mm.attach()).find_map(Result::ok).unwrap();
    let own = Some(heap);
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
                let Ok(block) = heap.alloc(request, from) else { continue };
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
            Step::Kswapd { starts } => start_kswapd(mm, starts, spawn),
        }
    }
    // SAFETY: this thread's heap, not used from here on.
    unsafe { mm.detach(heap) };
}
