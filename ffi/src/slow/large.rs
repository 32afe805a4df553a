//! Hits of large blocks: what a thread keeps of them goes and comes without a visit.
//!
//! The heap came marked by a hit, so its bins are open and nobody closes them. They mark it as slow paths do, for
//! they change more of it, but are as short as hits where they can be: [`Heap::take_large_at_once`],
//! [`Heap::keep_large_at_once`].

use core::ptr::NonNull;

use zonal_allocator::{Heap, HeapHot, Kept, Remote};

use super::free::{free_sized_unsent, free_unsent};
use crate::errno::SavedErrno;
use crate::foreign::Foreign;
use crate::thread::Visit;
use crate::{detour, init, jump, kswapd, signal, tls};

/// Whether calls have to go the long way: somebody watches, or wants signals blocked.
#[inline(always)]
fn is_long() -> bool {
    detour::is_on() || signal::are_blocked()
}

/// A block that the thread keeps, which `take` gets from its heap.
#[inline(always)]
pub(super) fn take_kept(
    heap: *mut HeapHot,
    take: impl FnOnce(&Heap) -> Option<NonNull<u8>>,
) -> Option<NonNull<u8>> {
    if heap == tls::empty() || is_long() {
        return None;
    }
    // SAFETY: a heap that was taken is the thread's own, and heaps are never unmapped.
    if unsafe { Heap::from_detour(heap) }.is_some() {
        // Nobody watches any more: the long way puts the other one back.
        return None;
    }
    // SAFETY: as above, and it is no detour.
    let own = unsafe { Heap::from_hot(heap).as_ref() };
    if !own.keeps_large() {
        return None;
    }
    jump::begin_short_path(heap);
    let block = take(own)?;
    tls::unmark(heap);
    jump::resume();
    Some(block)
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
    // SAFETY: the caller's promise.
    match unsafe { keep_at_once(heap, block, IS_TOLD.then_some(size)) } {
        Kept::Yes => jump::resume(),
        Kept::YesAfterMany => look_around::<F>(),
        // SAFETY: as above.
        Kept::No => unsafe { free_large_at_length::<F, IS_TOLD>(object, size, heap, align, block) },
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
        drop(Visit::of_free::<F>(tls::Block::get().take()));
    }
}

/// Leaves what may be a large block with the thread in the common case; the heap is back then.
///
/// # Safety
/// As for [`crate::hot::free`]; `block` is what a push into `heap` found.
#[inline(always)]
unsafe fn keep_at_once(heap: *mut HeapHot, block: Remote, told: Option<usize>) -> Kept {
    // SAFETY: what knows of pages is a heap of this thread.
    let own = unsafe { Heap::from_hot(heap).as_ref() };
    if !own.keeps_large() || is_long() {
        return Kept::No;
    }
    jump::begin_short_path(heap);
    // SAFETY: as above; the rest is the caller's promise.
    let kept = unsafe { own.keep_large_at_once(block, told) };
    if kept != Kept::No {
        tls::unmark(heap);
    }
    kept
}

/// Leaves what may be a large block with the thread, if it is one, if there is room, and if the program tells a
/// size that it can have.
///
/// # Safety
/// As for [`crate::hot::free`]; `block` is what a push into `heap` found.
unsafe fn keep<F: Foreign>(heap: *mut HeapHot, block: Remote, told: Option<usize>) -> bool {
    if is_long() {
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
