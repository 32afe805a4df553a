//! All heaps, and the pool of those whose thread has ended.
//!
//! A heap is never unmapped and never changes its number, so that page words, messages and other
//! threads may name it at any time. A thread that ends puts its heap into the pool with all it
//! holds; the next thread on that node takes it over whole. The pool keeps few heaps whole, or threads
//! that ended would hold what others could use: beyond those, a heap is emptied first and taken last.
//! Its slabs are for all threads: [`crate::commons`].
//!
//! # Synchronisation
//!
//! | word       | writers                | readers       | carries                    |
//! |------------|------------------------|---------------|----------------------------|
//! | `shelf[i]` | `publish` under `pool` | any thread    | an initialised heap        |
//! | `len`      | `publish` under `pool` | any thread    | numbers in use             |
//!
//! Release on publication, Acquire on look-up. A heap changes hands under the `pool` lock. Visitors enter its
//! gate: one may be inside when the heap comes into the pool, others come there
//! ([`Registry::visit_dead`]). A thread gets only a heap without a visitor; whoever takes one for another
//! reason enters the gate first.

mod pool;
mod shelf;

use core::ptr::{self, NonNull};

use zonal_numa::{MAX_NODES, Machine};

use self::pool::Pool;
pub(crate) use self::pool::{DeadVisit, Remains};
use self::shelf::Shelf;
use crate::fault::weakened_by;
use crate::heap::{Heap, HeapId};
use crate::lock::{FutexLock, Mutex};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};

/// Heap numbers have 16 bits.
const MAX_HEAPS: usize = NR_SHELVES * SHELF;
/// The table of heaps comes a page at a time: most processes have few threads.
const SHELF: usize = if cfg!(zonal_loom) { 4 } else { 512 };
const NR_SHELVES: usize = if cfg!(zonal_loom) { 1 } else { 128 };
const _: () = assert!(cfg!(zonal_loom) || MAX_HEAPS == 1 << 16);
const NR_NODES: usize = if cfg!(zonal_loom) { 1 } else { MAX_NODES };

/// The heaps of an instance.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The table of heap pointers, index = number, cut into pieces that are null until used.
    shelves: [AtomicPtr<AtomicPtr<Heap>>; NR_SHELVES],
    len: AtomicUsize,
    /// By node: bit `index` is set while the commons may have slabs of that class. Relaxed: a hint.
    common_classes: [AtomicU64; NR_NODES],
    /// By node: there were commons, which may be out of the pool now. Relaxed.
    has_commons: [AtomicBool; NR_NODES],
    pool: Mutex<Pool>,
}

impl Registry {
    pub(crate) fn new() -> Registry {
        Registry {
            shelves: [(); NR_SHELVES].map(|()| AtomicPtr::new(ptr::null_mut())),
            len: AtomicUsize::new(1),
            pool: Mutex::new(Pool::EMPTY),
            common_classes: [(); NR_NODES].map(|()| AtomicU64::new(0)),
            has_commons: [(); NR_NODES].map(|()| AtomicBool::new(false)),
        }
    }

    /// The heap with that number.
    #[inline]
    pub(crate) fn get(&self, id: HeapId) -> Option<&'static Heap> {
        // ORDERING: Acquire, pairs with Release in `publish`.
        let shelf = NonNull::new(self.shelves.get(id.index() / SHELF)?.load(Acquire))?;
        // SAFETY: a shelf has that many entries; heaps are never unmapped.
        unsafe { shelf.add(id.index() % SHELF).as_ref().load(Acquire).as_ref() }
    }

    /// All heaps, dead ones included.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Heap> + '_ {
        // ORDERING: Acquire, pairs with Release in `publish`.
        let len = self.len.load(Acquire);
        (1..len).filter_map(|i| HeapId::new(i as u16)).filter_map(|id| self.get(id))
    }

    /// Heaps made so far.
    pub(crate) fn nr_heaps(&self) -> usize {
        self.len.load(Relaxed) - 1
    }

    /// Gives a heap that was just made a number, by which all find it from here on; false when there is
    /// none, nor memory for the table. The lock is held for a few stores: nobody waits for it while the
    /// system is asked, or pages are touched for the first time.
    ///
    /// # Safety
    /// Nobody else knows of `heap`, which [`Heap::init`] made.
    pub(crate) unsafe fn publish(&self, machine: &Machine, heap: NonNull<Heap>) -> bool {
        let mut spare = None;
        loop {
            let pool = self.pool.lock();
            let len = self.len.load(Relaxed);
            let Some(id) = HeapId::new(len as u16).filter(|_| len < MAX_HEAPS) else { break };
            let mut shelf = self.shelves[len / SHELF].load(Relaxed);
            if shelf.is_null() {
                let Some(fresh) = spare.take() else {
                    drop(pool);
                    spare = Shelf::map(machine);
                    if spare.is_none() {
                        return false;
                    }
                    continue;
                };
                shelf = fresh.0;
                // ORDERING: Release, pairs with Acquire in `get`.
                let order = weakened_by("registry_table_relaxed", Release);
                self.shelves[len / SHELF].store(shelf, order);
            }
            // SAFETY: the caller is alone with it; under the lock the number is given once.
            unsafe { Heap::set_id(heap, id) };
            // ORDERING: Release, pairs with Acquire in `get`.
            let order = weakened_by("registry_publish_relaxed", Release);
            // SAFETY: the entry is inside the shelf.
            unsafe { (*shelf.add(len % SHELF)).store(heap.as_ptr(), order) };
            // ORDERING: Release, pairs with Acquire in `all`.
            self.len.store(len + 1, Release);
            drop(pool);
            // Another thread was faster with the table.
            spare.into_iter().for_each(|spare| spare.unmap(machine));
            return true;
        }
        spare.into_iter().for_each(|spare| spare.unmap(machine));
        false
    }

    pub(crate) fn raw_lock(&self) -> &FutexLock {
        // SAFETY: for the fork handlers, in the order of the lock table, and its figures.
        unsafe { self.pool.raw() }
    }
}
