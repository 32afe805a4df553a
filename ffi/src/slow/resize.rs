//! Blocks made larger or smaller, where they are or elsewhere.

use core::ptr::{self, NonNull};

use zonal_allocator::{BadPointer, Heap, HeapHot};
use zonal_reclaim::ReallocError;

use super::{MIN_ALIGN, is_foreign, malloc, no_memory};
use crate::abort;
use crate::detour;
use crate::errno::SavedErrno;
use crate::foreign::Foreign;
use crate::jump;
use crate::profile;
use crate::signal;
use crate::thread::{Seat, SlowCall};
use crate::tls;

/// # Safety
/// As for [`crate::hot::realloc`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn realloc<F: Foreign>(
    object: *mut u8,
    size: usize,
    heap: *mut HeapHot,
) -> *mut u8 {
    let Some(object) = NonNull::new(object) else {
        return malloc(size, heap);
    };
    let errno = SavedErrno::save();
    let is_unseen = |own: &Heap| {
        !detour::is_on()
            || (detour::is_sampling()
                && own.countdown().covers(size)
                && profile::is_unsampled(object.addr().get()))
    };
    let own = (heap != tls::empty()).then(|| {
        jump::begin_short_path(heap);
        // SAFETY: a heap that was taken is the thread's own, and heaps are never unmapped.
        unsafe { Heap::from_taken(heap).as_ref() }
    });
    if let Some(own) = own.filter(|own| is_unseen(own) && !signal::are_blocked()) {
        // SAFETY: the heap is the thread's own; the rest is the caller's promise.
        let done = unsafe { own.try_realloc(object, size) };
        if let Some(object) = done {
            if detour::is_sampling() {
                own.countdown().spend(size);
            }
            tls::Block::get().put(heap);
            // It may not return.
            drop(errno);
            jump::resume();
            return object.as_ptr();
        }
    }
    let outcome = match SlowCall::begin(heap) {
        // SAFETY: the caller's promise.
        Some(mut call) => unsafe { resize(&mut call, object, size) },
        None => Ok(None),
    };
    let moved = outcome.unwrap_or_else(|bad| {
        // SAFETY: the caller's promise.
        let theirs = is_foreign(bad).then(|| unsafe { F::realloc(object.as_ptr(), size) });
        match theirs.flatten() {
            Some(moved) => NonNull::new(moved),
            None => abort::bad_pointer("realloc", object, bad),
        }
    });
    match moved {
        Some(moved) => moved.as_ptr(),
        None => no_memory(errno),
    }
}

/// `Ok(None)`: no memory, `object` is as it was.
///
/// # Safety
/// As for [`crate::hot::realloc`].
unsafe fn resize(
    call: &mut SlowCall,
    object: NonNull<u8>,
    size: usize,
) -> Result<Option<NonNull<u8>>, Option<BadPointer>> {
    call.follow_thread();
    let mm = call.mm();
    match call.seat() {
        Seat::Heap(own) => {
            // Before: as soon as it is free, another thread may get it.
            detour::on_free(object);
            // SAFETY: the caller's promise.
            match unsafe { zonal_reclaim::realloc(own, object, size) } {
                Ok(moved) => {
                    detour::on_alloc(moved, size);
                    Ok(Some(moved))
                }
                Err(ReallocError::Alloc(_)) => {
                    // It stays, with what it had.
                    detour::on_alloc(object, mm.usable_size(object).unwrap_or(0));
                    Ok(None)
                }
                Err(ReallocError::Bad(bad)) => Err(Some(bad)),
            }
        }
        Seat::Interrupted => {
            let Some(usable) = mm.usable_size_interrupted(object) else { return Ok(None) };
            let usable = usable.map_err(Some)?;
            if size <= usable && size >= usable / 2 {
                return Ok(Some(object));
            }
            let Some(moved) = mm.deferred_alloc(size, MIN_ALIGN) else {
                return Ok(None);
            };
            // SAFETY: both objects have that many bytes and differ.
            unsafe { ptr::copy_nonoverlapping(object.as_ptr(), moved.as_ptr(), size.min(usable)) };
            mm.deferred_free(object).map_err(Some)?;
            Ok(Some(moved))
        }
    }
}
