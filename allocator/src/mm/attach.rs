//! Heaps for threads: taken when they start, exchanged when they move, given back when they end.

use core::ptr::NonNull;

use zonal_numa::{MemPolicy, NodeId, NodeMask};

use super::Mm;
use crate::deadline::Deadline;
use crate::error::AllocError;
use crate::heap::{Heap, HeapKind, OwnHeap};
use crate::registry::Remains;
use crate::remote::group::Sharing;

/// Heaps of ended threads that wait whole for the next ones; where more threads end than begin, what
/// the others held is for those that still run.
const WHOLE_HEAPS: usize = 2;

impl Mm {
    /// A heap for a thread that starts: one that a thread on this node left, or a new one.
    ///
    /// # Errors
    /// `Exhausted` when there is no memory for it.
    pub fn attach(&'static self) -> Result<OwnHeap, AllocError> {
        self.attach_asking(None)
    }

    /// The same for a thread that asked for a policy before.
    fn attach_asking(&'static self, asked: Option<MemPolicy>) -> Result<OwnHeap, AllocError> {
        self.pages.refresh_allowed();
        let policy = self.policy_now(asked);
        let node = self.home_for(policy, self.machine().current_node());
        let (heap, _) = self.heap_on(node, false)?;
        self.pages.note_thread();
        self.prepare_commons(node);
        // SAFETY: taken from the pool, or made, for the calling thread, which has begun no operation of it.
        let own = unsafe { OwnHeap::new(heap) };
        own.adopt_policy(policy, asked);
        Ok(own)
    }

    /// A heap whose memory is all of `node`, for whoever holds it: not to be used by two threads at
    /// a time, and to be given back by [`Mm::detach`]. `held`: it stays with its holder in a child.
    ///
    /// # Errors
    /// `Exhausted` when there is no memory for it, or the node has none that may be used.
    pub fn attach_on(&'static self, node: NodeId, held: bool) -> Result<OwnHeap, AllocError> {
        self.pages.refresh_allowed();
        let exhausted = AllocError::Exhausted { node, order: 0 };
        let policy = MemPolicy::bind(NodeMask::of(node));
        if !self.pages.allowed().contains(node) {
            return Err(exhausted);
        }
        let (heap, _) = self.heap_on(node, true)?;
        self.pages.note_thread();
        // SAFETY: as in `attach_asking`.
        let own = unsafe { OwnHeap::new(heap) };
        own.adopt_policy(policy, Some(policy));
        own.set_held(held);
        self.bound_from_now_on(policy);
        Ok(own)
    }

    /// Lets `work` have another heap for one request of the owner of `heap`, in which a visitor is. No
    /// thread begins or ends for that, and no more is done for it than that.
    ///
    /// # Errors
    /// `Exhausted` when there is none, nor memory for one.
    pub(crate) fn with_another<T>(
        &'static self,
        heap: &Heap,
        work: impl FnOnce(&'static Heap) -> T,
    ) -> Result<T, AllocError> {
        let (borrowed, remains) = self.heap_on(heap.node(), heap.is_pinned())?;
        // SAFETY: heaps are never unmapped, and this one is the caller's now.
        let other = unsafe { borrowed.as_ref() };
        let turns = other.lend_to(heap);
        let done = work(other);
        other.end_lending(turns);
        // The bins of commons are empty, and those of this one may not be any more. No thread left it whole,
        // though: it does not count among those heaps.
        let is_common = remains == Remains::Common;
        self.registry.put_dead(borrowed, if is_common { Remains::Empty } else { remains });
        Ok(done)
    }

    /// A heap of the node in which nobody is, and what remains there; or any other for want of memory.
    fn heap_on(
        &'static self,
        node: NodeId,
        pinned: bool,
    ) -> Result<(NonNull<Heap>, Remains), AllocError> {
        let fits = |heap: &Heap| heap.is_pinned() == pinned && heap.node() == node;
        if let Some(found) = self.registry.take_dead(fits) {
            return Ok(found);
        }
        let any = || self.registry.take_dead(|heap| !pinned && !heap.is_pinned());
        let fresh = self.make_heap(node, pinned).map(|heap| (heap, Remains::Empty));
        fresh.or_else(any).ok_or(AllocError::Exhausted { node, order: 0 })
    }

    /// A new heap.
    pub(crate) fn make_heap(&'static self, node: NodeId, pinned: bool) -> Option<NonNull<Heap>> {
        let block = self.meta.alloc(self.machine(), size_of::<Heap>())?;
        let place = block.cast::<Heap>();
        let sharing = self.sharing_of(pinned);
        let kind = HeapKind { node, barrier: self.barrier, is_pinned: pinned, sharing };
        // SAFETY: a fresh block of that size, aligned to its size, which nobody else knows.
        let is_published = unsafe {
            Heap::init(place, self, kind);
            self.registry.publish(self.machine(), place)
        };
        if !is_published {
            // SAFETY: from `alloc`, with that size, and nobody saw it.
            unsafe { self.meta.free(block, size_of::<Heap>()) };
        }
        is_published.then_some(place)
    }

    /// With whom a new heap shares objects.
    fn sharing_of(&self, pinned: bool) -> Sharing {
        let nodes = self.machine().topology().nodes_online();
        let nr_nodes = nodes.iter().map(|node| node.index() as u8 + 1).max().unwrap_or(1);
        if self.is_checked() {
            // Checked blocks go home: their owner checks them.
            Sharing::Nobody(nr_nodes)
        } else if pinned {
            Sharing::OfNode { is_one_of_several: !self.is_one_node() }
        } else if self.is_one_node() {
            Sharing::Threads
        } else {
            Sharing::Nobody(nr_nodes)
        }
    }

    /// Takes the heap of a thread that ends.
    ///
    /// # Safety
    /// The calling thread does not use `own` or a copy of it afterwards.
    pub unsafe fn detach(&'static self, own: OwnHeap) {
        let is_one_too_many = self.registry.nr_whole() >= WHOLE_HEAPS;
        self.bury(own.as_non_null(), if is_one_too_many { Remains::Empty } else { Remains::Whole });
    }

    /// Takes a heap that the calling thread owned, as it is or emptied before, unless a visitor is in it:
    /// nobody waits for that.
    fn bury(&'static self, heap: NonNull<Heap>, remains: Remains) {
        // SAFETY: heaps are never unmapped.
        let h = unsafe { heap.as_ref() };
        h.set_held(false);
        // Whoever drains the dead shall come, also if nobody gets in here: hits leave no trace.
        h.note_use();
        if remains == Remains::Whole {
            match h.try_enter() {
                Some(mut inner) => {
                    inner.collect(h, || false);
                    inner.send_reused(h, || false);
                    inner.post_all(h);
                    inner.settle_flight(h);
                }
                None => self.doorbell().ring(),
            }
            self.registry.put_dead(heap, remains);
        } else if self.registry.empty_or_put(heap, |inner| {
            inner.drain_owned(Deadline::NEVER);
        }) {
            self.share(heap);
        } else {
            self.doorbell().ring();
        }
        self.pages.note_thread_end();
    }

    /// Whether the calling thread is to [`Mm::exchange`] its heap: it has moved to another node, or its policy
    /// has.
    #[inline]
    pub fn is_astray(&self, own: OwnHeap) -> bool {
        !self.one_node && own.heap().is_astray()
    }

    /// A heap of the node where the thread is now, for the thread's old one. That stays behind with
    /// all its slabs, which so remain at home, and goes to another thread of its node.
    ///
    /// # Safety
    /// The calling thread uses only the answer afterwards, and no copy of `old`.
    #[cold]
    pub unsafe fn exchange(&'static self, old: OwnHeap) -> OwnHeap {
        let Ok(new) = self.attach_asking(old.asked_policy()) else { return old };
        new.take_mark_of(&old);
        new.set_signals(old.signals());
        self.note_migration(new.node());
        if let Some(bad) = old.take_fault() {
            new.note_fault(bad);
        }
        // Whole, for the next thread there.
        self.bury(old.as_non_null(), Remains::Whole);
        new
    }
}
