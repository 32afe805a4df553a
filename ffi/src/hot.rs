//! The hit paths: the few instructions that nearly every call takes.
//!
//! Each takes the thread's heap, tries the bin and gives the heap back. A miss goes on in
//! [`crate::slow`] with the heap still taken, which also covers a thread that has none. The heap is
//! the last argument there, so that the others stay in the registers in which they came.

use core::ptr::{self, NonNull};

use zonal_allocator::class::MAX_SMALL;
use zonal_allocator::{HeapHot, Push};
use zonal_numa::PAGE_SIZE;

use crate::foreign::Foreign;
use crate::slow;
use crate::tls::{self, Block};

/// `size` bytes, aligned as C demands; null when there is no memory.
#[inline(always)]
pub fn malloc(size: usize) -> *mut u8 {
    take(size, |heap| slow::malloc(size, heap))
}

/// [`malloc`] without what follows a miss.
///
/// # Errors
/// On a miss: the heap, which is still taken until [`malloc_missed`] has it.
#[inline(always)]
#[must_use = "who drops the answer to a miss leaves the heap taken"]
pub fn try_malloc(size: usize) -> Result<NonNull<u8>, *mut HeapHot> {
    let mut heap = ptr::null_mut();
    let object = take(size, |taken| {
        heap = taken;
        ptr::null_mut()
    });
    NonNull::new(object).ok_or(heap)
}

/// What follows a miss of [`try_malloc`].
///
/// # Safety
/// `heap` is what [`try_malloc`] answered on this thread for the same size, and is given once.
#[inline(always)]
pub unsafe fn malloc_missed(size: usize, heap: *mut HeapHot) -> *mut u8 {
    slow::malloc(size, heap)
}

/// `size` bytes of zeros.
#[inline(always)]
pub fn zalloc(size: usize) -> *mut u8 {
    take_zeros(size, |heap| slow::zalloc(size, heap))
}

/// `size` bytes aligned to `align`, a power of two.
#[inline(always)]
pub fn aligned(size: usize, align: usize) -> *mut u8 {
    let miss = |heap| slow::aligned(size, align, heap);
    match small(size, align) {
        Some(rounded) => take(rounded, miss),
        None => miss(Block::get().try_take()),
    }
}

/// `size` bytes of zeros aligned to `align`, a power of two.
#[inline(always)]
pub(crate) fn zalloc_aligned(size: usize, align: usize) -> *mut u8 {
    let miss = |heap| slow::zalloc_aligned(size, align, heap);
    match small(size, align) {
        Some(rounded) => take_zeros(rounded, miss),
        None => miss(Block::get().try_take()),
    }
}

/// An object of at least `size` bytes, or what `miss` gives.
#[inline(always)]
fn take(size: usize, miss: impl FnOnce(*mut HeapHot) -> *mut u8) -> *mut u8 {
    let heap = Block::get().current();
    if !tls::try_mark(heap) {
        return miss(tls::nothing());
    }
    // SAFETY: `heap` is this thread's heap, and it was taken.
    let object = unsafe { HeapHot::pop(heap, size) };
    if object.is_null() {
        return miss(heap);
    }
    tls::unmark(heap);
    object
}

/// The same with zeros.
#[inline(always)]
fn take_zeros(size: usize, miss: impl FnOnce(*mut HeapHot) -> *mut u8) -> *mut u8 {
    let heap = Block::get().current();
    if !tls::try_mark(heap) {
        return miss(tls::empty());
    }
    // SAFETY: as in `take`.
    let object = unsafe { HeapHot::pop(heap, size) };
    if object.is_null() {
        return miss(heap);
    }
    tls::unmark(heap);
    // SAFETY: `object` has at least `size` bytes and nobody else knows it.
    unsafe { ptr::write_bytes(object, 0, size) };
    object
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
    let heap = Block::get().current();
    if !tls::try_mark(heap) {
        // SAFETY: the caller's promise.
        return unsafe { slow::free_unsent::<F>(object, tls::empty()) };
    }
    // SAFETY: `heap` as in `take`; the caller gives `object` up.
    match unsafe { HeapHot::try_push(heap, object) } {
        Push::Done => tls::unmark(heap),
        // SAFETY: the caller's promise.
        Push::Missed(found) => unsafe { slow::free::<F>(object, heap, found) },
        // SAFETY: as above.
        Push::Unknown => unsafe { slow::free_unsent::<F>(object, heap) },
    }
}

/// [`free`] of an object of which the program says that it has `size` bytes, aligned to `align`, a
/// power of two. The size is compared and not believed.
///
/// # Safety
/// As for [`free`].
#[inline(always)]
pub unsafe fn free_sized<F: Foreign>(object: *mut u8, size: usize, align: usize) {
    let heap = Block::get().current();
    if !tls::try_mark(heap) {
        // SAFETY: the caller's promise.
        return unsafe { slow::free_sized_unsent::<F>(object, size, tls::empty(), align) };
    }
    let class_size = if align <= 1 { size } else { small(size, align).unwrap_or(usize::MAX) };
    // SAFETY: as in `free`.
    match unsafe { HeapHot::push_sized(heap, object, class_size) } {
        Push::Done => tls::unmark(heap),
        // SAFETY: the caller's promise.
        Push::Missed(found) => unsafe {
            slow::free_sized::<F>(object, size, heap, align, found);
        },
        // SAFETY: as above.
        Push::Unknown => unsafe { slow::free_sized_unsent::<F>(object, size, heap, align) },
    }
}

/// Usable bytes of a live object; 0 for null. Nothing is taken: it only looks.
///
/// # Safety
/// `object` is null or alive.
#[inline(always)]
pub unsafe fn usable_size<F: Foreign>(object: *mut u8) -> usize {
    // SAFETY: `current` is the empty heap, or one of this thread's.
    let size = unsafe { HeapHot::size_of(Block::get().current(), object) };
    // SAFETY: the caller's promise.
    size.unwrap_or_else(|| unsafe { slow::usable_size::<F>(object) })
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
    // SAFETY: `current` is the empty heap, or one of this thread's. To look, it need not be taken.
    if unsafe { HeapHot::may_stay(Block::get().current(), object, size) } {
        return object;
    }
    // SAFETY: the caller's promise.
    unsafe { move_small::<F>(object, size) }
}

/// [`realloc`] of what shall not stay where it is: from bin to bin, or as it comes.
///
/// # Safety
/// As for [`realloc`].
#[inline(never)]
unsafe fn move_small<F: Foreign>(object: *mut u8, size: usize) -> *mut u8 {
    let heap = Block::get().current();
    if !tls::try_mark(heap) {
        // SAFETY: the caller's promise.
        return unsafe { slow::realloc::<F>(object, size, tls::empty()) };
    }
    // SAFETY: `heap` as in `take`; the caller gives `object` up if it moves.
    let moved = unsafe { HeapHot::try_move(heap, object, size) };
    if moved.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { slow::realloc::<F>(object, size, heap) };
    }
    tls::unmark(heap);
    moved
}
