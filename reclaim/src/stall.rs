//! One request in direct reclaim: what it may take, how long it goes on, and when bounds give way.

use zonal_allocator::{Deadline, Mm, Patience, Reclaimer};
use zonal_numa::{NodeId, probe};

use crate::pressure;
use crate::scan::SWAP_CLUSTER_MAX;
use crate::shrink::ScanControl;

/// What a request in need takes first, in generations: what was idle for an eighth of a second.
const DIRECT_AGE: u32 = 8;
/// How long a request waits for a round of kswapd, which may have lost its processor, and
/// how often: a fifth of a second in all.
const LONGEST_ROUND_NS: u64 = 50_000_000;
const MAX_ROUNDS: u32 = 4;
/// How long a request reclaims for a bound at which nobody is killed: the soft limit, `memory.high`.
const LONGEST_STALL_NS: u64 = 1_000_000;
/// The same where the group or the node has next to nothing left: what follows is the kernel's killer. As
/// long again after what was gained in it, because others may have had the processor meanwhile.
const LONGEST_LAST_STALL_NS: u64 = 50_000_000;
/// But no more of that from here on: what was gained may go round, from caches that others fill again.
const LAST_STALLS_END_NS: u64 = 1_000_000_000;
/// Once a bound gave way, so many pages at most pass before reclaim is tried again: 4 MiB.
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
    /// The kernel's killer is next, for the group or the node.
    is_at_edge: bool,
    /// For the group, which no node can help.
    is_group_full: bool,
    /// Rounds of kswapd that it waited for.
    nr_rounds: u32,
    /// Pages reclaimed when its time was last measured out.
    nr_before: usize,
    /// Pages reclaimed in this pass.
    pub(crate) progress: usize,
    /// Pages reclaimed in all passes.
    nr_reclaimed: usize,
    pub(crate) nr_loops: u32,
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
            is_at_edge: false,
            is_group_full: false,
            nr_rounds: 0,
            nr_before: 0,
            progress: 0,
            nr_reclaimed: 0,
            nr_loops: 0,
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
        // For a bound that gives way nobody waits long: kswapd does the rest.
        if pages.is_capped(self.node, self.nr_pages) {
            self.is_at_edge = pages.is_at_edge(self.node, self.nr_pages);
            self.is_group_full = pages.is_at_edge_of_group(self.nr_pages);
            self.begin_time(now);
        }
    }

    fn begin_time(&mut self, now: u64) {
        let longest = if self.is_at_edge { LONGEST_LAST_STALL_NS } else { LONGEST_STALL_NS };
        self.control.deadline = Deadline::at(now + longest);
        self.nr_before = self.nr_reclaimed;
    }

    /// Whether its time is over. At the edge only after one pass over all, and if nothing was gained or it has
    /// taken long.
    pub(crate) fn is_over(&mut self) -> bool {
        if !self.control.is_over(self.mm) {
            return false;
        }
        let is_worth_more = self.nr_reclaimed > self.nr_before && !self.is_long();
        let may_go_on = self.is_at_edge && (self.nr_loops == 0 || is_worth_more);
        if may_go_on {
            self.begin_time(self.mm.machine().now_ns());
        }
        !may_go_on
    }

    fn is_long(&self) -> bool {
        let now = self.mm.machine().now_ns();
        self.since.is_some_and(|since| now - since >= LAST_STALLS_END_NS)
    }

    /// Whether kswapd is in the middle of a round though the kernel's killer is next. It
    /// may be in all heaps or hold what was free, and have lost its processor: then a pass finds nothing in
    /// no time. Not where a node is short, since others may serve.
    pub(crate) fn awaits_round(&self) -> bool {
        let may_wait = self.is_group_full && self.nr_rounds < MAX_ROUNDS;
        may_wait && self.mm.doorbell().is_in_round() && !self.is_long()
    }

    /// Waits for its end, and counts the time.
    pub(crate) fn await_round(&mut self) {
        let since = self.mm.machine().now_ns();
        self.mm.doorbell().wait_for_round(LONGEST_ROUND_NS);
        let now = self.mm.machine().now_ns();
        self.mm.vmstat().note_blocked(now.saturating_sub(since).min(LONGEST_ROUND_NS));
        self.nr_rounds += 1;
        self.begin_time(now);
    }

    /// Only where the next answer may be that there is no memory, others in the heaps are waited for.
    pub(crate) fn patience(&self) -> Patience {
        if self.control.deadline == Deadline::NEVER { Patience::Wait } else { Patience::PassBy }
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
        pages.yield_caps(self.node, self.nr_pages, GRACE_PAGES, self.nr_reclaimed == 0);
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
