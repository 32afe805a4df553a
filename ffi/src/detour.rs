//! The detour: how every call of a process comes through the slow paths, when somebody watches.
//!
//! While a bit of the mode is set, a thread puts back its heap's *detour* at the end of a slow path
//! instead of the heap: bins on which every hit misses. So its next call comes here again, and its
//! calls cost nothing while no bit is set. A thread that only has hits goes on with them until its
//! first miss; a mode that shall see all calls is set before the first.
//!
//! ```text
//!   current: heap    --hit--> bins
//!   current: detour  --miss-> slow path: hooks, then the same bins, then put back the detour
//!   current: EMPTY   --miss-> slow path: not attached, or inside another call of this thread
//! ```
//!
//! The hooks run while the heap is taken and jumps out of handlers wait: a call of malloc from
//! within is served as if from a signal handler, and a handler is never watched.

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32};

use zonal_allocator::{Heap, HeapHot};

/// Somebody watches samples of the blocks that come and go: [`watch`].
const WATCHED: u32 = 1;
/// Blocks are checked: no hit may take or give one without the core's knowing.
const CHECKED: u32 = 2;

static MODE: AtomicU32 = AtomicU32::new(0);
static WATCHER: AtomicPtr<Watcher> = AtomicPtr::new(ptr::null_mut());

/// Who wants to know. Neither function may unwind, wait for another call of ours, or change errno.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// The program gets a block of that many bytes.
    pub(crate) alloc: fn(NonNull<u8>, usize),
    /// The program gives a block up, or means to; it is still there.
    pub(crate) free: fn(NonNull<u8>),
}

/// Sends calls to `watcher` from now on, as threads come by. It may be left out of those that the
/// heap profile takes no sample of.
pub(crate) fn watch(watcher: &'static Watcher) {
    // ORDERING: Release, pairs with Acquire in `watcher`.
    WATCHER.store(ptr::from_ref(watcher).cast_mut(), Release);
    MODE.fetch_or(WATCHED, Relaxed);
}

/// Lets the calls go their own way again. A call under way may still reach the watcher.
pub(crate) fn unwatch() {
    MODE.fetch_and(!WATCHED, Relaxed);
}

/// Sends all calls through the core, for ever. Before the first of them.
pub(crate) fn check_all() {
    MODE.fetch_or(CHECKED, Relaxed);
}

/// Whether the bins are the core's alone.
#[inline]
pub(crate) fn is_checked() -> bool {
    MODE.load(Relaxed) & CHECKED != 0
}

/// Whether calls shall come through the slow paths.
#[inline]
pub(crate) fn is_on() -> bool {
    // Relaxed: a thread that learns of it later changes over later.
    MODE.load(Relaxed) != 0
}

/// Whether calls come here for samples only.
#[inline]
pub(crate) fn is_sampling() -> bool {
    MODE.load(Relaxed) & (WATCHED | CHECKED) == WATCHED
}

/// What a thread whose heap this is puts back at the end of a call.
#[inline]
pub(crate) fn resting(heap: NonNull<Heap>) -> *mut HeapHot {
    // SAFETY: heaps are never unmapped.
    let heap = unsafe { heap.as_ref() };
    if is_on() { heap.detour() } else { heap.hot() }
}

/// A block of `size` bytes is about to be handed to the program.
#[inline]
pub(crate) fn on_alloc(block: NonNull<u8>, size: usize) {
    if let Some(watcher) = watcher() {
        (watcher.alloc)(block, size);
    }
}

/// The program gave up what may be a block, and it is about to be freed.
#[inline]
pub(crate) fn on_free(block: NonNull<u8>) {
    if let Some(watcher) = watcher() {
        (watcher.free)(block);
    }
}

fn watcher() -> Option<&'static Watcher> {
    if MODE.load(Relaxed) & WATCHED == 0 {
        return None;
    }
    // ORDERING: Acquire, pairs with Release in `watch`.
    // SAFETY: null, or what `watch` got.
    unsafe { WATCHER.load(Acquire).as_ref() }
}

#[cfg(test)]
pub(crate) mod tests {
    use core::sync::atomic::AtomicUsize;
    use std::sync::{Mutex, PoisonError, mpsc};
    use std::thread;

    use super::*;
    use crate::foreign::Alone;
    use crate::hot;

    /// Held by tests whose threads count on nobody watching calls, and by the one that does.
    pub(crate) static WATCHING: Mutex<()> = Mutex::new(());

    static ALLOCS: AtomicUsize = AtomicUsize::new(0);
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    static FREES: AtomicUsize = AtomicUsize::new(0);
    static COUNTER: Watcher = Watcher {
        alloc: |_, size| {
            ALLOCS.fetch_add(1, Relaxed);
            BYTES.fetch_add(size, Relaxed);
        },
        free: |_| {
            FREES.fetch_add(1, Relaxed);
        },
    };

    fn counts() -> (usize, usize, usize) {
        (ALLOCS.load(Relaxed), BYTES.load(Relaxed), FREES.load(Relaxed))
    }

    /// One test, as the mode is the process's. Nobody draws from the countdown here, so every block
    /// counts as a sample when it comes. When it goes, the profile knows of none: only what the bins
    /// cannot take, and what `realloc` moves, is seen.
    #[test]
    fn calls_are_watched_and_then_none() {
        let sizes = [1, 16, 100, 5000, 40_000, 5 << 20];
        let _alone = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
        watch(&COUNTER);
        thread::spawn(move || {
            for round in 1..=50 {
                let blocks = sizes.map(hot::malloc);
                let zeros = hot::zalloc(300);
                let aligned = hot::aligned(300, 256);
                // SAFETY: a live block, and its new address.
                let grown = unsafe { hot::realloc::<Alone>(zeros, 3000) };
                for block in blocks.into_iter().chain([grown, aligned]) {
                    assert!(!block.is_null());
                    // SAFETY: allocated above, and given up.
                    unsafe { hot::free::<Alone>(block) };
                }
                let bytes = sizes.iter().sum::<usize>() + 300 + 300 + 3000;
                let (nr_allocs, nr_bytes, nr_frees) = counts();
                assert_eq!((nr_allocs, nr_bytes), (9 * round, bytes * round));
                assert!(
                    (3 * round..=9 * round).contains(&nr_frees),
                    "{nr_frees} in {round} rounds"
                );
            }
            unwatch();
            let seen = counts();
            let warm = hot::malloc(100);
            // SAFETY: as above. The slow path of this call is the last.
            unsafe { hot::free::<Alone>(warm) };
            assert_eq!(counts(), seen);
            let block = crate::tls::Block::get();
            let taken = block.take();
            // SAFETY: the thread has a heap.
            assert_eq!(taken, unsafe { Heap::from_taken(taken).as_ref() }.hot());
            block.put(taken);
        })
        .join()
        .unwrap();
        a_large_block_that_another_thread_frees_is_seen();
    }

    /// Also by who had hits only before somebody watched.
    fn a_large_block_that_another_thread_frees_is_seen() {
        const SIZE: usize = 100_000;
        let (send, blocks) = mpsc::channel::<usize>();
        let (ready, is_ready) = mpsc::channel();
        let consumer = thread::spawn(move || {
            for _ in 0..3 {
                // SAFETY: a new block, given up.
                unsafe { hot::free::<Alone>(hot::malloc(SIZE)) };
            }
            ready.send(()).unwrap();
            let block = ptr::with_exposed_provenance_mut(blocks.recv().unwrap());
            // SAFETY: as above.
            unsafe { hot::free::<Alone>(block) };
        });
        is_ready.recv().unwrap();
        watch(&COUNTER);
        let block = hot::malloc(SIZE);
        let (.., nr_frees) = counts();
        send.send(block.expose_provenance()).unwrap();
        consumer.join().unwrap();
        assert_eq!(counts().2, nr_frees + 1);
        unwatch();
    }
}
