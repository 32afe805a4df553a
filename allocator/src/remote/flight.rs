//! How much memory is in flight: freed by other threads and posted to its owners, who did not look since.
//!
//! An owner takes in what came for it when it runs. Where threads outnumber processors that takes tens of
//! milliseconds, in which all others take new memory. Once what is in flight is much beside what is charged,
//! the process is *crowded*, and whoever would make a new slab looks at what it has to send first:
//! [`crate::remote::reuse`].
//!
//! # Synchronisation
//!
//! | word        | writers             | readers                       | carries                  |
//! |-------------|---------------------|-------------------------------|--------------------------|
//! | `in_flight` | whoever is inside a | who is about to make a slab,  | nothing: a sum of shares |
//! |             | gate (adds), child  | or to post, while crowded;    |                          |
//! |             | of a fork (anew)    | kswapd; snapshots             |                          |
//!
//! Relaxed: a hint. Heaps count by themselves and add what they counted in batches, and whenever they are
//! drained, swept or looked at for a snapshot: all together it is wrong by a part of what may be in flight
//! anyhow, and it may be below zero. What is posted to a heap that a fork left torn does not count: such a
//! child counts anew what lies in the others, and is off by what these had counted by themselves.

use zonal_numa::PAGE_SIZE;

use crate::heap::{Heap, Inner};
use crate::mm::Mm;
use crate::sync::atomic::AtomicIsize;
use crate::sync::atomic::Ordering::Relaxed;

/// What may be in flight in any process, in bytes, and which part of what is charged.
const LEAST: usize = 8 << 20;
const PART: usize = 8;
/// What all heaps together count by themselves, in bytes, and the most that one does.
const ALL_COUNTED: usize = LEAST / 2;
const MOST_COUNTED: usize = 256 << 10;

/// What is in flight, in bytes.
#[derive(Debug)]
pub(crate) struct Flight(AtomicIsize);

impl Flight {
    pub(crate) fn new() -> Flight {
        Flight(AtomicIsize::new(0))
    }

    /// A forked child with heaps that nobody can use: so much lies in the others.
    pub(crate) fn reset(&self, bytes: usize) {
        self.0.store(bytes as isize, Relaxed);
    }

    fn add(&self, bytes: isize) {
        self.0.fetch_add(bytes, Relaxed);
    }

    /// How much it is, nearly.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }

    /// Whether it is much beside so many pages that are charged.
    fn is_much_beside(&self, charged: usize) -> bool {
        self.bytes() > LEAST + charged * PAGE_SIZE / PART
    }

    /// What was added and taken off in all.
    #[cfg(test)]
    pub(crate) fn sum(&self) -> isize {
        self.0.load(Relaxed)
    }
}

impl Inner {
    /// So many bytes were posted, or taken in: less than none.
    pub(crate) fn count_flight(&mut self, heap: &Heap, bytes: isize) {
        self.flight += bytes;
        let share = heap.mm().pages().share_of(ALL_COUNTED);
        if self.flight.unsigned_abs() >= share.min(MOST_COUNTED) {
            self.settle_flight(heap);
        }
    }

    /// Adds what this heap counted.
    pub(crate) fn settle_flight(&mut self, heap: &Heap) {
        if self.flight != 0 {
            heap.mm().flight().add(core::mem::replace(&mut self.flight, 0));
        }
    }
}

impl Mm {
    /// So many bytes were posted to `owner` by who is in no heap.
    pub(crate) fn count_posted(&self, owner: &Heap, bytes: isize) {
        if owner.takes_in() {
            self.flight().add(bytes);
        }
    }

    /// Whether what is in flight is much beside what is charged.
    pub fn is_crowded(&self) -> bool {
        self.flight().is_much_beside(self.pages().charged())
    }
}
