//! Memory of a node of the caller's choice, whatever the thread's policy.
//!
//! It comes from heaps of its own, which take pages of their node only, and is freed like any other.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use zonal_allocator::{AllocError, Block, Mm, OwnHeap, Request};
use zonal_numa::NodeId;

use crate::errno::SavedErrno;
use crate::thread::{Seat, SlowCall};
use crate::{abort, tls};

/// Where to look when the node has no memory left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spill {
    /// On the other nodes by distance.
    Nearest,
    /// Nowhere: the kernel's `__GFP_THISNODE`.
    ThisNode,
}

/// `size` bytes on `node`, aligned as those of malloc; null with `ENOMEM`, or with `EINVAL` for a
/// node that there is not.
pub fn alloc_on_node(size: usize, node: usize, spill: Spill) -> *mut u8 {
    let errno = SavedErrno::save();
    let request = Request { size, align: 16, zeroed: false, grows: false };
    let block = SlowCall::begin(tls::Block::get().take()).ok_or(libc::ENOMEM).and_then(|call| {
        let (mm, Seat::Heap(_)) = (call.mm(), call.seat()) else { return Err(libc::ENOMEM) };
        let online = mm.machine().topology().nodes_online();
        let node = NodeId::from_index(node).filter(|&node| online.contains(node));
        allocate(mm, node.ok_or(libc::EINVAL)?, request, spill).ok_or(libc::ENOMEM)
    });
    match block {
        Ok(block) => block.start.as_ptr(),
        Err(number) => {
            errno.fail(number);
            ptr::null_mut()
        }
    }
}

/// The calling thread is in a slow call.
fn allocate(mm: &'static Mm, node: NodeId, request: Request, spill: Spill) -> Option<Block> {
    let near = mm.zonelist(node);
    let nodes = match spill {
        Spill::Nearest => near,
        // A node without memory has the nearest one first.
        Spill::ThisNode => near.get(..1).filter(|first| first[0] == node)?,
    };
    nodes.iter().find_map(|&node| {
        let own = mm.attach_on(node, false).ok()?;
        let block = take(own, request);
        // SAFETY: not used any more.
        unsafe { mm.detach(own) };
        block.ok()
    })
}

/// The calling thread is in a slow call.
fn take(own: OwnHeap, request: Request) -> Result<Block, AllocError> {
    let block = zonal_reclaim::alloc(own, request);
    if let Some(bad) = own.take_fault() {
        abort::bad_pointer_late(bad);
    }
    block
}

/// A heap whose memory is all of one node.
///
/// ```
/// use core::alloc::Layout;
/// use zonal::policy::NodeId;
///
/// let heap = zonal::Heap::on_node(NodeId::ZERO).expect("memory for a heap");
/// let block = heap.alloc(Layout::new::<[u64; 100]>()).expect("memory");
/// // SAFETY: a live block of zonal that nobody uses.
/// unsafe { zonal::Heap::free(block) };
/// ```
///
/// Its blocks outlive it. They may be freed by any thread, as memory of [`crate::Zonal`] or by C's
/// `free` where that is zonal's. (A `realloc` may move them to the node of the thread.)
#[derive(Debug)]
pub struct Heap {
    heap: NonNull<zonal_allocator::Heap>,
    mm: &'static Mm,
    node: NodeId,
}

// SAFETY: a heap belongs to whoever holds it, one thread at a time; `Heap` is not `Sync`.
unsafe impl Send for Heap {}

impl Heap {
    /// A heap on that node; none if there is no such node, the process may not use it, or there is
    /// no memory.
    pub fn on_node(node: NodeId) -> Option<Heap> {
        in_slow_call(|mm| {
            let heap = mm.attach_on(node, true).ok()?.as_non_null();
            Some(Heap { heap, mm, node })
        })
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// For a call of the holder's.
    fn own(&self) -> OwnHeap {
        // SAFETY: the holder of the handle owns the heap, and is one thread at a time.
        unsafe { OwnHeap::new(self.heap) }
    }

    /// A block on the node; none if the node has no memory left ([`Spill::ThisNode`]).
    pub fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        let request = Request {
            size: layout.size(),
            align: layout.align().max(8),
            zeroed: false,
            grows: false,
        };
        in_slow_call(|_| take(self.own(), request).ok()).map(|block| block.start)
    }

    /// Frees a block of any heap of zonal.
    ///
    /// # Safety
    /// The block is alive and not used any more.
    pub unsafe fn free(block: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { crate::hot::free::<crate::foreign::Alone>(block.as_ptr()) };
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let mm = self.mm;
        // In a signal handler that interrupted this thread it is lost, with what it caches.
        in_slow_call(|_| {
            // SAFETY: the holder gives it away.
            unsafe { mm.detach(self.own()) };
            Some(())
        });
    }
}

/// Works while the calling thread has no heap that a signal handler could use.
fn in_slow_call<R>(work: impl FnOnce(&'static Mm) -> Option<R>) -> Option<R> {
    let _errno = SavedErrno::save();
    SlowCall::begin(tls::Block::get().take()).and_then(|call| match call.seat() {
        Seat::Heap(_) => work(call.mm()),
        Seat::Interrupted => None,
    })
}
