//! Random calls against a map of what is live, on a fake machine of two nodes whose calls fail now and
//! then, each of them: also `clone`, where kswapd is wanted, and `futex`, where threads meet.

mod heaps;
mod threads;

use proptest::prelude::*;
use zonal_numa::fake::Call;

use crate::{Config, Mm, Patience, PurgeHow};

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
    /// kswapd is started if one is wanted; or `clone` fails, and it cannot be.
    Kswapd {
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
        1 => any::<bool>().prop_map(|starts| Step::Kswapd { starts }),
    ]
}

/// What a slow path does that finds work left: it starts kswapd by `spawn`, or is refused that and
/// leaves the work to others.
fn start_kswapd(mm: &'static Mm, starts: bool, spawn: impl FnOnce(Box<dyn FnOnce() + Send>)) {
    let bell = mm.doorbell();
    if !bell.wants_kswapd() || !bell.claim() {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn blocks_never_overlap_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..250)) {
        heaps::run(steps, Config::default());
    }

    /// As programs have it: some objects fenced, the slack of large blocks looked at.
    #[test]
    fn some_checked_blocks_never_overlap_and_nothing_is_lost(
        steps in prop::collection::vec(step(), 1..250)
    ) {
        heaps::run(steps, Config { fence: 3, slack: true, shuffle: true, ..Config::default() });
    }

    /// With seals, a quarantine and guard pages.
    #[test]
    fn checked_blocks_never_overlap_and_nothing_is_lost(
        steps in prop::collection::vec(step(), 1..250)
    ) {
        heaps::run(steps, Config { checked: true, ..Config::default() });
    }

    #[test]
    fn threads_lose_nothing_whatever_fails(
        steps in prop::array::uniform3(prop::collection::vec(step(), 1..150)),
        has_futex in any::<bool>(),
        is_usual in any::<bool>(),
    ) {
        let config = Config { fence: 3, slack: true, ..Config::default() };
        threads::run_threads(steps, has_futex, if is_usual { config } else { Config::default() });
    }
}
