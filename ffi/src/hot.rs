//! The hit paths: the few instructions that nearly every call takes.
//!
//! Each takes the thread's heap, tries the bin and gives the heap back. A miss goes on in
//! [`crate::slow`] with the heap still taken, which also covers a thread that has none. The heap is
//! the last argument there, so that the others stay in the registers in which they came.

use core::ptr;

use zonal_allocator::HeapHot;
use zonal_allocator::class::MAX_SMALL;
use zonal_numa::PAGE_SIZE;

use crate::foreign::Foreign;
use crate::slow;
use crate::tls::Block;

/// `size` bytes, aligned as C demands; null when there is no memory.
#[inline(always)]
pub fn malloc(size: usize) -> *mut u8 {
    let block = Block::get();
    let heap = block.take();
    // SAFETY: `heap` is EMPTY or this thread's heap, and it was taken.
    let object = unsafe { HeapHot::pop(heap, size) };
    if object.is_null() {
        return slow::malloc(size, heap);
    }
    block.put(heap);
    object
}

/// `size` bytes of zeros.
#[inline(always)]
pub fn zalloc(size: usize) -> *mut u8 {
    let block = Block::get();
    let heap = block.take();
    // SAFETY: as in `malloc`.
    let object = unsafe { HeapHot::pop(heap, size) };
    if object.is_null() {
        return slow::zalloc(size, heap);
    }
    block.put(heap);
    // SAFETY: `object` has at least `size` bytes and nobody else knows it.
    unsafe { ptr::write_bytes(object, 0, size) };
    object
}

/// `size` bytes aligned to `align`, a power of two.
#[inline(always)]
pub fn aligned(size: usize, align: usize) -> *mut u8 {
    match small(size, align) {
        Some(rounded) => malloc(rounded),
        None => slow::aligned(size, align, Block::get().take()),
    }
}

/// `size` bytes of zeros aligned to `align`, a power of two.
#[inline(always)]
pub(crate) fn zalloc_aligned(size: usize, align: usize) -> *mut u8 {
    match small(size, align) {
        Some(rounded) => zalloc(rounded),
        None => slow::zalloc_aligned(size, align, Block::get().take()),
    }
}

/// The size to ask a class for so that the answer is aligned: a class size is a multiple of every
/// alignment that its request was rounded to.
#[inline(always)]
fn small(size: usize, align: usize) -> Option<usize> {
    if align > PAGE_SIZE || size > MAX_SMALL {
        return None;
    }
    // No bytes round to 0; anything else to `align` at least.
    let rounded = ((size + (align - 1)) & !(align - 1)).max(align);
    (rounded <= MAX_SMALL).then_some(rounded)
}

/// Gives back what any of the above returned. Null does nothing.
///
/// # Safety
/// `object` is null or was returned by this allocator (or by `F`'s) and is not used any more.
#[inline(always)]
pub unsafe fn free<F: Foreign>(object: *mut u8) {
    let block = Block::get();
    let heap = block.take();
    // SAFETY: `heap` as in `malloc`; the caller gives `object` up.
    if unsafe { HeapHot::push(heap, object) } {
        block.put(heap);
    } else {
        // SAFETY: the caller's promise.
        unsafe { slow::free::<F>(object, heap) };
    }
}

/// Changes the size of `object`, moving it if it must.
///
/// # Safety
/// As for [`free`], if it succeeds with another address.
#[inline(always)]
pub unsafe fn realloc<F: Foreign>(object: *mut u8, size: usize) -> *mut u8 {
    if object.is_null() {
        return malloc(size);
    }
    // SAFETY: the caller's promise.
    unsafe { slow::realloc::<F>(object, size, Block::get().take()) }
}
