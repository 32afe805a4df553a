//! Counts of calls, and which of them fail.

use core::fmt;
use std::collections::HashMap;
use std::sync::Arc;

use super::Call;
use crate::Errno;

#[derive(Debug, Default)]
pub(super) struct Plan {
    calls: HashMap<Call, u64>,
    failures: Vec<Failure>,
    /// How long calls take.
    times_ns: HashMap<Call, u64>,
    holds: HashMap<Call, Hold>,
    hooks: HashMap<Call, Hook>,
}

/// What happens meanwhile, while a call is under way.
#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What becomes of a call that is not to come back yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is the next call of its kind.
    Next,
    /// It was made, and waits.
    Made,
}

#[derive(Debug)]
struct Failure {
    call: Call,
    /// Of all calls of this kind, from which one on.
    first: u64,
    /// How many calls fail; none for all from there on.
    times: Option<u64>,
    errno: Errno,
}

impl Plan {
    pub(super) fn fail(&mut self, call: Call, nth: u64, times: Option<u64>, errno: Errno) {
        let first = self.calls(call) + nth.max(1);
        self.failures.push(Failure { call, first, times, errno });
    }

    pub(super) fn slow(&mut self, call: Call, ns: u64) {
        self.times_ns.insert(call, ns);
    }

    pub(super) fn ns(&self, call: Call) -> u64 {
        self.times_ns.get(&call).copied().unwrap_or(0)
    }

    pub(super) fn set_hook(&mut self, call: Call, hook: Option<Hook>) {
        match hook {
            Some(hook) => self.hooks.insert(call, hook),
            None => self.hooks.remove(&call),
        };
    }

    pub(super) fn hook(&self, call: Call) -> Option<Hook> {
        self.hooks.get(&call).cloned()
    }

    pub(super) fn hold(&mut self, call: Call) {
        self.holds.insert(call, Hold::Next);
    }

    pub(super) fn let_go(&mut self, call: Call) {
        self.holds.remove(&call);
    }

    /// Whether this call is the one that is to be held.
    pub(super) fn begin_hold(&mut self, call: Call) -> bool {
        let hold = self.holds.get_mut(&call);
        hold.is_some_and(|hold| core::mem::replace(hold, Hold::Made) == Hold::Next)
    }

    pub(super) fn is_holding(&self, call: Call) -> bool {
        self.holds.get(&call) == Some(&Hold::Made)
    }

    pub(super) fn clear(&mut self) {
        self.failures.clear();
    }

    pub(super) fn calls(&self, call: Call) -> u64 {
        self.calls.get(&call).copied().unwrap_or(0)
    }

    pub(super) fn before(&mut self, call: Call) -> Result<(), Errno> {
        let count = self.calls.entry(call).or_default();
        *count += 1;
        let now = *count;
        let due = self.failures.iter().find(|failure| {
            let end = failure.times.map_or(u64::MAX, |times| failure.first + times);
            failure.call == call && (failure.first..end).contains(&now)
        });
        due.map_or(Ok(()), |failure| Err(failure.errno))
    }
}
