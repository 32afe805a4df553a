//! Hits of large blocks: what a thread keeps of them goes and comes without a slow call.
//!
//! The heap came marked by a hit. Where nobody has claimed its gate, and in the common case, that is enough, and it is
//! a hit as any other: [`Heap::take_large_at_once`], [`Heap::keep_large_at_once`]. Who watches sees those that
//! take, as other hits, from the thread's next miss on, and all that keep. What goes inside the gate marks the heap as
//! slow paths do.

use core::ptr::NonNull;

use zonal_allocator::{Heap, HeapHot, Kept, Remote};

use super::free::{free_sized_unsent, free_unsent};
use super::in_short;
use crate::errno::SavedErrno;
use crate::foreign::Foreign;
use crate::thread::SlowCall;
use crate::{detour, init, jump, kswapd, signal, tls};

/// A block that the thread keeps, in the common case, for a size that may be kept.
#[inline(always)]
pub(super) fn take_at_once(heap: *mut HeapHot, size: usize) -> Option<NonNull<u8>> {
    // SAFETY: the empty heap, or one of this thread's.
    if !unsafe { HeapHot::knows_pages(heap) } {
        return None;
    }
    // SAFETY: a heap that was taken and knows of pages is the thread's own, and no detour.
    let own = unsafe { Heap::from_hot(heap).as_ref() };
    if !own.has_large_hits() {
        return None;
    }
    // SAFETY: the caller's promise; the heap is marked.
    let block = unsafe { own.take_large_at_once(size) }?;
    tls::unmark(heap);
    Some(block)
}

/// A block that the thread keeps, of any length that will do, for a size that may be kept.
pub(super) fn take_kept(heap: *mut HeapHot, size: usize) -> Option<NonNull<u8>> {
    in_short(heap, |own| {
        // SAFETY: the heap is the thread's own; the rest is the caller's promise.
        own.keeps_large().then(|| unsafe { own.take_large(size) }).flatten()
    })
}

/// What may be a large block; with `IS_TOLD` the program tells that it has `size` bytes, aligned to `align`. Apart, so
/// that what is above saves no registers; it calls nothing but as its last thing, so that itself it saves few.
///
/// # Safety
/// As for [`crate::hot::free_sized`] with `IS_TOLD`, else for [`crate::hot::free`].
#[inline(never)]
pub(super) unsafe fn free_large<F: Foreign, const IS_TOLD: bool>(
    object: *mut u8,
    size: usize,
    heap: *mut HeapHot,
    align: usize,
    block: Remote,
) {
    // Who watches knows of each large block, so that a thread that has only hits must not keep its end to itself.
    // SAFETY: the caller's promise.
    if detour::is_on() || !unsafe { keep_at_once(heap, block, IS_TOLD.then_some(size)) } {
        // SAFETY: as above.
        unsafe { free_large_at_length::<F, IS_TOLD>(object, size, heap, align, block) };
    }
}

/// # Safety
/// As for [`free_large`].
#[cold]
#[inline(never)]
unsafe fn free_large_at_length<F: Foreign, const IS_TOLD: bool>(
    object: *mut u8,
    size: usize,
    heap: *mut HeapHot,
    align: usize,
    block: Remote,
) {
    // SAFETY: the caller's promise.
    if unsafe { keep::<F>(heap, block, IS_TOLD.then_some(size)) } {
        return;
    }
    // SAFETY: as above.
    unsafe {
        if IS_TOLD {
            free_sized_unsent::<F>(object, size, heap, align);
        } else {
            free_unsent::<F>(object, heap);
        }
    }
}

/// What is to be done now and then, by who had only hits for long.
#[cold]
#[inline(never)]
fn look_around<F: Foreign>() {
    jump::resume();
    if init::mm().is_some_and(kswapd::is_look_due_after_many) {
        let _errno = SavedErrno::save();
        drop(SlowCall::of_free::<F>(tls::Block::get().take()));
    }
}

/// Leaves what may be a large block with the thread in the common case; the heap is back then.
///
/// # Safety
/// As for [`crate::hot::free`]; `block` is what a push into `heap` found.
#[inline(always)]
unsafe fn keep_at_once(heap: *mut HeapHot, block: Remote, told: Option<usize>) -> bool {
    // SAFETY: what knows of pages is a heap of this thread.
    let own = unsafe { Heap::from_hot(heap).as_ref() };
    // SAFETY: as above; the rest is the caller's promise.
    let is_kept = own.has_large_hits() && unsafe { own.keep_large_at_once(block, told) };
    if is_kept {
        tls::unmark(heap);
    }
    is_kept
}

/// Leaves what may be a large block with the thread, if it is one, if there is room, and if the program tells a
/// size that it can have.
///
/// # Safety
/// As for [`crate::hot::free`]; `block` is what a push into `heap` found.
unsafe fn keep<F: Foreign>(heap: *mut HeapHot, block: Remote, told: Option<usize>) -> bool {
    // Somebody watches, or wants signals blocked: the long way.
    if detour::is_on() || signal::are_blocked() {
        return false;
    }
    // SAFETY: what knows of pages is a heap of this thread.
    let own = unsafe { Heap::from_hot(heap).as_ref() };
    jump::begin_short_path(heap);
    // SAFETY: as above; the rest is the caller's promise.
    let kept = unsafe { own.keep_large(block, told) };
    if kept == Kept::No {
        return false;
    }
    tls::unmark(heap);
    jump::resume();
    if kept == Kept::YesAfterMany {
        look_around::<F>();
    }
    true
}
