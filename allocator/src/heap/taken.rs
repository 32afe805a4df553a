//! How the owner takes its heap for a call and gives it back: by [`Heap::hot`], or by
//! [`Heap::detour`] when all its hits shall miss.
//!
//! The detour is a heap of its own to hits, with a mark of its own ([`crate::mark`]): so there are two, and a slow path
//! has both in its hands. `x` stands for the place of the call; "slow" for the bit of the caller's.
//!
//! | the owner's thread                        | mark of `hot`    | mark of `detour` | `slow_place` |
//! |-------------------------------------------|------------------|------------------|--------------|
//! | is in no call                             | free, or closed  | free             | stale        |
//! | is in a hit                               | x                | free             | stale        |
//! | is in a hit on the detour                 | free, or closed  | x                | stale        |
//! | the same, which no sample is taken of     | x                | x                | stale        |
//! | is in a short path, which needs no visit  | x slow           | free             | near x       |
//! | is in a slow path: [`Heap::from_taken`]   | x slow, or the   | free             | x, or near   |
//! |                                           | same closed      |                  |              |
//! | the same from the detour                  | x slow, or the   | x slow           | x, or near   |
//! |                                           | same closed      |                  |              |
//! | ends it: first half of [`Heap::release`]  | as before        | free             | x, or near   |
//! | second half                               | free, or closed  | free             | stale        |
//!
//! The two halves of the end come in that order. A handler that comes between them takes the heap by the detour, if
//! that is what it finds, over the mark of a call that has nothing left to do. Once both are free a handler may give
//! the heap away, so that nothing of it is touched afterwards. (A hit on the detour of which no sample is taken ends
//! the other way round: by the detour, which is what handlers find, it is marked to the last.) In a slow path the
//! bins are the call's, unless they are closed and a visitor is inside: [`Heap::claim_bins`].

use core::mem::offset_of;
use core::ptr::NonNull;

use super::{Entered, Heap};
use crate::hot::HeapHot;
use crate::mark::{self, Mark};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

impl Heap {
    /// The part that hits touch.
    #[inline]
    pub fn hot(&self) -> *mut HeapHot {
        self.hot.get()
    }

    /// Its mark.
    #[inline(always)]
    pub(crate) fn mark(&self) -> Mark {
        // SAFETY: a field of the heap.
        unsafe { HeapHot::mark_of(self.hot()) }
    }

    /// The word of its mark, for [`crate::mark`].
    #[inline(always)]
    pub(crate) fn mark_word(&self) -> &AtomicU64 {
        // SAFETY: a field of the heap.
        unsafe { HeapHot::mark_word_of(self.hot()) }
    }

    /// What the owner gives to its hits instead of [`Heap::hot`] to make them all miss. Owner only.
    #[inline]
    pub fn detour(&self) -> *mut HeapHot {
        let detour = self.detour.get().cast();
        if !self.owner.has_detour.get() {
            // SAFETY: a field of the heap, of which nobody has the address yet. A handler that comes before the word
            // is set finds the heap taken, and asks for no detour.
            unsafe { HeapHot::init_detour(detour) };
            self.owner.has_detour.set(true);
        }
        detour
    }

    /// The heap with that `hot`.
    ///
    /// # Safety
    /// `hot` came from [`Heap::hot`].
    #[inline(always)]
    pub unsafe fn from_hot(hot: *mut HeapHot) -> NonNull<Heap> {
        // SAFETY: the first field of a repr(C) struct.
        unsafe { NonNull::new_unchecked(hot.cast()) }
    }

    /// The heap whose `hot` or `detour` its owner took, as its slow path begins. The mark of the
    /// place on the stack is in `hot` from here on, and the bins are the caller's until [`Heap::release`],
    /// unless they are closed and a visitor is there.
    ///
    /// # Safety
    /// `taken` came from [`Heap::hot`] or [`Heap::detour`], and the calling thread owns the heap.
    #[inline]
    pub unsafe fn from_taken(taken: *mut HeapHot) -> NonNull<Heap> {
        // SAFETY: the caller's promise; both are fields of a repr(C) struct, `hot` the first.
        unsafe {
            let heap = match Heap::from_detour(taken) {
                Some(heap) => {
                    heap.as_ref().mark_bins();
                    heap
                }
                None => NonNull::new_unchecked(taken.cast()),
            };
            // If a visitor is there, whoever needs them asks again.
            heap.as_ref().claim_bins();
            heap
        }
    }

    /// Whoever has the heap gives it back, whichever way it was taken.
    ///
    /// # Safety
    /// As for [`Heap::from_taken`].
    #[inline]
    pub unsafe fn release(taken: *mut HeapHot) {
        // SAFETY: both are fields of a repr(C) struct, `hot` the first; the caller owns the heap.
        unsafe {
            let heap = Heap::from_detour(taken).unwrap_or(Heap::from_hot(taken)).as_ref();
            // The bins last, see above.
            if heap.owner.has_detour.get() {
                (*heap.detour()).end();
            }
            (*heap.hot()).end();
        }
    }

    /// The heap whose `detour` was taken, if that was one; the mark stays there.
    ///
    /// # Safety
    /// As for [`Heap::from_taken`]; or `taken` is the empty heap.
    #[inline(always)]
    pub unsafe fn from_detour(taken: *mut HeapHot) -> Option<NonNull<Heap>> {
        // SAFETY: the caller's promise; the detour is a field of a repr(C) struct.
        unsafe {
            HeapHot::is_detour(taken)
                .then(|| NonNull::new_unchecked(taken.byte_sub(offset_of!(Heap, detour)).cast()))
        }
    }

    /// The owner, who has marked the detour, marks `hot` with the same place.
    #[inline]
    fn mark_bins(&self) {
        // SAFETY: a field of the heap.
        let call = unsafe { HeapHot::mark_of(self.detour()) };
        mark::seize(self.mark_word(), call);
    }

    /// Where the slow path stands that the owner is in, if it is in one.
    #[inline]
    pub fn slow_place(&self) -> usize {
        self.owner.slow_place.get()
    }

    /// Notes where the slow path stands that begins. Not in the mark, to which hits of handlers add.
    #[inline]
    pub fn set_slow_place(&self, place: usize) {
        self.owner.slow_place.set(place);
    }

    /// Whether a call of the owner has to do without the bins, until it has been inside the gate.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.mark().is_closed()
    }

    /// Makes the bins the calling owner's until its call ends: opens them if they are closed. False, and they are not,
    /// while they are closed and a visitor is in the heap.
    #[inline]
    pub(crate) fn claim_bins(&self) -> bool {
        !self.is_closed() || self.open_bins()
    }

    #[cold]
    fn open_bins(&self) -> bool {
        let Some(entered) = self.try_enter_unnoted() else { return false };
        entered.open_bins();
        true
    }

    /// No thread has hits there from now on, until one puts it back: [`Heap::release`].
    pub(crate) fn leave_bins(&self) {
        // Nobody closes what is absent. Else, closed or not: who is in the heap has its bins in any case.
        if self.mark() != Mark::ABSENT {
            mark::set_absent(self.mark_word());
        }
    }

    /// The owner goes on with this heap instead of `old`, in the same call.
    pub(crate) fn take_mark_of(&self, old: &Heap) {
        // This one's mark is the caller's, and no visitor closes what is absent.
        mark::set(self.mark_word(), old.mark().opened());
        self.owner.slow_place.set(old.owner.slow_place.get());
    }
}

impl Entered<'_> {
    /// The owner, who is inside, has the bins from now on.
    pub(crate) fn open_bins(&self) {
        let heap = self.heap();
        if heap.is_closed() {
            if heap.watch.drained.load(Relaxed) == heap.epoch() {
                // They were emptied: kswapd shall look what comes into them.
                heap.note_use();
            }
            mark::open(heap.mark_word());
        }
    }
}
