//! Models of the lock-free protocols, run under loom through every order of their steps.
//!
//! | model      | protocol                                             | seeded faults               |
//! |------------|------------------------------------------------------|-----------------------------|
//! | `lock`     | futex mutex: exclusion, no lost wake                 | `lock_*`                    |
//! | `gate`     | owner against visitors                               | `gate_*`                    |
//! | `mark`     | hits against a visitor that closes the bins          | `mark_*`, `gate_*`          |
//! | `runs`     | hits of large blocks against a visitor               | `runs_*`, `gate_*`          |
//! | `inbox`    | posters and who takes; an owner that is kept out     | `inbox_*`                   |
//! | `barn`     | what threads leave for each other and take           | `barn_*`                    |
//! | `registry` | publication and look-up; dead heaps change hands     | `registry_*`                |
//! | `deferred` | the stack, and the arena that rewinds                | `deferred_*`                |
//! | `pagemap`  | placement, coverage and look-up; who frees a block   | `pagemap_*`                 |
//! | `live`     | publisher and reader of the live page                | `seq_*`                     |
//! | `section`  | publication of sections                              | `section_*`                 |
//! | `charge`   | limits, charged from several threads                 | `charge_*`                  |
//! | `kept`     | room for kept runs, reserved from several threads    | `kept_*`                    |
//! | `doorbell` | ringers, and a kswapd that comes, sleeps and goes    | `doorbell_*`                |
//! | `profile`  | slots of sampled objects; stacks against a dump      | `live_*`, `stacks_*`        |
//! | `fence`    | users, frees and onlookers of fenced objects         | `fence_*`                   |
//! | `lookout`  | one of several looks; what leaves is counted         | `lookout_*`                 |
//! | `life`     | threads register, end and inherit beside visitors    | those of the above          |
//!
//! What stands behind the gate (page cache, slabs, outbox) needs no model of its own: its owner and
//! whoever drains it are the two sides of `gate` and `life`.
//!
//! Not here: bins against signal handlers of the same thread. loom knows no signals, and the
//! processor reorders nothing for a handler on its own thread; only the compiler could. A call marks
//! the heap by one instruction of assembly that the compiler moves nothing across, so a handler sees either
//! all of the bins, with no call begun, or a marked heap. (What it does to the mark is in `mark`: a call in
//! the middle of another one.) `tests/c/storm.c` and
//! `tests/c/jumps.c` interrupt real threads everywhere, some hundred thousand times.
//!
//! Nor the membarrier: loom sees a fence on both sides of the gate, and what it means for marks as a lock.
//! That the call is as strong as that is the kernel's promise (see [`crate::gate`]); `tests/c/fork.c` and
//! `handoff.c` rely on it with real threads.
//!
//! A model that never came into the situation it is about proves nothing, and neither does one that
//! no fault can break. So each counts the situations it claims to cover and fails if one was never
//! [`reached`], and `tests/loom.sh` seeds each of its faults (see [`crate::fault`]) and expects it
//! to fail. Two preemptions an execution unless `LOOM_MAX_PREEMPTIONS` says otherwise.
//!
//! [`mutex`] and [`futex`] are the two primitives that loom has to see through.

pub(crate) mod futex;
pub(crate) mod mutex;

#[cfg(test)]
mod barn;
#[cfg(test)]
mod charge;
#[cfg(test)]
mod deferred;
#[cfg(test)]
mod doorbell;
#[cfg(test)]
mod fence;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod inbox;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod life;
#[cfg(test)]
mod live;
#[cfg(test)]
mod lock;
#[cfg(test)]
mod lookout;
#[cfg(test)]
mod mark;
#[cfg(test)]
mod pagemap;
#[cfg(test)]
mod profile;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod section;

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// loom runs all threads of a model on the thread of its test, and sees nothing of this.
    static REACHED: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts that the model came into this situation.
pub(crate) fn reached(situation: &'static str) {
    REACHED.with_borrow_mut(|all| *all.entry(situation).or_default() += 1);
}

/// Runs `body` in every order of its steps, and checks that it came into all `situations`.
#[cfg(test)]
fn check(name: &str, situations: &[&'static str], body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    let start = std::time::Instant::now();
    builder.check(move || {
        reached("executions");
        body();
    });
    let all = REACHED.take();
    let count = |situation: &str| all.get(situation).copied().unwrap_or(0);
    let counts: Vec<_> = situations.iter().map(|s| format!("{s}={}", count(s))).collect();
    let executions = count("executions");
    let seconds = start.elapsed().as_secs_f64();
    println!("model {name} {executions} {seconds:.2} {}", counts.join(" "));
    if std::env::var_os("ZONAL_FAULT").is_none() {
        let missed: Vec<_> = situations.iter().filter(|s| count(s) == 0).collect();
        assert!(missed.is_empty(), "{name} never reached {missed:?}");
    }
}
