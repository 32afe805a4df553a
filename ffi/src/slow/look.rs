//! Looks at blocks and at the core, which change nothing.

use core::ptr::NonNull;

use zonal_allocator::{BadPointer, Mm, OwnHeap};

use super::is_foreign;
use crate::abort;
use crate::errno::SavedErrno;
use crate::foreign::Foreign;
use crate::init;
use crate::thread::{Seat, SlowCall};
use crate::tls;

/// Usable bytes of a live object; 0 for null, and for a huge block in a signal handler that
/// interrupted its own thread where that works with the huge blocks.
///
/// # Safety
/// `object` is null or alive.
#[cold]
#[inline(never)]
pub(crate) unsafe fn usable_size<F: Foreign>(object: *mut u8) -> usize {
    let Some(object) = NonNull::new(object) else {
        return 0;
    };
    let bad = match init::mm().map(|mm| size_of(mm, object)) {
        Some(Ok(size)) => return size,
        Some(Err(bad)) => Some(bad),
        None => None,
    };
    // SAFETY: the caller's promise.
    match is_foreign(bad).then(|| unsafe { F::usable_size(object.as_ptr()) }).flatten() {
        Some(size) => size,
        None => abort::bad_pointer("malloc_usable_size", object, bad),
    }
}

/// Where it takes a lock, the thread's heap is taken too, so that a handler can tell.
fn size_of(mm: &Mm, object: NonNull<u8>) -> Result<usize, BadPointer> {
    if mm.is_sized_without_lock(object) {
        return mm.usable_size(object);
    }
    let _errno = SavedErrno::save();
    let call = SlowCall::begin(tls::Block::get().take());
    match call.as_ref().map(SlowCall::seat) {
        Some(Seat::Heap(_)) => mm.usable_size(object),
        Some(Seat::Interrupted) | None => mm.usable_size_interrupted(object).unwrap_or(Ok(0)),
    }
}

/// Calls `work` with the core, if there is one, and the calling thread's heap, if it may be used.
pub(crate) fn inspect<R>(work: impl FnOnce(&'static Mm, Option<OwnHeap>) -> R) -> Option<R> {
    let mm = init::mm()?;
    let _errno = SavedErrno::save();
    let call = SlowCall::begin(tls::Block::get().take());
    let own = match call.as_ref().map(SlowCall::seat) {
        Some(Seat::Heap(own)) => Some(own),
        _ => None,
    };
    Some(work(mm, own))
}
