//! One thread, which plays the owner of each heap in turn: it knows what is live, and where.

use core::ptr::NonNull;
use std::collections::BTreeMap;

use zonal_numa::fake::FakeBuilder;
use zonal_numa::{Errno, Machine};

use super::{CALLS, HEAPS, Step, start_kswapd};
use crate::watermark::WatermarkLevel;
use crate::{Attempt, Config, Deadline, Mm, Patience, PurgeHow, Request};

/// Live blocks: start, then size and the byte that fills them.
type Live = BTreeMap<usize, (usize, u8)>;

fn overlaps(live: &Live, start: usize, size: usize) -> bool {
    let before = live.range(..start).next_back();
    let after = live.range(start..).next();
    before.is_some_and(|(&at, &(len, _))| at + len.max(1) > start)
        || after.is_some_and(|(&at, _)| at < start + size.max(1))
}

/// What happens to [`HEAPS`] heaps, all owned by one thread.
pub(super) fn run(steps: Vec<Step>, config: Config) {
    let machine = FakeBuilder::new().nodes(2).build();
    let mm = Mm::new(Machine::fake(machine), config).unwrap();
    let heaps: Vec<_> = (0..HEAPS).map(|_| mm.attach().unwrap()).collect();
    let own = Some(heaps[0]);
    let mut live = Live::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Alloc { heap, size, align } => {
                let request = Request { size, align: 1 << align, zeroed: false, grows: false };
                let from = Attempt { node: heaps[heap].node(), level: WatermarkLevel::Low };
                if let Ok(block) = heaps[heap].alloc(request, from) {
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
            Step::Kswapd { starts } => start_kswapd(mm, starts, |keep| keep()),
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
        heap.enter().drain_owned(Deadline::NEVER);
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
