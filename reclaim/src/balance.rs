//! Rounds for a watermark: reclaim up to the high ones, cold or not. After `balance_pgdat`.

use zonal_allocator::{Deadline, Level, Mm, OwnHeap, Patience, PurgeHow, Reclaimer};
use zonal_numa::{PAGE_SIZE, probe};

use crate::nodes;
use crate::scan::{DEF_PRIORITY, SWAP_CLUSTER_MAX};
use crate::shrink::{ScanControl, shrink_node};

/// The priority at which reclaim for boosted marks ends: only what was idle for a quarter of the age
/// goes.
const BOOST_PRIORITY: u32 = DEF_PRIORITY - 2;

/// Whether a low watermark is not met.
pub(crate) fn is_short(mm: &Mm) -> bool {
    let pages = mm.pages();
    pages.shortfall(Level::Process) > 0
        || nodes(mm).any(|node| pages.shortfall(Level::Node(node)) > 0)
}

/// What the last round for a watermark did.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// It gained something.
    gains: bool,
    /// Free resident pages that it left.
    garbage_left: usize,
}

impl Balance {
    pub(crate) fn gains(&self) -> bool {
        self.gains
    }

    /// A round that has nothing to do for a watermark, or may not.
    pub(crate) fn pass(&mut self) {
        self.gains = false;
    }

    /// Below a low watermark: reclaims up to the high one, unless nothing was gained for too long. `age` is
    /// that of cold memory, in generations.
    pub(crate) fn reclaim(&mut self, mm: &'static Mm, own: Option<OwnHeap>, age: u32) {
        let pages = mm.pages();
        self.gains = false;
        if mm.doorbell().is_hopeless() && !self.is_due_again(pages.nr_free_resident()) {
            return;
        }
        mm.vmstat().note_pageoutrun();
        probe::mm_watermark_low(pages.shortfall(Level::Process));
        mm.drain_all_until(own, Patience::PassBy, Deadline::NEVER);
        let mut gained = 0;
        for node in nodes(mm) {
            let goal = pages.shortfall(Level::Process).max(pages.shortfall(Level::Node(node)));
            gained += shrink_node(mm, node, ScanControl::new(Reclaimer::Kswapd, goal, age));
        }
        if is_short(mm) {
            gained += mm.drain_huge() / PAGE_SIZE;
        }
        let left = nodes(mm).map(|node| pages.shortfall(Level::Node(node))).max().unwrap_or(0);
        let left = left.max(pages.shortfall(Level::Process));
        if left > 0 {
            let how = PurgeHow { by: Reclaimer::Kswapd, ..PurgeHow::ALL };
            gained += mm.purge_holes(own, Patience::PassBy, how, left);
        }
        if !is_short(mm) {
            probe::mm_watermark_high(gained);
        }
        mm.doorbell().note_gain(gained);
        mm.doorbell().note_step();
        self.garbage_left = pages.nr_free_resident();
        self.gains = gained > 0;
    }

    /// After too many failures: whether there is more to reclaim than the last one left.
    fn is_due_again(&self, nr_free_resident: usize) -> bool {
        nr_free_resident > self.garbage_left + SWAP_CLUSTER_MAX
    }
}

/// Marks that fragmentation raised: reclaims up to them what is nearly cold, and takes off by how
/// much they were raised whatever that gave. Where the marks themselves were not met, that had its
/// own reclaim, or none would help.
pub(crate) fn reclaim_boost(mm: &Mm, age: u32, was_short: bool) {
    let pages = mm.pages();
    let goal = |node| if was_short { 0 } else { pages.boosted_shortfall(node) };
    if nodes(mm).any(|node| goal(node) > 0) {
        mm.vmstat().note_pageoutrun_boost();
    }
    let of_process = pages.boost(Level::Process);
    for node in nodes(mm) {
        let of_node = pages.boost(Level::Node(node));
        let goal = goal(node);
        if goal > 0 {
            let control = ScanControl::new(Reclaimer::Kswapd, goal, age);
            shrink_node(mm, node, ScanControl { last: BOOST_PRIORITY, ..control });
        }
        pages.unboost(Level::Node(node), of_node);
    }
    pages.unboost(Level::Process, of_process);
}
