//! One request in direct reclaim: what it may take, how long it goes on, and when bounds give way.

use zonal_allocator::{Mm, Patience, Reclaimer};
use zonal_numa::{NodeId, probe};

use crate::pressure;
use crate::scan::SWAP_CLUSTER_MAX;
use crate::shrink::ScanControl;

/// What a request in need takes first, in generations: what was idle for an eighth of a second.
const DIRECT_AGE: u32 = 8;
/// How long a request sleeps for others' next step.
const LONGEST_WAIT_NS: u64 = 500_000;
/// How long a request reclaims for the soft limit.
const LONGEST_STALL_NS: u64 = 1_000_000;
/// The same where the group or the node has next to nothing left: what follows is the kernel's killer. As
/// long again after what was gained in it, because others may have had the processor meanwhile.
const LONGEST_LAST_STALL_NS: u64 = 50_000_000;
/// But no more of that from here on: what was gained may go round, from caches that others fill again.
const LAST_STALLS_END_NS: u64 = 1_000_000_000;
/// Once a bound gave way, so many pages pass beyond it before reclaim is tried again: 4 MiB.
const GRACE_PAGES: usize = 1024;

/// One request's time in direct reclaim.
pub(crate) struct Stall {
    pub(crate) mm: &'static Mm,
    pub(crate) node: NodeId,
    nr_pages: usize,
    /// What to buy at a time.
    pub(crate) control: ScanControl,
    /// Since when it reclaims; none as long as it only looked deeper.
    since: Option<u64>,
    /// What stands in the way is what the group or the node has left.
    is_pressed: bool,
    /// Pages reclaimed when its time was last measured out.
    nr_before: usize,
    /// Pages reclaimed in this pass.
    pub(crate) progress: usize,
    /// And in all passes.
    nr_reclaimed: usize,
    pub(crate) nr_loops: u32,
    /// Heaps that anybody left out until this pass began.
    nr_skipped: u64,
    /// The pass before was held up.
    was_held_up: bool,
}

impl Stall {
    pub(crate) fn new(mm: &'static Mm, node: NodeId, nr_pages: usize) -> Stall {
        let goal = nr_pages.max(SWAP_CLUSTER_MAX);
        let control = ScanControl::new(Reclaimer::Direct, goal, DIRECT_AGE);
        Stall {
            mm,
            node,
            nr_pages,
            control,
            since: None,
            is_pressed: false,
            nr_before: 0,
            progress: 0,
            nr_reclaimed: 0,
            nr_loops: 0,
            nr_skipped: mm.vmstat().nr_skipped(),
            was_held_up: false,
        }
    }

    /// Direct reclaim begins.
    pub(crate) fn begin(&mut self) {
        if self.since.is_some() {
            return;
        }
        pressure::look_if_older(self.mm, pressure::IN_NEED_NS);
        let now = self.mm.machine().now_ns();
        let pages = self.mm.pages();
        self.since = Some(now);
        probe::mm_vmscan_direct_reclaim_begin(self.node.index(), self.nr_pages);
        pages.note_allocstall(self.node);
        self.mm.vmstat().begin_stall(pages.nr_threads(), now);
        // For a bound that gives way nobody waits long: the background reclaimer does the rest.
        if pages.is_capped(self.node, self.nr_pages) {
            self.is_pressed = pages.is_pressed(self.node, self.nr_pages);
            self.begin_time(now);
        }
    }

    fn begin_time(&mut self, now: u64) {
        let longest = if self.is_pressed { LONGEST_LAST_STALL_NS } else { LONGEST_STALL_NS };
        self.control.deadline_ns = Some(now + longest);
        self.nr_before = self.nr_reclaimed;
    }

    /// Whether its time is over. Under pressure only after one pass over all, and if nothing was gained or
    /// it has taken long.
    pub(crate) fn is_over(&mut self) -> bool {
        if !self.control.is_over(self.mm) {
            return false;
        }
        let now = self.mm.machine().now_ns();
        let is_long = self.since.is_some_and(|since| now - since >= LAST_STALLS_END_NS);
        let is_worth_more = self.nr_reclaimed > self.nr_before && !is_long;
        let may_go_on = self.is_pressed && (self.nr_loops == 0 || is_worth_more);
        if may_go_on {
            self.begin_time(now);
        }
        !may_go_on
    }

    /// Whether this pass left something out though the kernel's killer is next: a heap in which somebody was
    /// at work, or pages that somebody is about to give back. Who it is may have lost the processor, and
    /// what it holds may be all that is free.
    pub(crate) fn is_held_up(&self) -> bool {
        let left_out = self.mm.vmstat().nr_skipped() != self.nr_skipped;
        self.is_pressed && (left_out || self.mm.pages().nr_leaving() > 0)
    }

    /// The next pass begins.
    pub(crate) fn begin_pass(&mut self, is_held_up: bool) {
        self.nr_loops += 1;
        self.progress = 0;
        self.nr_skipped = self.mm.vmstat().nr_skipped();
        self.was_held_up = is_held_up;
    }

    /// Sleeps for the background reclaimer's next step, if there is a reclaimer and it can gain anything,
    /// or so that others at work can leave, and counts the time.
    pub(crate) fn throttle(&self) {
        let doorbell = self.mm.doorbell();
        let since = self.mm.machine().now_ns();
        if self.was_held_up {
            doorbell.pause(LONGEST_WAIT_NS);
        } else if doorbell.is_hopeless() || !doorbell.wait_for_step(LONGEST_WAIT_NS) {
            return;
        }
        let ns = self.mm.machine().now_ns().saturating_sub(since);
        // What is beyond that the kernel took to run this thread again.
        self.mm.vmstat().note_blocked(ns.min(LONGEST_WAIT_NS));
    }

    /// Only where the next answer may be that there is no memory, others in the heaps are waited for.
    pub(crate) fn patience(&self) -> Patience {
        if self.control.deadline_ns.is_some() { Patience::PassBy } else { Patience::Wait }
    }

    pub(crate) fn note(&mut self, nr_pages: usize) {
        self.progress += nr_pages;
        self.nr_reclaimed += nr_pages;
        if nr_pages > 0 {
            self.mm.doorbell().note_gain(nr_pages);
        }
    }

    /// The last try passed what nothing else would: the next requests need not try all that again
    /// before there is something to reclaim. Beyond the bound itself only if nothing was.
    pub(crate) fn give_way(&self) {
        let pages = self.mm.pages();
        pages.yield_caps(self.node, self.nr_pages + GRACE_PAGES, self.nr_reclaimed == 0);
        if pages.charged() > pages.soft_cap().pages {
            self.mm.vmstat().note_over_soft_limit();
        }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.mm.vmstat().end_stall(self.mm.machine().now_ns());
            probe::mm_vmscan_direct_reclaim_end(self.node.index(), self.nr_reclaimed);
        }
    }
}
