//! What kswapd knows of a heap: how it tells an owner that works from one that sleeps.
//!
//! | the heap is | as long as                             | a sweep ([`crate::visit`])                            |
//! |-------------|----------------------------------------|-------------------------------------------------------|
//! | at work     | `epoch` is not `seen`                  | notes that; what its owner may want stays             |
//! | still       | it is, since `seen_at`                 | after the age: closes the bins, drains what else it   |
//! |             |                                        | keeps                                                 |
//! | closed      | `closed` is `epoch`, since `closed_at` | after as long again: empties the bins, unless a hit   |
//! |             |                                        | opened them, which leaves them to the owner           |
//! | drained     | `drained` is `epoch`                   | passes it by, unless objects were sent back to it     |
//!
//! Each leads to the next. A use of the heap leads back to the first from any of them by one store, since it makes
//! `epoch` another one: what the other words say is then of the past. A heap whose bins cannot be closed is drained
//! without them.

use super::Heap;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};

/// kswapd's words, and the one that it watches. Relaxed everywhere: they carry nothing but themselves. kswapd
/// only compares for change, and what it misses now it sees next time.
///
/// | word        | written by                          | says                                               |
/// |-------------|-------------------------------------|----------------------------------------------------|
/// | `epoch`     | owner, at each slow path; of a heap | another value: something happened to the heap      |
/// |             | in the pool who has it from there,  |                                                    |
/// |             | or is at work there under its lock  |                                                    |
/// | `seen`      | kswapd, as it looks                 | `epoch` then                                       |
/// | `seen_at`   | kswapd, as it finds another `epoch` | the generation of that                             |
/// | `closed`    | kswapd, as it closes the bins       | `epoch` then; another one once they are empty      |
/// | `closed_at` | kswapd, as it closes the bins       | the generation of that                             |
/// | `drained`   | kswapd, or who drains the dead,     | `epoch` then: there is no more to do until another |
/// |             | inside the gate                     |                                                    |
/// | `is_cut`    | kswapd, as it ends a look for holes | it ended since the owner wanted in                 |
#[derive(Debug)]
pub(crate) struct Watch {
    epoch: AtomicU32,
    pub(crate) seen: AtomicU32,
    pub(crate) seen_at: AtomicU32,
    pub(crate) closed: AtomicU32,
    pub(crate) closed_at: AtomicU32,
    pub(crate) drained: AtomicU32,
    pub(crate) is_cut: AtomicBool,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch {
            epoch: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            seen_at: AtomicU32::new(0),
            closed: AtomicU32::new(0),
            closed_at: AtomicU32::new(0),
            drained: AtomicU32::new(0),
            is_cut: AtomicBool::new(false),
        }
    }
}

impl Heap {
    /// Something happens to the heap. For its owner, who has it from the pool, or who holds the pool's lock.
    #[inline]
    pub(crate) fn note_use(&self) {
        // One writer at a time, so this needs no read-modify-write.
        self.watch.epoch.store(self.epoch().wrapping_add(1), Relaxed);
    }

    /// Counts what happens to the heap.
    pub(crate) fn epoch(&self) -> u32 {
        self.watch.epoch.load(Relaxed)
    }

    /// Whether nothing happened since it was drained: neither its owner did anything, nor has
    /// anybody sent objects back.
    pub(crate) fn is_drained(&self) -> bool {
        self.epoch() == self.watch.drained.load(Relaxed) && self.inbox.is_empty()
    }
}
