//! Blocks and pages handed out.

use core::ptr::{self, NonNull};

use zonal_allocator::{Block, Heap, HeapHot, Mm, Request};
use zonal_numa::{NodeId, PAGE_SHIFT, PAGE_SIZE};
use zonal_reclaim::PageFlags;

use super::large::{take_at_once, take_kept};
use super::{MIN_ALIGN, end_short, in_short, no_memory, sampled_heap};
use crate::abort;
use crate::detour;
use crate::errno::SavedErrno;
use crate::init;
use crate::jump;
use crate::thread::{Seat, SlowCall};
use crate::tls;

/// New zeros of up to so many bytes are touched beforehand where there are several threads. A program
/// that reads such a page before it writes to it, as tables are used, gets the kernel's page of zeros
/// first, and the write then interrupts every processor that runs one of the threads: ten times the
/// cost of a page fault.
const TOUCHED: usize = 256 << 10;

#[cold]
#[inline(never)]
pub(crate) fn malloc(size: usize, heap: *mut HeapHot) -> *mut u8 {
    if Heap::may_keep(size) {
        return match take_at_once(heap, size) {
            Some(block) => block.as_ptr(),
            None => serve_large(size, MIN_ALIGN, false, heap),
        };
    }
    malloc_missed(size, heap)
}

/// Apart, so that hits of large blocks save no registers for it.
#[inline(never)]
fn malloc_missed(size: usize, heap: *mut HeapHot) -> *mut u8 {
    let object = hit_between_samples(size, heap);
    if !object.is_null() {
        return object;
    }
    missed(size, false, heap)
}

#[cold]
#[inline(never)]
pub(crate) fn zalloc(size: usize, heap: *mut HeapHot) -> *mut u8 {
    if Heap::may_keep(size) {
        return match take_at_once(heap, size) {
            Some(start) => {
                zero(Block { start, known_zero: false }, size);
                start.as_ptr()
            }
            None => serve_large(size, MIN_ALIGN, true, heap),
        };
    }
    let object = hit_between_samples(size, heap);
    if !object.is_null() {
        // SAFETY: `object` has at least `size` bytes and nobody else knows it.
        unsafe { object.write_bytes(0, size) };
        return object;
    }
    missed(size, true, heap)
}

/// A function of its own, so that a watched hit saves no registers for it.
#[inline(never)]
fn missed(size: usize, zeroed: bool, heap: *mut HeapHot) -> *mut u8 {
    // SAFETY: the heap is the thread's own, and its bins are the call's.
    let from_others = |own: &Heap| unsafe { own.try_left(size).or_else(|| own.try_reuse(size)) };
    if let Some(object) = in_short(heap, from_others) {
        if zeroed {
            zero(Block { start: object, known_zero: false }, size);
        }
        return object.as_ptr();
    }
    serve(Request { size, align: MIN_ALIGN, zeroed, grows: false }, heap)
}

#[cold]
#[inline(never)]
pub(crate) fn aligned(size: usize, align: usize, heap: *mut HeapHot) -> *mut u8 {
    serve_aligned(size, align, false, heap)
}

#[cold]
#[inline(never)]
pub(crate) fn zalloc_aligned(size: usize, align: usize, heap: *mut HeapHot) -> *mut u8 {
    serve_aligned(size, align, true, heap)
}

fn serve_aligned(size: usize, align: usize, zeroed: bool, heap: *mut HeapHot) -> *mut u8 {
    let align = align.max(MIN_ALIGN);
    if align <= PAGE_SIZE && Heap::may_keep(size) {
        return serve_large(size, align, zeroed, heap);
    }
    serve(Request { size, align, zeroed, grows: false }, heap)
}

/// A large block, at best one that the thread keeps. Apart, so that hits of such blocks and misses of small objects
/// save no registers.
#[inline(never)]
fn serve_large(size: usize, align: usize, zeroed: bool, heap: *mut HeapHot) -> *mut u8 {
    let Some(block) = take_kept(heap, size) else {
        return serve(Request { size, align, zeroed, grows: false }, heap);
    };
    if zeroed {
        zero(Block { start: block, known_zero: false }, size);
    }
    block.as_ptr()
}

#[inline(never)]
fn serve(request: Request, heap: *mut HeapHot) -> *mut u8 {
    let errno = SavedErrno::save();
    let mut block = hit_on_detour(request, heap);
    if block.is_none() {
        block = SlowCall::begin(heap).and_then(|mut call| allocate(&mut call, request));
    }
    let Some(block) = block else {
        return no_memory(errno);
    };
    if request.zeroed {
        zero(block, request.size);
    }
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

/// A hit on the detour that the heap profile takes no sample of: nearly all are, so this is as short
/// as it can be, and marks the bins as any other. Null if it is none, with nothing changed but marks.
#[inline(always)]
fn hit_between_samples(size: usize, heap: *mut HeapHot) -> *mut u8 {
    let may_hit = |own: &&Heap| own.countdown().covers(size) && tls::try_mark(own.hot());
    let Some(own) = sampled_heap(heap).filter(may_hit) else {
        return ptr::null_mut();
    };
    // SAFETY: the heap is the thread's own.
    let object = unsafe { HeapHot::pop(own.hot(), size) };
    if !object.is_null() {
        own.countdown().spend(size);
        tls::unmark(own.hot());
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
    jump::begin_short_path(heap);
    // SAFETY: a heap that was taken is the thread's own.
    let own = unsafe { Heap::from_taken(heap) };
    // SAFETY: as above.
    if unsafe { own.as_ref() }.is_closed() {
        return None;
    }
    // SAFETY: as above.
    let object = unsafe { HeapHot::pop(own.as_ref().hot(), request.size) };
    let start = NonNull::new(object)?;
    detour::on_alloc(start, request.size);
    end_short(own);
    Some(Block { start, known_zero: false })
}

fn allocate(call: &mut SlowCall, request: Request) -> Option<Block> {
    call.follow_thread();
    match call.seat() {
        Seat::Heap(own) => {
            let block = zonal_reclaim::alloc(own, request).ok();
            if call.mm().vmstat().take_soft_limit_warning() {
                warn_over_soft_limit(call.mm());
            }
            if let Some(block) = &block {
                detour::on_alloc(block.start, request.size);
            }
            block
        }
        Seat::Interrupted => {
            let start = call.mm().deferred_alloc(request.size, request.align)?;
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

/// Whole pages; none when there are none to be had, or in the middle of another call.
pub(crate) fn pages(
    node: Option<NodeId>,
    nr_pages: usize,
    flags: PageFlags,
) -> Option<NonNull<u8>> {
    let _errno = SavedErrno::save();
    let mut call = SlowCall::begin(tls::Block::get().take())?;
    call.follow_thread();
    let Seat::Heap(own) = call.seat() else { return None };
    zonal_reclaim::alloc_pages(own, node, nr_pages, flags).ok().map(|block| block.start)
}
