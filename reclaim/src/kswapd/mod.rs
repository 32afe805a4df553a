//! kswapd: one round of it, without the thread.
//!
//! A round looks at the pressure from outside and works for the watermarks if one is not met. Then
//! it drains the caches of threads that did nothing since the last one, purges holes in slabs
//! and free chunks that are cold, unmaps huge mappings kept for too long, and says how long to
//! sleep. It costs at most one hundredth of the time, with a burst credit; what gains memory below a
//! watermark does not count. When there is nothing left to do for a while it asks to be dismissed.
//!
//! `clock` tells the time as it passes for memory, `ageing` what is cold: it judges by what is wanted again,
//! which `shadow` counts, and `thrash` keeps what a program cannot afford to get anew. Both make a `lesson`, and
//! `crew` tells whether that of work counts or that of rest. `cost` bounds what rounds
//! take, `pace` says when the next one comes, `balance` works for watermarks, `regain` gives huge pages back.

mod pace;

use zonal_allocator::{Deadline, Mm, OwnHeap, PurgeHow, Reclaimer, Sweep};
use zonal_numa::PAGE_SIZE;

use crate::ageing::MIN_AGE_NS;
use crate::balance::{Balance, is_short, reclaim_boost};
use crate::clock::{Clock, generations};
use crate::cost::{Credit, Work};
use crate::crew::Crew;
use crate::lesson::{Lesson, Purged};
use crate::nodes;
use crate::pressure::Pressure;
use crate::regain::{Regret, collapse};
use crate::spare::Spared;

pub use self::pace::Next;

/// Pages per step, between looks at the clock.
const STEP_PAGES: usize = 2048;
/// Pages of one heap in a round, unless its owner comes: 200 MiB of holes take seven rounds.
const HEAP_PAGES: usize = 8192;

/// Turns that a round takes in each heap whose owner is at work: some milliseconds in all.
const TURNS: u32 = 16;
/// How long owners have their heaps in between, at least.
const PAUSE_NS: u64 = 200_000;
/// And how long that goes on, where many of them are.
const TURNS_NS: u64 = 10_000_000;

/// The state of the reclaimer between rounds.
#[derive(Debug)]
pub struct Kswapd {
    /// What counts while the program works,
    at_work: Lesson,
    /// and once the threads that did have ended and the others rest.
    at_rest: Lesson,
    crew: Crew,
    clock: Clock,
    credit: Credit,
    /// Since when nobody rang, by the clock of ages.
    quiet_since: u64,
    faults_seen: u64,
    /// Work until then has been counted, while something is owed.
    paid_until: Option<u64>,
    /// The last purge that was a mistake.
    regret: Option<Regret>,
    spared: Spared,
    pressure: Pressure,
    config: KswapdConfig,
    balance: Balance,
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

impl Kswapd {
    /// Lets the clock of chunks and slabs go on from where it stands: what was used while nobody was
    /// on duty is young. The process was asleep for `asleep_ns` so far: see [`Kswapd::note_sleep`].
    pub fn new(mm: &Mm, config: KswapdConfig, asleep_ns: u64) -> Kswapd {
        let now = mm.machine().now_ns();
        Kswapd {
            at_work: Lesson::new(now),
            at_rest: Lesson::new(now),
            crew: Crew::new(mm.pages().nr_threads(), now),
            clock: Clock::new(now, asleep_ns),
            credit: Credit::full(),
            quiet_since: now,
            faults_seen: faults(mm),
            paid_until: None,
            regret: None,
            spared: Spared::default(),
            pressure: Pressure::new(config.looks_from),
            config,
            balance: Balance::default(),
        }
    }

    /// Comes on duty again, after a time that counts for nobody's age. What was learnt about it stays, and
    /// what was saved.
    pub fn resume(&mut self, mm: &Mm, config: KswapdConfig, asleep_ns: u64) {
        let off_duty = self.clock.resume(mm.machine().now_ns(), asleep_ns);
        self.credit.earn(off_duty);
        self.quiet_since = self.clock.awake_ns();
        self.pressure = Pressure::new(config.looks_from);
        self.config = config;
        self.balance = Balance::default();
    }

    /// Tells for how long the process was asleep so far, where its callers do the rounds: memory does
    /// not age meanwhile.
    pub fn note_sleep(&mut self, asleep_ns: u64) {
        self.clock.note_sleep(asleep_ns);
    }

    /// The thread of the rounds begins to wait for the next one.
    pub fn begin_wait(&mut self, mm: &Mm) {
        self.clock.begin_wait(mm.machine().now_ns());
    }

    /// One round. `own` is the heap of the calling thread, if it has one.
    pub fn round(&mut self, mm: &'static Mm, own: Option<OwnHeap>) -> Next {
        let in_caller = own.is_some();
        let now = mm.machine().now_ns();
        let was_rung = mm.doorbell().answer();
        let work = Work::begin(mm, own);
        self.advance(mm, now, in_caller, was_rung);
        // Before anything is purged at an age that turns out to be a mistake.
        let has_paid = self.judge(mm, in_caller);
        if was_rung || has_paid {
            // What was kept until all was paid goes like what was freed just now.
            self.quiet_since = self.clock.awake_ns();
        }
        self.pressure.refresh(mm, now);

        // Until it has looked at all that is free, requests in need may wait for kswapd.
        if !in_caller {
            mm.doorbell().begin_round();
        }
        self.work_for_watermarks(mm, own);
        let age_ns = self.age_ns(mm);
        self.tell_age(mm);
        let may_purge = self.config.purges_cold && self.credit.is_left();
        let (purged, nr_spared) = if may_purge {
            (self.purge_cold(mm, own, &work), mm.pages().nr_spared())
        } else {
            Default::default()
        };
        if !in_caller {
            mm.doorbell().end_round();
        }

        self.note_purged(purged, age_ns, has_paid);
        self.spared.note(nr_spared, purged.nr_pages(), was_rung);
        if may_purge {
            self.regain(mm, in_caller, was_rung, &work);
        }
        // What others took too much is saved again first: there may be more, and this thread stays for it. To wait
        // for that costs no credit: on a slow machine it would take more than is earned meanwhile.
        let is_owing = self.config.purges_cold && !may_purge;
        if !is_owing && !self.balance.gains() {
            self.spend(work.spent_ns(mm), in_caller);
        }
        let would_hole = mm.pages().has_wishes() || (nr_spared > 0 && self.spared.is_rest());
        let next = self.next(mm, purged.nr_pages() > 0 || would_hole || is_owing);
        self.clock.ask(if let Next::Sleep(ns) = next { ns } else { 0 });
        next
    }

    /// Lets the clock go on to `now`: memory ages by the time that passed, and rounds may cost a share of it.
    fn advance(&mut self, mm: &Mm, now: u64, in_caller: bool, was_rung: bool) {
        let passed = self.clock.advance(mm, now, !in_caller);
        self.credit.earn(passed);
        // What was used during a long sleep may have been used just now: it is young.
        let busy_ns = self.busy_tick_ns();
        let was_blind = was_rung && !in_caller && self.clock.asked_ns() > busy_ns;
        self.clock.tick(mm, if was_blind { passed.min(busy_ns / 2) } else { passed });
    }

    /// What is gained for a watermark costs no credit: requests would have to do it themselves. So such a round does
    /// not wait either until what others took too much is saved again, unless many of them gained nothing.
    fn work_for_watermarks(&mut self, mm: &'static Mm, own: Option<OwnHeap>) {
        let is_short = is_short(mm);
        let may_work = self.credit.is_left() || self.balance.gains();
        if is_short && (may_work || !mm.doorbell().is_hopeless()) {
            self.balance.reclaim(mm, own, generations(self.age_ns(mm)));
        } else {
            self.balance.pass();
        }
        if mm.pages().is_boosted() && may_work {
            reclaim_boost(mm, generations(self.age_ns(mm)), is_short);
        }
    }

    /// Judges the age of cold memory by what was wanted again since the last round. Whether what had been
    /// wanted again before has been paid for since then.
    fn judge(&mut self, mm: &Mm, in_caller: bool) -> bool {
        let now = self.clock.awake_ns();
        let faults = faults(mm);
        let wanted = faults.saturating_sub(self.faults_seen);
        self.faults_seen = faults;
        self.crew.note(mm.pages().nr_threads(), wanted, now);
        let has_paid = self.pay(mm, in_caller);
        let charged = mm.pages().charged();
        let judged = self.at_work.judge(wanted, charged, now);
        self.at_rest.judge(wanted, charged, now);
        mm.vmstat().note_refaults(judged.refaults, judged.dear);
        if judged.is_regret {
            self.regret = Some(Regret { at_ns: now, generation: mm.pages().generation() });
        }
        has_paid && !self.lesson().is_owing()
    }

    /// What the program worked since the last round pays for what it wanted again. Where nobody can or
    /// should ask for that, to be awake counts for as much. Whether all is paid that counts now.
    fn pay(&mut self, mm: &Mm, in_caller: bool) -> bool {
        if !self.at_work.is_owing() && !self.at_rest.is_owing() {
            self.paid_until = None;
            return false;
        }
        let awake = self.clock.awake_ns();
        let is_silent = in_caller || mm.machine().is_confined_since_start();
        let process_time_ns = if is_silent { None } else { mm.machine().process_time_ns() };
        let until = process_time_ns.unwrap_or(awake);
        let since = self.paid_until.replace(until).unwrap_or(until);
        let worked_ns = until.saturating_sub(since);
        let [work, rest] =
            [&mut self.at_work, &mut self.at_rest].map(|lesson| lesson.pay(worked_ns, awake));
        if self.crew.is_over(awake) { rest } else { work }
    }

    /// What counts now of what was learnt.
    fn lesson(&self) -> &Lesson {
        if self.crew.is_over(self.clock.awake_ns()) { &self.at_rest } else { &self.at_work }
    }

    /// For the reports.
    fn tell_age(&self, mm: &Mm) {
        let lesson = self.lesson();
        let age_ns = lesson.usual_age_ns();
        let min_ttl_ns = if lesson.is_owing() { lesson.kept_age_ns() } else { 0 };
        mm.vmstat().note_age(age_ns, generations(age_ns), min_ttl_ns);
    }

    /// At which age free memory goes now.
    fn age_ns(&self, mm: &Mm) -> u64 {
        self.lesson().age_ns(mm.pages().charged())
    }

    /// Purges what nobody touched for the age, a step at a time while the credit lasts. Returns
    /// the pages.
    fn purge_cold(&self, mm: &'static Mm, own: Option<OwnHeap>, work: &Work) -> Purged {
        let age_ns = self.age_ns(mm);
        let age = generations(age_ns);
        let border = |age: u32| mm.pages().generation().wrapping_sub(age.max(1));
        let up_to = Some(border(age));
        // Once only what is kept is left, just what is cold by its longer age goes.
        let most = || match self.lesson().excess(mm.pages().charged()) {
            0 if age < generations(self.lesson().kept_age_ns()) => 0,
            0 => usize::MAX,
            excess => excess,
        };
        let mut purged = 0;
        // Caches of idle threads first: their pages reach the zones and age there.
        // The clock of callers stands still in pauses, so these spare nothing by it.
        let huge_age_ns = if own.is_some() { age_ns } else { self.spared.age_ns(age_ns) };
        let sparing = Some(border(generations(huge_age_ns)));
        // The program waits for a round by one of its callers.
        let turn_ns = if own.is_some() { 0 } else { PurgeHow::ALL.turn_ns };
        let how = PurgeHow { up_to, sparing, by: Reclaimer::Kswapd, turn_ns, ..PurgeHow::ALL };
        mm.pages().begin_wishes(self.spared.is_rest());
        // Where what was purged was wanted again, they are left alone for longer, too.
        let idle_for = age - generations(MIN_AGE_NS);
        let sweep = |max_pages| {
            let max_pages = most().min(max_pages);
            Sweep { how, idle_for, step_pages: HEAP_PAGES, max_pages }
        };
        // This thread takes a step in any case, as of each node below: where the look alone costs what was saved,
        // nothing would ever go.
        let least = if own.is_some() { 0 } else { STEP_PAGES };
        let swept = mm.sweep(own, sweep(self.credit.nr_pages(0).max(least)));
        let in_any_case = swept.nr_dead;
        purged += swept.nr_pages - in_any_case;
        // What a round takes that gains for a watermark is not counted. And where owners do not come to run, this
        // thread may lose its processor in any turn.
        let may_go_on = own.is_none() && !self.balance.gains() && !mm.is_crowded();
        if swept.is_cut && may_go_on {
            purged += self.sweep_on(mm, sweep, work);
        }
        for node in nodes(mm) {
            loop {
                let most = most().min(STEP_PAGES);
                let step = if most > 0 { mm.pages().purge(node, most, how) } else { 0 };
                purged += step;
                if step < most.max(1) || !self.credit.exceeds(work.spent_ns(mm)) {
                    break;
                }
            }
        }
        Purged { cold: purged + mm.age_huge(self.age_ns(mm)) / PAGE_SIZE, in_any_case }
    }

    /// Takes further turns in heaps whose owners are at work, and leaves them to these in between. Returns the
    /// pages.
    fn sweep_on(&self, mm: &'static Mm, sweep: impl Fn(usize) -> Sweep, work: &Work) -> usize {
        let hurries = mm.doorbell().hurries();
        let most_ns = self.credit.left_ns(work.spent_ns(mm)).min(TURNS_NS);
        let deadline = Deadline::at(mm.machine().now_ns() + most_ns);
        let mut purged = 0;
        for _ in 1..TURNS {
            // No thread has more time of a processor than passes by the clock.
            if deadline.has_passed(mm) {
                break;
            }
            mm.doorbell().sleep_unless_hurried(hurries, PAUSE_NS);
            // For a request in need the round shall end soon.
            if mm.doorbell().hurries() != hurries {
                break;
            }
            let sweep = sweep(self.credit.nr_pages(work.spent_ns(mm)));
            let how = PurgeHow { deadline, ..sweep.how };
            let swept = mm.sweep_on(Sweep { how, ..sweep });
            purged += swept.nr_pages;
            if !swept.is_cut {
                break;
            }
        }
        purged
    }

    /// Teaches what went in this round, which began at this age, and in which all was paid where `has_paid`.
    fn note_purged(&mut self, purged: Purged, age_ns: u64, has_paid: bool) {
        let awake = self.clock.awake_ns();
        // It was used last when somebody rang last, or the age ago, if that is longer: what was kept until now
        // went at the longer age.
        let kept_ns = if has_paid { self.lesson().kept_ns(age_ns, awake) } else { 0 };
        let used_at = self.quiet_since.min(awake.saturating_sub(age_ns.max(kept_ns)));
        self.at_work.note_purged(purged, used_at, awake);
        if self.crew.is_over(awake) {
            self.at_rest.note_purged(purged, used_at, awake);
        }
    }

    /// Mends what the last mistake did to huge pages, once it is time for that.
    fn regain(&self, mm: &Mm, in_caller: bool, was_rung: bool, work: &Work) {
        let awake = self.clock.awake_ns();
        if let Some(regret) = self.regret.filter(|it| it.is_due(awake, was_rung)) {
            regret.unhole(mm);
            if !in_caller {
                collapse(mm, || self.credit.exceeds(work.spent_ns(mm)));
            }
        }
    }

    /// The round took so long.
    fn spend(&mut self, spent_ns: u64, in_caller: bool) {
        // A caller may have lost its processor meanwhile: that is not owed.
        let most_ns = if in_caller { self.credit.left_ns(0) } else { u64::MAX };
        self.credit.spend(spent_ns.min(most_ns));
    }
}

fn faults(mm: &Mm) -> u64 {
    nodes(mm).filter_map(|node| mm.pages().zone_stats(node)).map(|zone| zone.events.pgfault).sum()
}
