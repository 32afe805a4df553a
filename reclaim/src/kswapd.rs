//! The background reclaimer: one round of it, without the thread.
//!
//! A round looks at the pressure from outside and works for the watermarks if one is not met. Then
//! it drains the caches of threads that did nothing since the last one, purges holes in slabs
//! and free chunks that are cold, unmaps huge mappings kept for too long, and says how long to
//! sleep. It costs at most one hundredth of the time, with a burst credit; what gains memory below a
//! watermark does not count. When there is nothing left to do for a while it asks to be dismissed.

use core::ptr::NonNull;

use zonal_allocator::{Heap, Mm, Patience, PurgeHow, Reclaimer, Sweep};
use zonal_numa::{NodeId, PAGE_SIZE, probe};

use crate::ageing::{Ageing, MAX_AGE_NS, MIN_AGE_NS};
use crate::pressure::{self, Pressure, Watch};
use crate::scan::{DEF_PRIORITY, SWAP_CLUSTER_MAX};
use crate::shrink::{ScanControl, shrink_node};

/// Share of the time that a round may cost on average: one part in so many.
const COST_SHARE: u64 = 100;
/// Work that may be done at once after a quiet time, in nanoseconds.
const BURST_NS: u64 = 100_000_000;
/// The shortest time between rounds while there is work.
const TICK_NS: u64 = 20_000_000;
const SLOW_TICK_NS: u64 = 500_000_000;
/// A ring after a quiet time is seen no later than one part in so many of that.
const LATENESS: u64 = 4;
/// Without a ring for this long, and with nothing left, the thread goes home.
const LINGER_NS: u64 = 2_000_000_000;
/// What was purged and is wanted again has come when nobody rings any more, or after so long.
const SETTLE_NS: u64 = 1_000_000_000;
/// A round that comes so much later than it was to was kept from it with the whole process: a signal
/// stopped it, or a debugger.
const STOPPED_NS: u64 = 1_000_000_000;
/// Pages per step, between looks at the clock.
const STEP_PAGES: usize = 2048;
/// The priority at which reclaim for boosted marks ends: only what was idle for a quarter of the age
/// goes.
const BOOST_PRIORITY: u32 = DEF_PRIORITY - 2;
/// A generation is a time stamp in units of about 17 ms.
const GENERATION_SHIFT: u32 = 24;

/// What the thread does after a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Sleep so many nanoseconds, or until somebody hurries it.
    Sleep(u64),
    /// Nothing is left to do: end.
    Retire,
}

/// The state of the reclaimer between rounds.
#[derive(Debug)]
pub struct Kswapd {
    ageing: Ageing,
    credit_ns: u64,
    last_ns: u64,
    /// The clock of ages, which stands still while the process is asleep or stopped: of the ageing, and of
    /// what is compared with an age.
    awake_ns: u64,
    /// What has passed of the generation.
    passed_ns: u64,
    /// Since when nobody rang, by the clock of ages.
    quiet_since: u64,
    faults_seen: u64,
    /// Time that counts for nobody's age, in all and since the last round.
    asleep_ns: u64,
    slept_ns: u64,
    /// How long it wanted to sleep.
    asked_ns: u64,
    pressure: Pressure,
    config: KswapdConfig,
    /// The last round for a watermark gained something.
    gains: bool,
    /// Free resident pages that it left.
    garbage_left: usize,
}

/// What a reclaimer may do.
#[derive(Clone, Copy, Debug)]
pub struct KswapdConfig {
    /// From so many charged pages on, open the files that tell what the control group and the nodes
    /// have left.
    pub looks_from: usize,
    /// Give memory back because it is cold, without need.
    pub purges_cold: bool,
}

impl Default for KswapdConfig {
    fn default() -> KswapdConfig {
        KswapdConfig { looks_from: 0, purges_cold: true }
    }
}

/// The time that a round takes: of the processor on the thread that does nothing else, by the clock
/// in a caller, where that needs no call of the system.
struct Work {
    in_caller: bool,
    since: u64,
}

impl Work {
    fn begin(mm: &Mm, own: Option<NonNull<Heap>>) -> Work {
        let work = Work { in_caller: own.is_some(), since: 0 };
        Work { since: work.now_ns(mm), ..work }
    }

    fn now_ns(&self, mm: &Mm) -> u64 {
        let machine = mm.machine();
        if self.in_caller { machine.now_ns() } else { machine.thread_time_ns() }
    }

    fn spent_ns(&self, mm: &Mm) -> u64 {
        self.now_ns(mm).saturating_sub(self.since)
    }
}

/// So much time in generations, whose clock wraps after two years.
fn generations(ns: u64) -> u32 {
    (ns >> GENERATION_SHIFT) as u32
}

impl Kswapd {
    /// Lets the clock of chunks and slabs go on from where it stands: what was used while nobody was
    /// on duty is young. The process was asleep for `asleep_ns` so far: see [`Kswapd::note_sleep`].
    pub fn new(mm: &Mm, config: KswapdConfig, asleep_ns: u64) -> Kswapd {
        let now = mm.machine().now_ns();
        Kswapd {
            ageing: Ageing::new(now),
            credit_ns: BURST_NS,
            last_ns: now,
            awake_ns: now,
            passed_ns: 0,
            quiet_since: now,
            faults_seen: faults(mm),
            asleep_ns,
            slept_ns: 0,
            asked_ns: 0,
            pressure: Pressure::new(config.looks_from),
            config,
            gains: false,
            garbage_left: 0,
        }
    }

    /// Comes on duty again, after a time that counts for nobody's age. What was learnt about it stays, and
    /// what was saved. Who comes back for what was purged before would have needed an age beyond the time
    /// off duty, so that counts as far as an age can go; more of it would only make forget.
    pub fn resume(&mut self, mm: &Mm, config: KswapdConfig, asleep_ns: u64) {
        let Kswapd { ageing, faults_seen, .. } = self;
        let fresh = Kswapd::new(mm, config, asleep_ns);
        let off_duty = fresh.last_ns.saturating_sub(self.last_ns);
        let awake_ns = self.awake_ns + off_duty.min(MAX_AGE_NS);
        *self = Kswapd {
            ageing: ageing.clone(),
            faults_seen: *faults_seen,
            credit_ns: (self.credit_ns + off_duty / COST_SHARE).min(BURST_NS),
            awake_ns,
            quiet_since: awake_ns,
            ..fresh
        };
    }

    /// Tells for how long the process was asleep so far, where its callers do the rounds: memory does
    /// not age meanwhile. It would go back at the very moment when the program comes for it.
    pub fn note_sleep(&mut self, asleep_ns: u64) {
        self.slept_ns += asleep_ns.saturating_sub(self.asleep_ns);
        self.asleep_ns = asleep_ns;
    }

    /// One round. `own` is the heap of the calling thread, if it has one.
    pub fn round(&mut self, mm: &'static Mm, own: Option<NonNull<Heap>>) -> Next {
        let now = mm.machine().now_ns();
        let was_rung = mm.doorbell().answer();
        let work = Work::begin(mm, own);
        let passed = now.saturating_sub(self.last_ns);
        self.last_ns = now;
        // On a thread of its own nobody tells; but so late is only who was stopped.
        let late = passed.saturating_sub(self.asked_ns);
        if own.is_none() && late >= STOPPED_NS {
            self.slept_ns += late;
        }
        self.awake_ns += passed.saturating_sub(self.slept_ns);
        if was_rung {
            self.quiet_since = self.awake_ns;
        }
        mm.pages().note_asleep(self.slept_ns);
        self.credit_ns = (self.credit_ns + passed / COST_SHARE).min(BURST_NS);
        // What was used during a long sleep may have been used just now: it is young.
        let busy_ns = self.busy_tick_ns();
        let was_blind = was_rung && own.is_none() && self.asked_ns > busy_ns;
        let aged = if was_blind { passed.min(busy_ns) } else { passed };
        self.tick(mm, aged.saturating_sub(self.slept_ns));
        // Before anything is purged at an age that turns out to be a mistake.
        let faults = faults(mm);
        let refaults =
            self.ageing.note_faults(faults.saturating_sub(self.faults_seen), self.awake_ns);
        mm.vmstat().note_refaults(refaults);
        self.faults_seen = faults;

        self.pressure.refresh(mm, now);
        // What is gained for a watermark costs no credit: requests would have to do it themselves.
        let is_short = is_short(mm);
        let may_work = self.credit_ns > 0 || self.gains;
        self.gains = is_short && may_work && self.balance(mm, own) > 0;
        if mm.pages().is_boosted() && may_work {
            self.reclaim_boost(mm, is_short);
        }
        let may_purge = self.config.purges_cold && self.credit_ns > 0;
        let purged = if may_purge { self.purge_cold(mm, own, &work) } else { 0 };
        // Nobody rang since then, or the age has not passed.
        let used_at = self.quiet_since.min(self.awake_ns.saturating_sub(self.ageing.age_ns()));
        self.ageing.note_purged(purged as u64, used_at);
        self.slept_ns = 0;
        let awake = self.awake_ns;
        let is_settled = |at: u64| !was_rung || awake.saturating_sub(at) >= SETTLE_NS;
        if may_purge && let Some(at) = self.ageing.regretted_at(awake).filter(|&at| is_settled(at))
        {
            self.regain_huge_pages(mm, own, at, &work);
        }

        if !self.gains {
            self.credit_ns = self.credit_ns.saturating_sub(work.spent_ns(mm));
        }
        let next = self.next(mm, purged > 0 || mm.pages().has_wishes());
        self.asked_ns = if let Next::Sleep(ns) = next { ns } else { 0 };
        next
    }

    /// Moves the clock of chunks and slabs on.
    fn tick(&mut self, mm: &Mm, ns: u64) {
        let passed = self.passed_ns + ns;
        self.passed_ns = passed & ((1 << GENERATION_SHIFT) - 1);
        let pages = mm.pages();
        pages.set_generation(pages.generation().wrapping_add(generations(passed)));
    }

    fn next(&self, mm: &Mm, is_busy: bool) -> Next {
        let slowest = match self.pressure.watch() {
            Watch::No => SLOW_TICK_NS,
            Watch::Loose => 2 * pressure::INTERVAL_NS,
            Watch::Close => pressure::INTERVAL_NS,
        };
        let idle = self.awake_ns.saturating_sub(self.quiet_since);
        if is_busy || self.gains || idle < self.ageing.age_ns() + 2 * TICK_NS {
            Next::Sleep(self.busy_tick_ns().min(slowest))
        } else if idle < LINGER_NS || self.may_take_more(mm) {
            // Who comes back late may as well be seen late.
            Next::Sleep(TICK_NS.max(idle / LATENESS).min(slowest))
        } else {
            Next::Retire
        }
    }

    /// Whether another round may take what this one left, though nobody rings: not if all has been
    /// cold for a while, since then it cannot be taken at all.
    fn may_take_more(&self, mm: &Mm) -> bool {
        let was_tried = self.config.purges_cold && self.credit_ns > 0;
        !was_tried && mm.pages().nr_free_resident() > 0
    }

    /// Below a low watermark: reclaims up to the high one, cold or not, unless nothing was gained for
    /// too long. What it gained.
    fn balance(&mut self, mm: &'static Mm, own: Option<NonNull<Heap>>) -> usize {
        let pages = mm.pages();
        if mm.doorbell().is_hopeless() && !self.is_due_again(pages.nr_free_resident()) {
            return 0;
        }
        mm.vmstat().note_pageoutrun();
        probe::mm_watermark_low(pages.shortfall());
        mm.drain_all_until(own, Patience::PassBy, None);
        let mut gained = 0;
        for node in nodes(mm) {
            let goal = pages.shortfall().max(pages.node_shortfall(node));
            gained += shrink_node(mm, node, ScanControl::new(Reclaimer::Kswapd, goal, self.age()));
        }
        if is_short(mm) {
            gained += mm.drain_huge() / PAGE_SIZE;
        }
        let left = nodes(mm).map(|node| pages.node_shortfall(node)).max().unwrap_or(0);
        let left = left.max(pages.shortfall());
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
        gained
    }

    /// Marks that fragmentation raised: reclaims up to them what is nearly cold, and takes off by how
    /// much they were raised whatever that gave. Where the marks themselves were not met, that had its
    /// own reclaim, or none would help. After `balance_pgdat`.
    fn reclaim_boost(&self, mm: &Mm, was_short: bool) {
        let pages = mm.pages();
        let goal = |node| if was_short { 0 } else { pages.boosted_shortfall(node) };
        if nodes(mm).any(|node| goal(node) > 0) {
            mm.vmstat().note_pageoutrun_boost();
        }
        let of_process = pages.boost(None);
        for node in nodes(mm) {
            let of_node = pages.boost(Some(node));
            let goal = goal(node);
            if goal > 0 {
                let control = ScanControl::new(Reclaimer::Kswapd, goal, self.age());
                shrink_node(mm, node, ScanControl { last: BOOST_PRIORITY, ..control });
            }
            pages.unboost(Some(node), of_node);
        }
        pages.unboost(None, of_process);
    }

    /// After too many failures: whether there is more to reclaim than the last one left.
    fn is_due_again(&self, nr_free_resident: usize) -> bool {
        nr_free_resident > self.garbage_left + SWAP_CLUSTER_MAX
    }

    /// What was purged was wanted again: sections of huge pages that were holed for it before `at`
    /// are so no more, and what is in them gets huge pages, as far as the credit goes.
    fn regain_huge_pages(&self, mm: &Mm, own: Option<NonNull<Heap>>, at: u64, work: &Work) {
        let since = generations(self.awake_ns.saturating_sub(at));
        let before = mm.pages().generation().wrapping_sub(since);
        for node in nodes(mm) {
            mm.pages().unhole(node, before);
        }
        // Whether huge pages are allowed stands in a file, and to make one takes long.
        if own.is_some() || mm.machine().is_confined_since_start() {
            return;
        }
        for node in nodes(mm) {
            while work.spent_ns(mm) < self.credit_ns && mm.pages().collapse(node) {}
        }
    }

    /// Time between rounds while there is work: what is not yet cold need not be looked at often.
    fn busy_tick_ns(&self) -> u64 {
        TICK_NS.max(self.ageing.age_ns() / 8)
    }

    fn age(&self) -> u32 {
        generations(self.ageing.age_ns())
    }

    /// Purges what nobody touched for the age, a step at a time while the credit lasts. Returns
    /// the pages.
    fn purge_cold(&self, mm: &'static Mm, own: Option<NonNull<Heap>>, work: &Work) -> usize {
        let up_to = Some(mm.pages().generation().wrapping_sub(self.age().max(1)));
        let out_of_credit = |mm: &Mm| work.spent_ns(mm) >= self.credit_ns;
        let mut purged = 0;
        // Caches of idle threads first: their pages reach the zones and age there.
        let how = PurgeHow { up_to, sparing: true, by: Reclaimer::Kswapd, ..PurgeHow::ALL };
        mm.pages().begin_wishes();
        // Where what was purged was wanted again, they are left alone for longer, too.
        let idle_for = self.age() - generations(MIN_AGE_NS);
        purged += mm.sweep(own, Sweep { how, idle_for, max_pages: STEP_PAGES });
        for node in nodes(mm) {
            loop {
                let step = mm.pages().purge(node, STEP_PAGES, how);
                purged += step;
                if step < STEP_PAGES || out_of_credit(mm) {
                    break;
                }
            }
        }
        purged + mm.age_huge(self.ageing.age_ns()) / PAGE_SIZE
    }
}

fn nodes(mm: &Mm) -> impl Iterator<Item = NodeId> {
    mm.pages().online().iter()
}

/// Whether a low watermark is not met.
fn is_short(mm: &Mm) -> bool {
    let pages = mm.pages();
    pages.shortfall() > 0 || nodes(mm).any(|node| pages.node_shortfall(node) > 0)
}

fn faults(mm: &Mm) -> u64 {
    nodes(mm).filter_map(|node| mm.pages().zone_stats(node)).map(|zone| zone.events.pgfault).sum()
}
