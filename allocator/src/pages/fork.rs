//! Fork: the page layer stands still while the process is copied.
//!
//! The parent's thread takes every lock of the layer before the fork, so the child finds no
//! half-done change. What it may find is blocks that another thread of the parent isolated for a
//! purge, or claimed for growth: nobody in the child would ever put them back.

use crate::lock::FutexLock;
use crate::node::Node;
use crate::pages::Pages;
use crate::purge::Isolated;
use crate::sync::atomic::Ordering::Relaxed;

impl Pages {
    /// Before fork: takes all locks of the layer.
    pub fn lock_all(&self) {
        self.locks().for_each(FutexLock::acquire);
    }

    /// All locks of the layer, in their order.
    pub(crate) fn locks(&self) -> impl Iterator<Item = &FutexLock> {
        let caches = self.online().iter().flat_map(|node| self.node_cache(node).raw_locks());
        let zones = self.online_nodes().map(Node::raw_lock);
        caches.chain([self.window_lock()]).chain(zones)
    }

    /// After fork, in the parent: gives the locks back.
    ///
    /// # Safety
    /// This thread took them by [`Pages::lock_all`].
    pub unsafe fn unlock_all(&self) {
        self.locks().for_each(FutexLock::release);
    }

    /// After fork, in the child: makes the locks free and puts isolated blocks back, as resident,
    /// since nobody knows whether the purge happened.
    ///
    /// # Safety
    /// The caller is the only thread of a process forked under [`Pages::lock_all`].
    pub unsafe fn child_after_fork(&self) {
        self.locks().for_each(FutexLock::reinit);
        self.window.lock().after_fork();
        self.lookout().after_fork();
        self.density.after_fork();
        for node in self.online_nodes() {
            // A thread of the parent may have been at it.
            node.reclaiming.store(false, Relaxed);
            let env = self.env(node);
            let mut zone = node.lock();
            zone.refuse_all(&self.map);
            while let Some(pfn) = zone.isolated.head() {
                zone.putback(&env, pfn, Isolated::Kept);
            }
        }
    }

    pub(crate) fn window_lock(&self) -> &FutexLock {
        // SAFETY: only the functions above take it by this, and pair every acquire with a release or a
        // reinit; others look at its figures, or wake who waits.
        unsafe { self.window.raw() }
    }
}
