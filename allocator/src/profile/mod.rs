//! The heap profile: which stacks the live bytes, and all bytes ever, came from.
//!
//! ```text
//!   malloc --size--> Countdown (in the heap, its owner's alone)
//!                       | a point of the Poisson process lies in this object
//!                       v
//!                    Stacks: hash of the frames -> allocated, freed     (read by a dump)
//!                       ^
//!                    Live:   address -> stack, size, weight
//!                       ^ found: not live any more
//!   free ----address--> Filter: one byte a page; 0 for nearly all
//! ```
//!
//! Every byte allocated is a sampling point with the same small chance, so an object is sampled with
//! a probability that grows with its size. What a sampled object stands for is put right when it is
//! taken ([`Weight`]): the sums of the tables are unbiased whatever the sizes were, and readers
//! scale nothing.
//!
//! All tables have a fixed size, in one mapping that is made with the first use. What does not fit
//! is counted: a stack too many goes to the entry of lost stacks, an object too many counts as freed
//! at once. They are lock-free, as a dump runs in signal handlers and a fork copies them at any
//! moment.

mod countdown;
pub(crate) mod live;
pub(crate) mod stacks;

use core::ptr;

use zonal_numa::{Errno, Machine};

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

pub use countdown::{Countdown, Weight};
pub use stacks::{MAX_DEPTH, StackFigures};

use live::{Filter, Live, Object};
use stacks::Stacks;

/// Live objects that can be known at a time: at the usual rate those of a heap of 32 GiB.
const NR_LIVE: usize = 1 << 16;
/// Pages that the filter tells apart.
const NR_FILTER: usize = 1 << 16;
/// Different stacks.
const NR_STACKS: usize = 1 << 14;
/// Frames of all stacks together.
const NR_FRAMES: usize = 1 << 18;

/// The tables of one process.
#[derive(Debug)]
pub struct Profile {
    live: Live,
    filter: Filter<NR_FILTER>,
    stacks: Stacks,
    /// Mean bytes between two sampling points.
    period: AtomicU64,
    /// Sampled objects that found no place in `live`.
    nr_lost: AtomicU64,
}

impl Profile {
    /// Empty tables, in memory of their own, for ever.
    ///
    /// # Errors
    /// What the system answered when it gave no memory.
    pub fn new(machine: &Machine, period: u64) -> Result<&'static Profile, Errno> {
        let mut size = 0;
        let own = place::<Profile>(&mut size, 1);
        let live = place::<live::Slot>(&mut size, NR_LIVE);
        let stacks = place::<stacks::Entry>(&mut size, NR_STACKS);
        let frames = place::<stacks::Frame>(&mut size, NR_FRAMES);
        let filter = place::<live::Pages>(&mut size, NR_FILTER);
        let base = machine.map(size, zonal_numa::PAGE_SIZE)?.addr();
        let at: *mut Profile = ptr::with_exposed_provenance_mut(base + own);
        // SAFETY: a fresh mapping, kept for ever, with room for each table at its place; atomic
        // words and `Object`s may start as zeros.
        unsafe {
            at.write(Profile {
                live: Live::new(table(base + live, NR_LIVE)),
                filter: Filter::new(&*ptr::with_exposed_provenance(base + filter)),
                stacks: Stacks::new(
                    table(base + stacks, NR_STACKS),
                    table(base + frames, NR_FRAMES),
                ),
                period: AtomicU64::new(period),
                nr_lost: AtomicU64::new(0),
            });
            Ok(&*at)
        }
    }

    /// Mean bytes between two sampling points.
    pub fn period(&self) -> u64 {
        self.period.load(Relaxed)
    }

    /// Forgets everything, for a new profile. Frees between two profiles are not seen, so what was
    /// alive is not known any more. Threads that still sample may leave a little behind.
    pub fn restart(&self, period: u64) {
        self.live.clear();
        self.filter.clear();
        self.stacks.clear();
        self.nr_lost.store(0, Relaxed);
        self.period.store(period, Relaxed);
    }

    /// Notes that the object of `size` bytes at `addr` was sampled, allocated by `frames` (the
    /// innermost first). To be called before the program learns of the object.
    pub fn sampled(&self, addr: usize, size: usize, weight: Weight, frames: &[usize]) {
        let stack = self.stacks.find_or_insert(frames);
        let bytes = weight.bytes(size);
        self.stacks.allocated(stack, weight, bytes);
        if self.live.insert(Object { addr, size, stack, weight }) {
            self.filter.add(addr);
        } else {
            // Relaxed: statistic only.
            self.nr_lost.fetch_add(1, Relaxed);
            self.stacks.freed(stack, weight, bytes);
        }
    }

    /// Whether the object at `addr` may have been sampled: no is certain.
    #[inline(always)]
    pub fn may_be_sampled(&self, addr: usize) -> bool {
        self.filter.has(addr)
    }

    /// Notes that the program gave the object at `addr` up. To be called before anybody else can
    /// get its address.
    #[cold]
    pub fn gone(&self, addr: usize) {
        if let Some(object) = self.live.remove(addr) {
            self.filter.remove(addr);
            self.stacks.freed(object.stack, object.weight, object.weight.bytes(object.size));
        }
    }

    /// Calls `each` with every stack and its frames. A stack without frames stands for those that
    /// found no place.
    pub fn each_stack(&self, each: impl FnMut(&StackFigures, &[usize])) {
        self.stacks.each(each);
    }

    /// Sampled objects that count as freed because the table of live ones was full.
    pub fn nr_lost(&self) -> u64 {
        self.nr_lost.load(Relaxed)
    }
}

/// Where the next table lies; grows `size` by it.
fn place<T>(size: &mut usize, len: usize) -> usize {
    let at = size.next_multiple_of(align_of::<T>());
    *size = at + len * size_of::<T>();
    at
}

/// # Safety
/// `len` zeroed values lie there for ever, and zeros are a value of `T`.
unsafe fn table<T>(addr: usize, len: usize) -> &'static [T] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(addr), len) }
}

#[cfg(test)]
mod tests;
