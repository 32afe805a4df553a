//! The misses: everything that a bin cannot answer.
//!
//! Every function here gets the heap that the hit path took (`EMPTY` if there was none to take),
//! does one operation through [`zonal_reclaim`], which retries under pressure, and leaves the
//! thread as it should be. errno is what it was, or ENOMEM when the answer is null.

use core::ptr::{self, NonNull};

use zonal_allocator::{BadKind, BadPointer, Block, Heap, HeapHot, Mm, Request};
use zonal_numa::{NodeId, PAGE_SHIFT, PAGE_SIZE};
use zonal_reclaim::{PageFlags, ReallocError};

use crate::abort;
use crate::detour;
use crate::errno::{self, Errno};
use crate::foreign::Foreign;
use crate::harden;
use crate::init;
use crate::jump;
use crate::kswapd;
use crate::profile;
use crate::signal;
use crate::thread::{Seat, Visit};
use crate::tls;

/// All blocks have this, and those of more than 8 bytes have 16.
const MIN_ALIGN: usize = 8;

/// New zeros of up to so many bytes are touched beforehand where there are several threads. A program
/// that reads such a page before it writes to it, as tables are used, gets the kernel's page of zeros
/// first, and the write then interrupts every processor that runs one of the threads: ten times the
/// cost of a page fault.
const TOUCHED: usize = 256 << 10;

#[cold]
#[inline(never)]
pub(crate) fn malloc(size: usize, heap: *mut HeapHot) -> *mut u8 {
    let object = hit_between_samples(size, heap);
    if !object.is_null() {
        return object;
    }
    serve(Request { size, align: MIN_ALIGN, zeroed: false }, heap)
}

#[cold]
#[inline(never)]
pub(crate) fn zalloc(size: usize, heap: *mut HeapHot) -> *mut u8 {
    let object = hit_between_samples(size, heap);
    if !object.is_null() {
        // SAFETY: `object` has at least `size` bytes and nobody else knows it.
        unsafe { object.write_bytes(0, size) };
        return object;
    }
    serve(Request { size, align: MIN_ALIGN, zeroed: true }, heap)
}

#[cold]
#[inline(never)]
pub(crate) fn aligned(size: usize, align: usize, heap: *mut HeapHot) -> *mut u8 {
    serve(Request { size, align: align.max(MIN_ALIGN), zeroed: false }, heap)
}

#[cold]
#[inline(never)]
pub(crate) fn zalloc_aligned(size: usize, align: usize, heap: *mut HeapHot) -> *mut u8 {
    serve(Request { size, align: align.max(MIN_ALIGN), zeroed: true }, heap)
}

#[inline(never)]
fn serve(request: Request, heap: *mut HeapHot) -> *mut u8 {
    if request.align <= MIN_ALIGN
        && !request.zeroed
        && let Some(block) = short_of_visit(heap, |own| {
            // SAFETY: the heap is the thread's own.
            unsafe { own.try_alloc_large(request.size) }
        })
    {
        return block.as_ptr();
    }
    let before = Errno::save();
    let mut block = hit_on_detour(request, heap);
    if block.is_none() {
        block = Visit::begin(heap).and_then(|mut visit| allocate(&mut visit, request));
    }
    let Some(block) = block else {
        return no_memory();
    };
    if request.zeroed {
        zero(block, request.size);
    }
    before.restore();
    block.start.as_ptr()
}

/// Makes the first `size` bytes of a new block zeros that can be read.
fn zero(block: Block, size: usize) {
    if !block.known_zero {
        // SAFETY: the block has at least `size` bytes and nobody else knows it.
        unsafe { block.start.write_bytes(0, size) };
    } else if size <= TOUCHED && init::mm().is_some_and(|mm| mm.pages().nr_threads() > 1) {
        for at in (0..size).step_by(PAGE_SIZE) {
            // SAFETY: as above. Volatile: the page fault is what is wanted.
            unsafe { block.start.add(at).write_volatile(0) };
        }
    }
}

/// The heap whose detour was taken, if only samples are wanted.
#[inline(always)]
fn sampled_heap<'a>(heap: *mut HeapHot) -> Option<&'a Heap> {
    if !detour::is_sampling() {
        return None;
    }
    // SAFETY: a heap that was taken is the thread's own, and heaps are never unmapped.
    unsafe { Heap::from_detour(heap).map(|own| own.as_ref()) }
}

/// A hit on the detour that the heap profile takes no sample of: nearly all are, so this is as short
/// as it can be. Null if it is none, with nothing changed.
#[inline(always)]
fn hit_between_samples(size: usize, heap: *mut HeapHot) -> *mut u8 {
    let Some(own) = sampled_heap(heap).filter(|own| own.countdown().covers(size)) else {
        return ptr::null_mut();
    };
    // SAFETY: the heap is the thread's own.
    let object = unsafe { HeapHot::pop(own.hot(), size) };
    if !object.is_null() {
        own.countdown().spend(size);
        tls::unmark(heap);
    }
    object
}

/// What would be a hit if nobody watched.
#[inline]
fn hit_on_detour(request: Request, heap: *mut HeapHot) -> Option<Block> {
    if !detour::is_on() || detour::is_checked() {
        return None;
    }
    if heap == tls::empty() || request.align > MIN_ALIGN {
        return None;
    }
    // SAFETY: a heap that was taken is the thread's own.
    let own = unsafe { Heap::from_taken(heap) };
    // SAFETY: as above.
    let object = unsafe { HeapHot::pop(own.as_ref().hot(), request.size) };
    let start = NonNull::new(object)?;
    jump::begin_slow_path(own);
    detour::on_alloc(start, request.size);
    leave(own);
    Some(Block { start, known_zero: false })
}

/// Ends an operation that needed no visit.
fn leave(own: NonNull<Heap>) {
    tls::Block::get().put(detour::resting(own));
    jump::resume();
}

fn allocate(visit: &mut Visit, request: Request) -> Option<Block> {
    visit.follow_thread();
    match visit.seat() {
        Seat::Heap(heap) => {
            // SAFETY: the visit makes this thread the owner of `heap`.
            let block = unsafe { zonal_reclaim::alloc(heap, request) }.ok();
            if visit.mm().vmstat().take_soft_limit_warning() {
                warn_over_soft_limit(visit.mm());
            }
            if let Some(block) = &block {
                detour::on_alloc(block.start, request.size);
            }
            block
        }
        Seat::Interrupted => {
            let start = visit.mm().deferred_alloc(request.size, request.align)?;
            Some(Block { start, known_zero: false })
        }
    }
}

#[cold]
fn warn_over_soft_limit(mm: &Mm) {
    let mib = |nr_pages: usize| nr_pages >> (20 - PAGE_SHIFT);
    let (have, limit) = (mib(mm.pages().charged()), mib(mm.pages().soft_cap().pages));
    abort::warn(format_args!("{have} MiB are in use, over the soft limit of {limit} MiB"));
}

fn no_memory() -> *mut u8 {
    errno::set(libc::ENOMEM);
    ptr::null_mut()
}

/// # Safety
/// As for [`crate::hot::free`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn free<F: Foreign>(object: *mut u8, heap: *mut HeapHot) {
    // As `hit_between_samples`. Null lies in no heap, so it is none.
    if let Some(own) = sampled_heap(heap)
        && profile::is_unsampled(object.addr())
        // SAFETY: the heap is the thread's own; the caller gives the object up.
        && unsafe { HeapHot::push(own.hot(), object) }
    {
        tls::unmark(heap);
        return;
    }
    // SAFETY: the caller's promise.
    if !unsafe { send(object, heap) } {
        // SAFETY: as above.
        unsafe { free_missed::<F>(object, heap) };
    }
}

/// Leaves a large block with the thread, if it has room.
///
/// # Safety
/// As for [`crate::hot::free`].
#[inline(always)]
unsafe fn keep(object: NonNull<u8>, heap: *mut HeapHot) -> bool {
    short_of_visit(heap, |own| {
        // SAFETY: the heap is the thread's own; the rest is the caller's promise.
        let is_kept = || unsafe { own.try_free_large(object) };
        (!kswapd::is_look_due(own.mm()) && is_kept()).then_some(())
    })
    .is_some()
}

/// An operation that needs no visit, if it can be done so, nobody watches and no signals are to be
/// blocked; None, and nothing changed, if not.
#[inline(always)]
fn short_of_visit<T>(heap: *mut HeapHot, operation: impl FnOnce(&Heap) -> Option<T>) -> Option<T> {
    if heap == tls::empty() || detour::is_on() || signal::are_blocked() {
        return None;
    }
    // SAFETY: a heap that was taken is the thread's own, and heaps are never unmapped.
    let own = unsafe { Heap::from_taken(heap) };
    jump::begin_slow_path(own);
    // SAFETY: as above.
    let done = operation(unsafe { own.as_ref() })?;
    leave(own);
    Some(done)
}

/// Sends an object of another heap on its way, if that takes no more than a place in a message that
/// is there. Nobody watches: who is watched has a detour, which knows of no pages.
///
/// # Safety
/// As for [`crate::hot::free`].
#[inline(always)]
unsafe fn send(object: *mut u8, heap: *mut HeapHot) -> bool {
    let Some(object) = NonNull::new(object) else { return false };
    // SAFETY: the caller's promise.
    let Some(remote) = (unsafe { Heap::remote(heap, object) }) else { return false };
    // SAFETY: what knows of pages is a heap of this thread.
    let own = unsafe { Heap::from_hot(heap) };
    jump::begin_slow_path(own);
    // SAFETY: as above.
    let is_sent = unsafe { own.as_ref().try_send(remote) };
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
unsafe fn free_missed<F: Foreign>(object: *mut u8, heap: *mut HeapHot) {
    let Some(object) = NonNull::new(object) else {
        tls::Block::get().put(heap);
        return;
    };
    // SAFETY: the caller's promise.
    if unsafe { keep(object, heap) } {
        return;
    }
    let is_short = heap != tls::empty() && !detour::is_checked();
    if is_short {
        // SAFETY: a heap that was taken is the thread's own.
        let own = unsafe { Heap::from_taken(heap) };
        jump::begin_slow_path(own);
        // Watched, it would have been a hit.
        let is_hit = detour::is_on() && {
            detour::on_free(object);
            // SAFETY: as above; the caller gives the object up.
            unsafe { HeapHot::push(own.as_ref().hot(), object.as_ptr()) }
        };
        // SAFETY: as above.
        if is_hit || unsafe { own.as_ref().try_free_remote(object) } {
            leave(own);
            return;
        }
    }
    let before = Errno::save();
    let outcome = match Visit::begin(heap) {
        Some(visit) => release(&visit, object, is_short),
        // No memory for a heap of this thread's own: the block waits for one that has.
        None => match init::mm() {
            Some(mm) => {
                mm.deferred_free(object);
                Ok(())
            }
            None => Err(None),
        },
    };
    if let Err(bad) = outcome {
        // SAFETY: the caller gives the object up.
        if !is_foreign(bad) || !unsafe { F::free(object.as_ptr()) } {
            abort::bad_pointer("free", object, bad);
        }
    }
    before.restore();
}

/// A size that the block cannot have is counted, and the first is reported; where blocks are checked,
/// it is the end.
///
/// # Safety
/// As for [`crate::hot::free_sized`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn free_sized<F: Foreign>(
    object: *mut u8,
    heap: *mut HeapHot,
    size: usize,
    align: usize,
) {
    if let (Some(block), Some(mm)) = (NonNull::new(object), init::mm())
        && harden::is_usual()
        && heap != tls::empty()
        && mm.is_size_wrong(block, size, align)
    {
        let is_first = mm.vmstat().note_size_mismatch();
        if detour::is_checked() {
            abort::wrong_size(block, size);
        } else if is_first {
            let before = Errno::save();
            abort::tell_wrong_size(block, size);
            before.restore();
        }
    }
    // SAFETY: the caller's promise.
    unsafe { free::<F>(object, heap) };
}

/// With `is_seen` somebody who watches has seen it.
fn release(visit: &Visit, object: NonNull<u8>, is_seen: bool) -> Result<(), Option<BadPointer>> {
    match visit.seat() {
        Seat::Heap(heap) => {
            if !is_seen {
                detour::on_free(object);
            }
            // SAFETY: the visit makes this thread the owner of `heap`; the caller gives `object` up.
            unsafe { heap.as_ref().free(object) }.map_err(Some)
        }
        // Whether it is a live block shows when the next ordinary call frees it: to find out
        // may take a lock.
        Seat::Interrupted => {
            visit.mm().deferred_free(object);
            Ok(())
        }
    }
}

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
    let before = Errno::save();
    let is_unseen = |own: &Heap| {
        !detour::is_on()
            || (detour::is_sampling()
                && own.countdown().covers(size)
                && profile::is_unsampled(object.addr().get()))
    };
    // SAFETY: a heap that was taken is the thread's own, and heaps are never unmapped.
    let own = (heap != tls::empty()).then(|| unsafe { Heap::from_taken(heap).as_ref() });
    if let Some(own) = own.filter(|own| is_unseen(own)) {
        // SAFETY: the heap is the thread's own; the rest is the caller's promise.
        let done = unsafe { own.try_realloc(object, size) };
        if let Some(object) = done {
            if detour::is_sampling() {
                own.countdown().spend(size);
            }
            tls::Block::get().put(heap);
            before.restore();
            return object.as_ptr();
        }
    }
    let outcome = match Visit::begin(heap) {
        // SAFETY: the caller's promise.
        Some(mut visit) => unsafe { resize(&mut visit, object, size) },
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
        Some(moved) => {
            before.restore();
            moved.as_ptr()
        }
        None => no_memory(),
    }
}

/// `Ok(None)`: no memory, `object` is as it was.
///
/// # Safety
/// As for [`crate::hot::realloc`].
unsafe fn resize(
    visit: &mut Visit,
    object: NonNull<u8>,
    size: usize,
) -> Result<Option<NonNull<u8>>, Option<BadPointer>> {
    visit.follow_thread();
    let mm = visit.mm();
    match visit.seat() {
        Seat::Heap(heap) => {
            // Before: as soon as it is free, another thread may get it.
            detour::on_free(object);
            // SAFETY: the visit makes this thread the owner of `heap`; the rest is the caller's.
            match unsafe { zonal_reclaim::realloc(heap, object, size) } {
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
            mm.deferred_free(object);
            Ok(Some(moved))
        }
    }
}

/// Whole pages; none when there are none to be had, or in the middle of another call.
pub(crate) fn pages(
    node: Option<NodeId>,
    nr_pages: usize,
    flags: PageFlags,
) -> Option<NonNull<u8>> {
    let before = Errno::save();
    let mut visit = Visit::begin(tls::Block::get().take())?;
    visit.follow_thread();
    let Seat::Heap(heap) = visit.seat() else { return None };
    // SAFETY: the visit makes this thread the owner of `heap`.
    let block = unsafe { zonal_reclaim::alloc_pages(heap, node, nr_pages, flags) }.ok();
    drop(visit);
    before.restore();
    block.map(|block| block.start)
}

/// Usable bytes of a live object; 0 for null, and for a huge block in a signal handler that
/// interrupted its own thread where that works with the huge blocks.
///
/// # Safety
/// `object` is null or alive.
pub unsafe fn usable_size<F: Foreign>(object: *mut u8) -> usize {
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
    let before = Errno::save();
    let visit = Visit::begin(tls::Block::get().take());
    let size = match visit.as_ref().map(Visit::seat) {
        Some(Seat::Heap(_)) => mm.usable_size(object),
        Some(Seat::Interrupted) | None => mm.usable_size_interrupted(object).unwrap_or(Ok(0)),
    };
    drop(visit);
    before.restore();
    size
}

/// Calls `work` with the core, if there is one, and the calling thread's heap, if it may be used.
pub(crate) fn inspect<R>(work: impl FnOnce(&'static Mm, Option<NonNull<Heap>>) -> R) -> Option<R> {
    let mm = init::mm()?;
    let before = Errno::save();
    let visit = Visit::begin(tls::Block::get().take());
    let own = match visit.as_ref().map(Visit::seat) {
        Some(Seat::Heap(heap)) => Some(heap),
        _ => None,
    };
    let result = work(mm, own);
    drop(visit);
    before.restore();
    Some(result)
}

/// Whether somebody else may know the pointer.
fn is_foreign(bad: Option<BadPointer>) -> bool {
    bad.is_none_or(|bad| bad.kind == BadKind::Foreign)
}
