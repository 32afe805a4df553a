//! Blocks taken back.

use core::ptr::NonNull;

use zonal_allocator::{BadPointer, Found, Heap, HeapHot, Remote};

use super::large::free_large;
use super::{end_short, in_short, is_foreign, sampled_heap};
use crate::abort;
use crate::detour;
use crate::errno::SavedErrno;
use crate::foreign::Foreign;
use crate::harden;
use crate::init;
use crate::jump;
use crate::kswapd;
use crate::profile;
use crate::thread::{Seat, SlowCall};
use crate::tls;

/// # Safety
/// As for [`crate::hot::free`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn free<F: Foreign>(object: *mut u8, heap: *mut HeapHot, found: Found) {
    let remote = Heap::remote(object, found);
    if remote.is_no_object() {
        // SAFETY: the caller's promise.
        return unsafe { free_large::<F, false>(object, 0, heap, 1, remote) };
    }
    // SAFETY: the caller's promise.
    unsafe { free_remote::<F>(object, heap, remote) };
}

/// Apart, so that frees of large blocks save no registers.
///
/// # Safety
/// As for [`crate::hot::free`].
#[inline(never)]
unsafe fn free_remote<F: Foreign>(object: *mut u8, heap: *mut HeapHot, remote: Remote) {
    // SAFETY: the caller's promise.
    if !unsafe { send(heap, remote) } {
        // SAFETY: as above.
        unsafe { free_unsent::<F>(object, heap) };
    }
}

/// What cannot be sent, or of which the heap knows no page. Apart from [`free_missed`], so that it saves no
/// registers.
///
/// # Safety
/// As for [`crate::hot::free`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn free_unsent<F: Foreign>(object: *mut u8, heap: *mut HeapHot) {
    let Some(object) = NonNull::new(object) else {
        if heap != tls::empty() {
            tls::unmark(heap);
        }
        return;
    };
    // As `hit_between_samples`.
    if let Some(own) = sampled_heap(heap)
        && profile::is_unsampled(object.addr().get())
        && tls::try_mark(own.hot())
        // SAFETY: the heap is the thread's own; the caller gives the object up.
        && unsafe { HeapHot::push(own.hot(), object.as_ptr()) }
    {
        tls::unmark(own.hot());
        tls::unmark(heap);
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { free_missed::<F>(object, heap) };
}

/// Sends an object of another heap on its way where that takes a message that is there.
///
/// # Safety
/// As for [`crate::hot::free`].
#[inline(always)]
unsafe fn send_at_end(object: NonNull<u8>, heap: *mut HeapHot) -> bool {
    in_short(heap, |own| {
        // SAFETY: the heap is the thread's own; the rest is the caller's promise.
        let is_sent = || unsafe { own.free_opening(object) };
        (!kswapd::is_look_due(own.mm()) && is_sent()).then_some(())
    })
    .is_some()
}

/// Sends an object of another heap on its way, if it takes no more than a place in a message that is there.
/// Nobody watches, as a rule: who is watched has a detour, which knows of no pages, from its first miss of another
/// kind on. What a profile sampled is missing from its frees until then.
///
/// # Safety
/// As for [`crate::hot::free`].
#[inline(always)]
unsafe fn send(heap: *mut HeapHot, remote: Remote) -> bool {
    // SAFETY: what knows of pages is a heap of this thread.
    let own = unsafe { Heap::from_hot(heap) };
    jump::begin_short_path(heap);
    // SAFETY: as above.
    let is_sent = unsafe { own.as_ref().send_to_open(remote) };
    if is_sent {
        tls::unmark(heap);
        jump::resume();
    }
    is_sent
}

/// Apart, so that what is above saves no registers.
///
/// # Safety
/// As for [`crate::hot::free`].
#[inline(never)]
unsafe fn free_missed<F: Foreign>(object: NonNull<u8>, heap: *mut HeapHot) {
    // SAFETY: the caller's promise.
    if unsafe { send_at_end(object, heap) } {
        return;
    }
    let is_short = heap != tls::empty() && !detour::is_checked();
    if is_short {
        jump::begin_short_path(heap);
        // SAFETY: a heap that was taken is the thread's own.
        let own = unsafe { Heap::from_taken(heap) };
        // Watched, it would have been a hit.
        let is_hit = detour::is_on() && {
            detour::on_free(object);
            // SAFETY: as above; the caller gives the object up.
            unsafe {
                !own.as_ref().is_closed() && HeapHot::push(own.as_ref().hot(), object.as_ptr())
            }
        };
        // SAFETY: as above.
        if is_hit || unsafe { own.as_ref().free_to_open(object) } {
            end_short(own);
            return;
        }
    }
    let _errno = SavedErrno::save();
    let outcome = match SlowCall::of_free::<F>(heap) {
        Some(call) => release(&call, object, is_short),
        // No memory for a heap of this thread's own: the block waits for one that has.
        None => match init::mm() {
            Some(mm) => mm.deferred_free(object).map_err(Some),
            None => Err(None),
        },
    };
    if let Err(bad) = outcome {
        // SAFETY: the caller gives the object up.
        if !is_foreign(bad) || !unsafe { F::free(object.as_ptr()) } {
            abort::bad_pointer("free", object, bad);
        }
    }
}

/// # Safety
/// As for [`crate::hot::free_sized`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn free_sized<F: Foreign>(
    object: *mut u8,
    size: usize,
    heap: *mut HeapHot,
    align: usize,
    found: Found,
) {
    // C++ frees nearly everything so. The size is right if its class is the object's.
    let remote = Heap::remote(object, found);
    if remote.is_no_object() {
        // SAFETY: the caller's promise.
        return unsafe { free_large::<F, true>(object, size, heap, align, remote) };
    }
    // SAFETY: the caller's promise.
    if align > 1 || !remote.is_of_class_for(size) || !unsafe { send(heap, remote) } {
        // SAFETY: as above.
        unsafe { free_sized_unsent::<F>(object, size, heap, align) };
    }
}

/// Apart, as [`free_missed`].
///
/// # Safety
/// As for [`crate::hot::free_sized`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn free_sized_unsent<F: Foreign>(
    object: *mut u8,
    size: usize,
    heap: *mut HeapHot,
    align: usize,
) {
    look_at_size(object, heap, size, align);
    // SAFETY: as above.
    unsafe { free_unsent::<F>(object, heap) };
}

/// A size that the block cannot have is counted, and the first is reported; where blocks are checked,
/// it is the end.
#[inline(never)]
fn look_at_size(object: *mut u8, heap: *mut HeapHot, size: usize, align: usize) {
    if let (Some(block), Some(mm)) = (NonNull::new(object), init::mm())
        && harden::is_usual()
        && heap != tls::empty()
        && mm.is_size_wrong(block, size, align)
    {
        let is_first = mm.vmstat().note_size_mismatch();
        if detour::is_checked() {
            abort::wrong_size(block, size);
        } else if is_first {
            let _errno = SavedErrno::save();
            abort::tell_wrong_size(block, size);
        }
    }
}

/// With `is_seen` somebody who watches has seen it.
fn release(call: &SlowCall, object: NonNull<u8>, is_seen: bool) -> Result<(), Option<BadPointer>> {
    match call.seat() {
        Seat::Heap(own) => {
            if !is_seen {
                detour::on_free(object);
            }
            // SAFETY: the heap is this thread's; the caller gives `object` up.
            unsafe { own.free(object) }.map_err(Some)
        }
        // Whether what is no block for handlers is a live one shows when the next ordinary call frees it: to
        // find out may take a lock.
        Seat::Interrupted => call.mm().deferred_free(object).map_err(Some),
    }
}
