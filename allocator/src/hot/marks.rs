//! The mark of a heap as the crate above sees it: [`crate::mark`].

use core::mem::offset_of;

use super::HeapHot;
use crate::mark::{self, Mark};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

impl HeapHot {
    /// Where the word of the mark lies. The assembly of hits adds its stack pointer there and looks for the carry
    /// that [`Mark::FREE`] gives, and ends by storing `FREE`.
    pub const MARK: usize = offset_of!(HeapHot, mark);

    /// What stands there now.
    #[inline(always)]
    pub fn mark(&self) -> Mark {
        // SAFETY: this.
        unsafe { Self::mark_of(self) }
    }

    /// A hit that could not mark it takes back what it added, its stack pointer.
    #[inline]
    pub fn undo_add(&self, place: usize) {
        mark::undo_add(self.mark_word(), place as u64);
    }

    /// Changes the mark of the calling owner's own call, or of a heap that it has without any.
    #[inline(always)]
    pub fn set_mark(&self, mark: Mark) {
        mark::set(self.mark_word(), mark);
    }

    /// Takes it for a call that stands at `place` from one that is gone and left `found`; false where it has
    /// another mark by now.
    pub fn replace(&self, found: Mark, place: usize) -> bool {
        mark::replace(self.mark_word(), found, Mark::at(place as u64))
    }

    /// Takes it for a call that stands at `place`, its bins closed or not; false where another call has it.
    pub fn try_take(&self, place: usize) -> bool {
        mark::try_take(self.mark_word(), place as u64)
    }

    /// Ends the call that has it.
    #[inline(always)]
    pub fn end(&self) {
        mark::end(self.mark_word());
    }

    /// Whether a call has it, or no thread has hits there.
    pub fn is_taken(&self) -> bool {
        !self.mark().is_takeable()
    }

    /// Whether hits miss until the owner has been inside the gate.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.mark().is_closed()
    }

    /// The word, for [`crate::mark`].
    #[inline(always)]
    pub(crate) fn mark_word(&self) -> &AtomicU64 {
        // SAFETY: this.
        unsafe { Self::mark_word_of(self) }
    }

    /// [`HeapHot::mark`] of a heap whose owner may be changing its bins: no reference to all of it.
    ///
    /// # Safety
    /// `this` is valid.
    #[inline(always)]
    pub(crate) unsafe fn mark_of(this: *const Self) -> Mark {
        // Relaxed: as in `mark::load`.
        // SAFETY: a field of what the caller gives, an atomic.
        Mark::from_bits(unsafe { &(*this).mark }.load(Relaxed))
    }

    /// [`HeapHot::mark_word`] of such a heap.
    ///
    /// # Safety
    /// `this` is valid for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn mark_word_of<'a>(this: *const Self) -> &'a AtomicU64 {
        #[cfg(not(zonal_loom))]
        // SAFETY: a field of what the caller gives, an atomic.
        return unsafe { &(*this).mark };
        #[cfg(zonal_loom)]
        unreachable!("the heaps of models have no hits: {this:p}");
    }
}
