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
    ///
    /// # Errors
    /// A [`BadPointer`] into the signal arena at which no live block starts. Others show when they are freed.
    pub fn deferred_free(&self, block: NonNull<u8>) -> Result<(), BadPointer> {
        if self.is_deferred(block.addr().get()) {
            return self.deferred.free(block.addr().get());
        }
        self.deferred.push(block);
        Ok(())
    }

    /// Whether it lies in the signal arena.
    pub(crate) fn is_deferred(&self, addr: usize) -> bool {
        self.deferred.contains(addr)
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
        if self.is_deferred(addr) {
            return self.deferred.free(addr);
        }
        if self.fence.contains(addr) {
            return self.fence.free(addr);
        }
        self.doorbell.ring();
        self.huge.free(&self.pages, addr)
    }
}
