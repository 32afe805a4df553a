//! Fork: the whole instance stands still while the process is copied.
//!
//! # Lock order
//!
//! registry pool -> gates -> barn -> huge index -> those of `pages` (node caches, window, zones) -> metadata -> fence.
//! The fork handlers take all of them in this order; nobody waits for an earlier one while holding a later one.

use crate::heap::{Heap, OwnHeap};
use crate::lock::FutexLock;
use crate::mm::Mm;

/// Looks at an owner that is inside before fork goes on without it: about a tenth of a second. It has to
/// have everybody.
const FORK_PATIENCE: u32 = 20_000;

impl Mm {
    /// All locks, for their figures.
    pub(crate) fn locks(&self) -> impl Iterator<Item = &FutexLock> {
        let first = [self.registry.raw_lock(), self.barn().raw_lock(), self.huge().raw_lock()];
        let last = self.meta().raw_locks().chain([self.fence().raw_lock()]);
        first.into_iter().chain(self.pages().locks()).chain(last)
    }

    /// Before fork: everybody out, every lock held, so that the child finds all data whole.
    /// `own` is the calling thread's heap; the caller is inside no gate.
    pub fn prefork(&self, own: Option<OwnHeap>) {
        self.registry.raw_lock().acquire();
        // The own heap too: another visitor may be at work in it, and must have gone.
        for heap in self.registry.all() {
            heap.begin_visit_by_all_means();
        }
        // The dead have no owner that could be inside, and nobody takes them over now.
        let is_other = |heap: &Heap| !OwnHeap::is(own, heap);
        let has_living = self.registry.all().any(|heap| is_other(heap) && !heap.is_dead());
        let is_ordered = !has_living || self.heavy_barrier();
        for heap in self.registry.all().filter(|heap| is_other(heap)) {
            // An owner that stays inside sits in a signal handler or left it by longjmp: its heap
            // cannot be used in the child. Nor can one whose owner may be inside unseen.
            let is_seen = is_ordered || heap.is_dead();
            let is_known = heap.is_torn() || (is_seen && heap.is_settled(FORK_PATIENCE));
            if !is_known {
                heap.set_torn(true);
            }
        }
        self.barn().raw_lock().acquire();
        self.huge().raw_lock().acquire();
        self.pages().lock_all();
        self.meta().raw_locks().for_each(FutexLock::acquire);
        self.fence().raw_lock().acquire();
    }

    /// After fork in the parent: everything goes on.
    pub fn postfork_parent(&self, own: Option<OwnHeap>) {
        self.fence().raw_lock().release();
        self.meta().raw_locks().for_each(FutexLock::release);
        // SAFETY: `prefork` took them on this thread.
        unsafe { self.pages().unlock_all() };
        self.huge().raw_lock().release();
        self.barn().raw_lock().release();
        for heap in self.registry.all() {
            // What is dead and torn was torn by a fork before, of which this process is the child.
            if !OwnHeap::is(own, heap) && !heap.is_dead() {
                heap.set_torn(false);
            }
            heap.leave_open();
        }
        self.registry.raw_lock().release();
    }

    /// After fork in the child: only the calling thread is left; the heaps of the others are dead.
    pub fn postfork_child(&self, own: Option<OwnHeap>) {
        self.fence().raw_lock().reinit();
        self.fence().after_fork();
        self.meta().raw_locks().for_each(FutexLock::reinit);
        // SAFETY: the caller is the only thread of the child, and `prefork` took the locks.
        unsafe { self.pages().child_after_fork() };
        self.huge().raw_lock().reinit();
        self.barn().raw_lock().reinit();
        self.huge().after_fork();
        self.doorbell().reinit();
        self.vmstat().after_fork();
        // What lies in the inboxes of torn ones nobody takes in.
        if self.registry.all().any(Heap::is_torn) {
            let whole = self.registry.all().filter(|heap| !heap.is_torn());
            self.flight().reset(whole.map(|heap| heap.inbox.posted_bytes()).sum());
        }
        self.registry.raw_lock().reinit();
        // The visits that `prefork` began: nobody keeps anything in the others.
        let whole = self.registry.all().filter(|heap| !heap.is_torn());
        let reserved =
            whole.filter_map(|heap| heap.finish_visit(1)).map(|inner| inner.large.reserved());
        self.pages().kept.set(reserved.sum());
        self.registry.all().for_each(Heap::reopen);
        self.registry.bury_all_but(own);
        self.pages().set_threads(self.registry.nr_heaps() - self.registry.nr_dead());
    }
}
