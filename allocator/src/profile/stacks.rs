//! What each stack allocated.
//!
//! # Synchronisation
//!
//! | word     | writers               | readers        | carries                        |
//! |----------|-----------------------|----------------|--------------------------------|
//! | `hash`   | who claims the entry  | all            | nothing: it alone is the key   |
//! | `frames` | who claimed the entry | dumps          | Release: the frames            |
//! | figures  | all, by addition      | dumps          | nothing                        |
//!
//! Entries are never removed. Whoever finds the hash may count at once, though the frames are not
//! there yet: a dump that comes in between shows the entry without them.

use crate::fault::weakened_by;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU64, AtomicUsize};

use super::countdown::Weight;

/// The deepest stack that is kept: the frames nearest to the allocation.
pub const MAX_DEPTH: usize = 64;
const _: () = assert!(MAX_DEPTH < 1 << DEPTH_BITS);

const DEPTH_BITS: u32 = 8;
/// Entries in which a hash may stand.
const WINDOW: usize = if cfg!(zonal_loom) { 2 } else { 32 };
/// The entry of all stacks that found no place. Never claimed by a hash.
const LOST: u32 = 0;

/// An address in the program.
pub(crate) type Frame = AtomicUsize;

/// One stack and its figures; objects in 1/256, as [`Weight`] has them.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// That of its frames; 0 while the entry is free.
    hash: AtomicU64,
    /// Where the frames start, above [`DEPTH_BITS`] with their number. 0: not there (yet).
    frames: AtomicUsize,
    allocs: AtomicU64,
    alloc_bytes: AtomicU64,
    frees: AtomicU64,
    free_bytes: AtomicU64,
}

/// What a stack allocated, as the sampled objects stand for it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StackFigures {
    /// Objects alive.
    pub live: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Objects allocated so far.
    pub total: u64,
    /// Their bytes.
    pub total_bytes: u64,
}

/// Stacks by the hash of their frames. Two stacks of one hash would count as one: 64 bits make
/// that a matter of theory.
#[derive(Debug)]
pub(crate) struct Stacks {
    entries: &'static [Entry],
    arena: &'static [Frame],
    /// Frames handed out of the arena.
    used: AtomicUsize,
}

impl Stacks {
    /// Tables of a power of two of entries, and any number of frames.
    pub(crate) fn new(entries: &'static [Entry], arena: &'static [Frame]) -> Stacks {
        Stacks { entries, arena, used: AtomicUsize::new(0) }
    }

    /// The index of this stack.
    pub(crate) fn find_or_insert(&self, frames: &[usize]) -> u32 {
        let frames = frames.get(..MAX_DEPTH).unwrap_or(frames);
        let hash = hash(frames);
        for step in 0..WINDOW {
            let index = (hash as usize).wrapping_add(step) & (self.entries.len() - 1);
            if index == LOST as usize {
                continue;
            }
            let Some(entry) = self.entries.get(index) else { break };
            let found = match entry.hash.load(Relaxed) {
                0 => entry.hash.compare_exchange(0, hash, Relaxed, Relaxed),
                other => Err(other),
            };
            match found {
                Ok(_) => {
                    self.keep(entry, frames);
                    return index as u32;
                }
                Err(other) if other == hash => return index as u32,
                Err(_) => {}
            }
        }
        LOST
    }

    fn keep(&self, entry: &Entry, frames: &[usize]) {
        let start = self.used.fetch_add(frames.len(), Relaxed);
        let Some(place) = self.arena.get(start..start.saturating_add(frames.len())) else {
            // Full; and the count must not wrap.
            self.used.store(self.arena.len(), Relaxed);
            return;
        };
        for (to, from) in place.iter().zip(frames) {
            to.store(*from, Relaxed);
        }
        // ORDERING: Release, pairs with Acquire in `each`: the frames are there.
        let order = weakened_by("stacks_frames_relaxed", Release);
        entry.frames.store(start << DEPTH_BITS | frames.len(), order);
    }

    fn entry(&self, index: u32) -> Option<&'static Entry> {
        self.entries.get(index as usize)
    }

    pub(crate) fn allocated(&self, index: u32, weight: Weight, bytes: u64) {
        if let Some(entry) = self.entry(index) {
            entry.allocs.fetch_add(weight.objects(), Relaxed);
            entry.alloc_bytes.fetch_add(bytes, Relaxed);
        }
    }

    pub(crate) fn freed(&self, index: u32, weight: Weight, bytes: u64) {
        if let Some(entry) = self.entry(index) {
            entry.frees.fetch_add(weight.objects(), Relaxed);
            entry.free_bytes.fetch_add(bytes, Relaxed);
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        for entry in self.entries {
            // Most were never touched, and shall stay without memory.
            if entry.hash.load(Relaxed) == 0 && entry.allocs.load(Relaxed) == 0 {
                continue;
            }
            let figures = [&entry.allocs, &entry.alloc_bytes, &entry.frees, &entry.free_bytes];
            figures.iter().for_each(|figure| figure.store(0, Relaxed));
            entry.frames.store(0, Relaxed);
            entry.hash.store(0, Relaxed);
        }
        self.used.store(0, Relaxed);
    }

    pub(crate) fn each(&self, mut each: impl FnMut(&StackFigures, &[usize])) {
        let mut frames = [0; MAX_DEPTH];
        for entry in self.entries {
            // The frees first: what they take away was added before.
            let (frees, free_bytes) = (entry.frees.load(Relaxed), entry.free_bytes.load(Relaxed));
            let (allocs, bytes) = (entry.allocs.load(Relaxed), entry.alloc_bytes.load(Relaxed));
            if allocs == 0 {
                continue;
            }
            let figures = StackFigures {
                live: (allocs.saturating_sub(frees) + 128) >> 8,
                live_bytes: bytes.saturating_sub(free_bytes),
                total: (allocs + 128) >> 8,
                total_bytes: bytes,
            };
            // ORDERING: Acquire, pairs with Release in `keep`.
            let place = entry.frames.load(Acquire);
            let (start, depth) = (place >> DEPTH_BITS, place & ((1 << DEPTH_BITS) - 1));
            let kept = self.arena.get(start..start + depth).unwrap_or_default();
            for (to, from) in frames.iter_mut().zip(kept) {
                *to = from.load(Relaxed);
            }
            each(&figures, frames.get(..kept.len()).unwrap_or_default());
        }
    }
}

/// Not 0. Rotate, xor and multiply by word, and the finisher of splitmix64.
fn hash(frames: &[usize]) -> u64 {
    let mut hash: u64 = frames.len() as u64;
    for frame in frames {
        hash = (hash.rotate_left(5) ^ *frame as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (hash ^ hash >> 31) | 1
}
