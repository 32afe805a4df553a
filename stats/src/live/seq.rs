//! The sequence lock of a live page, apart from what it guards: the protocol stands in [`super`].

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU64, fault, fence};

/// The publisher's side of the sequence lock.
#[derive(Debug)]
pub struct SeqWrite<'a> {
    seq: &'a AtomicU64,
    at: u64,
}

impl<'a> SeqWrite<'a> {
    /// From here on readers do not trust what they read.
    pub fn begin(seq: &'a AtomicU64) -> SeqWrite<'a> {
        // A publisher that died in a forked parent's copy may have left it odd.
        let at = seq.load(Relaxed) | 1;
        seq.store(at, Relaxed);
        if !fault("seq_no_write_fence") {
            // ORDERING: Release, pairs with the Acquire fence in `SeqRead::is_whole`: who sees one
            // of the words stored below sees the odd number.
            fence(Release);
        }
        SeqWrite { seq, at }
    }

    /// Stores words.
    pub fn store(&self, to: &[AtomicU64], from: &[u64]) {
        for (to, from) in to.iter().zip(from) {
            to.store(*from, Relaxed);
        }
    }

    /// Ends the publication: the words are whole.
    pub fn end(self) {
        let order = if fault("seq_end_relaxed") { Relaxed } else { Release };
        // ORDERING: Release, pairs with Acquire in `SeqRead::begin`: the words are stored.
        self.seq.store(self.at + 1, order);
    }
}

/// A reader's side of the sequence lock.
#[derive(Debug)]
pub struct SeqRead<'a> {
    seq: &'a AtomicU64,
    at: u64,
}

impl<'a> SeqRead<'a> {
    /// Begins a try; none while the publisher is at it.
    pub fn begin(seq: &'a AtomicU64) -> Option<SeqRead<'a>> {
        // ORDERING: Acquire, pairs with Release in `SeqWrite::end`.
        let at = seq.load(Acquire);
        at.is_multiple_of(2).then_some(SeqRead { seq, at })
    }

    /// Loads words.
    pub fn load(&self, from: &[AtomicU64], to: &mut [u64]) {
        for (from, to) in from.iter().zip(to) {
            *to = from.load(Relaxed);
        }
    }

    /// Whether all that was loaded belongs to one publication.
    pub fn is_whole(self) -> bool {
        if !fault("seq_no_read_fence") {
            // ORDERING: Acquire, pairs with the Release fence in `SeqWrite::begin`.
            fence(Acquire);
        }
        self.seq.load(Relaxed) == self.at
    }
}
