//! Calls that interrupted zonal on their own thread: they get memory of the signal arena, and what
//! they free waits for the thread's next slow path.

use core::ptr::NonNull;

use super::Mm;
use crate::heap::Heap;
use crate::misuse::BadPointer;

impl Mm {
    /// Memory for a call that interrupted zonal on its own thread. Async-signal-safe.
    pub fn deferred_alloc(&self, size: usize, align: usize) -> Option<NonNull<u8>> {
        self.deferred.alloc(self.machine(), size, align)
    }

    /// Frees for a call that interrupted zonal on its own thread. Async-signal-safe.
    pub fn deferred_free(&self, block: NonNull<u8>) {
        if self.deferred.size_of(block.addr().get()).is_some() {
            self.deferred.free();
        } else {
            self.deferred.push(block);
        }
    }

    /// Whether it is a block of the signal arena.
    pub(crate) fn is_deferred(&self, addr: usize) -> bool {
        self.deferred.size_of(addr).is_some()
    }

    pub(crate) fn defer(&self, block: NonNull<u8>) {
        self.deferred.push(block);
    }

    /// Whether something that signal handlers put aside waits to be freed.
    #[inline]
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred.is_waiting()
    }

    /// Frees what signal handlers put aside. `heap` belongs to the calling thread.
    #[inline]
    pub(crate) fn run_deferred(&self, heap: &Heap) {
        if self.has_deferred() {
            self.deferred.take(|block| {
                if self.is_checked() {
                    self.unlink(block);
                }
                // SAFETY: the handler gave the block away; the caller owns `heap`.
                if let Err(bad) = unsafe { heap.free_now(block) } {
                    heap.note_fault(bad);
                }
            });
        }
    }

    /// Frees a block outside the window: a huge one, a fenced one, or one of the signal arena.
    pub(crate) fn free_outside(&self, addr: usize) -> Result<(), BadPointer> {
        if self.deferred.size_of(addr).is_some() {
            self.deferred.free();
            return Ok(());
        }
        if self.fence.contains(addr) {
            return self.fence.free(addr);
        }
        self.doorbell.ring();
        self.huge.free(&self.pages, addr)
    }
}
