//! The misses: everything that a bin cannot answer.
//!
//! Every function here gets the heap that the hit path took (`EMPTY` if there was none to take),
//! does one operation through [`zonal_reclaim`], which retries under pressure, and leaves the
//! thread as it should be. errno is what it was, or ENOMEM when the answer is null.

mod alloc;
mod free;
mod large;
mod look;
mod resize;

use core::ptr::{self, NonNull};

use zonal_allocator::{BadKind, BadPointer, Heap, HeapHot};

pub(crate) use self::alloc::{aligned, malloc, pages, zalloc, zalloc_aligned};
pub(crate) use self::free::{free, free_sized, free_sized_unsent, free_unsent};
pub(crate) use self::look::{inspect, usable_size};
pub(crate) use self::resize::realloc;
use crate::detour;
use crate::errno::SavedErrno;
use crate::jump;
use crate::signal;
use crate::tls;

/// All blocks have this, and those of more than 8 bytes have 16.
const MIN_ALIGN: usize = 8;

/// The heap whose detour was taken, if only samples are wanted.
#[inline(always)]
fn sampled_heap<'a>(heap: *mut HeapHot) -> Option<&'a Heap> {
    if !detour::is_sampling() {
        return None;
    }
    // SAFETY: a heap that was taken is the thread's own, and heaps are never unmapped.
    unsafe { Heap::from_detour(heap).map(|own| own.as_ref()) }
}

/// An operation that needs no slow call, if it can be done so, nobody watches and no signals are to be
/// blocked; None, and nothing changed, if not.
#[inline(always)]
fn in_short<T>(heap: *mut HeapHot, operation: impl FnOnce(&Heap) -> Option<T>) -> Option<T> {
    if heap == tls::empty() || detour::is_on() || signal::are_blocked() {
        return None;
    }
    // SAFETY: a heap that was taken is the thread's own, and heaps are never unmapped.
    if unsafe { Heap::from_detour(heap) }.is_some() {
        // Nobody watches any more: the long way puts the other one back.
        return None;
    }
    // SAFETY: as above, and it is no detour.
    let own = unsafe { Heap::from_hot(heap) };
    jump::begin_short_path(heap);
    // SAFETY: as above.
    let done = operation(unsafe { own.as_ref() })?;
    tls::unmark(heap);
    jump::resume();
    Some(done)
}

/// Ends an operation that needed no slow call.
fn end_short(own: NonNull<Heap>) {
    tls::Block::get().put(detour::resting(own));
    jump::resume();
}

fn no_memory(errno: SavedErrno) -> *mut u8 {
    errno.fail(libc::ENOMEM);
    ptr::null_mut()
}

/// Whether somebody else may know the pointer.
fn is_foreign(bad: Option<BadPointer>) -> bool {
    bad.is_none_or(|bad| bad.kind == BadKind::Foreign)
}
