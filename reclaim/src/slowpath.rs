//! The one retry loop: malloc, calloc, realloc and aligned requests all come through here.

use core::ptr::NonNull;

use zonal_allocator::watermark::WatermarkLevel;
use zonal_allocator::{AllocError, Attempt, BadPointer, Block, Heap, Mm, PurgeHow, Request};
use zonal_numa::PAGE_SIZE;

use crate::ladder::{self, Action, Rung};

/// Direct reclaim buys at least this many pages at a time, as the kernel's `SWAP_CLUSTER_MAX`.
const MIN_RECLAIM_PAGES: usize = 32;

/// Why a `realloc` failed; the old block is as it was.
#[derive(Clone, Copy, Debug)]
pub enum ReallocError {
    /// The pointer is no live block.
    Bad(BadPointer),
    /// No memory for the new size.
    Alloc(AllocError),
}

/// Memory for `request`, after as much reclaim as it takes.
///
/// # Errors
/// `Exhausted` only when nothing reclaimable is left, `TooLarge` and `BadAlign` at once.
///
/// # Safety
/// The calling thread owns `heap` and is inside none of its operations.
pub unsafe fn alloc(heap: NonNull<Heap>, request: Request) -> Result<Block, AllocError> {
    // SAFETY: heaps are never unmapped.
    let h = unsafe { heap.as_ref() };
    let mm = h.mm();
    let first = mm.next_node(h);
    let mut from = Attempt { node: first, level: WatermarkLevel::Low };
    // SAFETY: the caller owns the heap.
    match unsafe { h.alloc(request, from) } {
        Err(AllocError::Exhausted { .. }) => {}
        done => return done,
    }
    let zonelist = mm.zonelist(h.node());
    let nr_nodes = zonelist.len() as u8;
    let goal = request.size.div_ceil(PAGE_SIZE).max(MIN_RECLAIM_PAGES);
    let mut rung = Rung::Low;
    loop {
        let Some((action, after, level)) = ladder::next(rung, nr_nodes) else {
            return Err(AllocError::Exhausted { node: h.node(), order: 0 });
        };
        rung = after;
        from.level = level;
        // SAFETY: the caller owns the heap.
        unsafe { act(mm, heap, action, goal) };
        from.node = match action {
            Action::OtherNode(n) => zonelist[usize::from(n)],
            _ => first,
        };
        if !mm.may_use(h, from.node) {
            continue;
        }
        // SAFETY: the caller owns the heap.
        match unsafe { h.alloc(request, from) } {
            Err(AllocError::Exhausted { .. }) => {}
            done => return done,
        }
    }
}

/// # Safety
/// The calling thread owns `heap`.
unsafe fn act(mm: &'static Mm, heap: NonNull<Heap>, action: Action, goal: usize) {
    match action {
        // Below the low mark: the background reclaimer shall not wait for its tick.
        Action::Dip => mm.doorbell().hurry(),
        Action::OtherNode(_) | Action::UseReserve => {}
        Action::DrainOwn => {
            // SAFETY: the caller's promise.
            unsafe { mm.drain_own(heap) };
        }
        Action::Purge => {
            // SAFETY: heaps are never unmapped.
            let node = unsafe { heap.as_ref() }.node();
            mm.pages().purge(node, goal, PurgeHow::ALL);
        }
        Action::DrainAll => {
            mm.drain_all(Some(heap));
            mm.drain_huge();
            mm.purge_holes(Some(heap), PurgeHow::ALL, goal);
        }
    }
}

/// Gives the live block at `block` room for `size` bytes at alignment 16, moving it if it must.
///
/// # Errors
/// The old block stays as it was.
///
/// # Safety
/// The calling thread owns `heap`; `block` is not used by anybody else meanwhile.
pub unsafe fn realloc(
    heap: NonNull<Heap>,
    block: NonNull<u8>,
    size: usize,
) -> Result<NonNull<u8>, ReallocError> {
    // SAFETY: heaps are never unmapped.
    let h = unsafe { heap.as_ref() };
    let mm = h.mm();
    let usable = mm.usable_size(block).map_err(ReallocError::Bad)?;
    if let Some(same) = mm.resize(block, size) {
        return Ok(same);
    }
    let request = Request { size, align: 8, zeroed: false };
    // SAFETY: the caller's promise.
    let new = unsafe { alloc(heap, request) }.map_err(ReallocError::Alloc)?.start;
    // SAFETY: both blocks are live, distinct, and at least that large; the old one is given up
    // after the copy.
    unsafe {
        new.copy_from_nonoverlapping(block, usable.min(size));
        h.free(block).map_err(ReallocError::Bad)?;
    }
    Ok(new)
}

/// Frees any live block of the instance.
///
/// # Errors
/// The pointer is no live block; nothing is changed.
///
/// # Safety
/// The calling thread owns `heap`; the block is not used any more.
pub unsafe fn free(heap: NonNull<Heap>, block: NonNull<u8>) -> Result<(), BadPointer> {
    // SAFETY: the caller's promise; heaps are never unmapped.
    unsafe { heap.as_ref().free(block) }
}

/// Gives back to the system all that no live block needs, until `goal_bytes` are back. Returns the
/// bytes that went back.
pub fn trim(mm: &'static Mm, own: Option<NonNull<Heap>>, goal_bytes: usize) -> usize {
    mm.drain_all(own);
    if let Some(own) = own {
        // SAFETY: `own` is the calling thread's heap.
        unsafe { mm.drain_own(own) };
    }
    let mut bytes = mm.drain_huge();
    let goal_pages = goal_bytes.div_ceil(PAGE_SIZE);
    bytes += mm.purge_holes(own, PurgeHow::ALL, goal_pages.saturating_sub(bytes / PAGE_SIZE))
        * PAGE_SIZE;
    for node in mm.machine().topology().nodes_online().iter() {
        let left = goal_pages.saturating_sub(bytes / PAGE_SIZE);
        if left == 0 {
            break;
        }
        bytes += mm.pages().purge(node, left, PurgeHow::ALL) * PAGE_SIZE;
    }
    bytes
}
