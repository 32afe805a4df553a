//! The commons: partly used slabs that ended threads left, for all threads of their node.
//!
//! ```text
//!   a thread ends --> its heap is emptied --> its slabs --> commons --> whoever needs a slab
//! ```
//!
//! Objects outlive the threads that allocated them, and each keeps a slab that may be free for the
//! most part. So the slabs of a heap that is emptied move to another heap in the pool, the commons
//! of the node, and a refill looks there before it takes new pages: what the kernel's list of
//! partial slabs of a node is for. Where there are many threads, slabs are also made there, of which all take
//! their first objects ([`crate::refill`]); a thread that goes on to want more may take such a slab, too.
//!
//! # How a slab changes its owner
//!
//! * It leaves only heaps in the pool, whose bins are empty, and whoever moves it holds the pool's
//!   lock and is inside the gates of both heaps. So no hit can be under way in the old heap, and its
//!   next owner, who gets it under that lock, sees the new page words.
//! * Bins of other heaps of the group ([`crate::remote::group`]) may hold objects of the slab. To them nothing
//!   changes: when they leave the bin, they go where the word says then.
//! * Who frees an object of the slab meanwhile may still read the old word and sends it to the old
//!   owner, who finds it is not his and sends it on ([`Inner::put_stray`]).
//! * No refill waits for the commons: one that finds the pool's lock taken takes new pages.

use core::ptr::NonNull;

use zonal_numa::NodeId;

use crate::class::{NR_CLASSES, SizeClass};
use crate::heap::{Entered, Heap, Inner};
use crate::mm::Mm;
use crate::refill::MIN_THREADS_TO_SHARE;
use crate::registry::Remains;
use crate::slab::Slab;

const _: () = assert!(NR_CLASSES <= u64::BITS as usize);

/// A slab is for others when at least one in so many of its objects is free.
const WORTH_PART: usize = 16;
/// Slabs of the commons that a request looks at, and of each class of an emptied heap.
const LOOKS: usize = 32;
const MOST_SHARED: usize = 256;
/// Messages of the commons that a request opens: it holds the lock of the pool meanwhile.
const MOST_OPENED: usize = 16;

impl Mm {
    /// Makes the commons of `node` where there are so many threads that they share slabs from the start
    /// ([`crate::refill`]), unless there were any.
    pub(crate) fn prepare_commons(&'static self, node: NodeId) {
        let may_share = self.is_one_node() && !self.is_checked();
        if may_share
            && self.pages().nr_threads() >= MIN_THREADS_TO_SHARE
            && self.registry.claim_commons(node)
        {
            match self.make_heap(node, false) {
                Some(heap) => self.registry.put_dead(heap, Remains::Common),
                None => self.registry.unclaim_commons(node),
            }
        }
    }

    /// Puts a heap that was just emptied into the pool, its slabs into the commons, unless a visitor is
    /// in one of the two: then whoever drains the dead comes again.
    pub(crate) fn share(&self, heap: NonNull<Heap>) {
        // SAFETY: heaps are never unmapped.
        let h = unsafe { heap.as_ref() };
        // Memory of a node by name stays there, and what is checked keeps its neighbours.
        if h.is_pinned() || self.is_checked() {
            return self.registry.put_dead(heap, Remains::Empty);
        }
        let give = |from: &mut Entered<'_>, to: &mut Entered<'_>| {
            let commons = to.heap();
            SizeClass::all().for_each(|class| to.adopt_all(commons, class, from));
        };
        let remains = self.registry.put_common(heap, |from| from.worthy_classes(h), give);
        if remains == Remains::Whole {
            self.doorbell().ring();
        }
    }
}

impl Inner {
    /// Takes a partly used slab of `class` from the commons of the heap's node; whether there was one.
    pub(crate) fn adopt_common(&mut self, heap: &Heap, class: SizeClass) -> bool {
        let registry = &heap.mm().registry;
        if !registry.has_common(heap.node(), class) || heap.is_pinned() {
            return false;
        }
        registry.ask_commons(heap.node(), class, |commons| {
            // No use of the commons that kswapd should come for, or wait for the end of.
            let mut theirs = commons.try_enter_unnoted()?;
            let is_collected = theirs.collect_some(commons, MOST_OPENED);
            if let Some(slab) = theirs.worthy(heap, class, LOOKS).next() {
                self.adopt(heap, slab, &mut theirs);
                return Some(true);
            }
            // What is in the other messages may be of this class.
            is_collected.then_some(false)
        })
    }

    /// Takes what others sent back to commons into their slabs, as far as a request may; whether that was all.
    #[inline(never)]
    pub(crate) fn collect_some(&mut self, commons: &Heap, most: usize) -> bool {
        if commons.inbox.is_empty() && self.received.is_null() {
            return true;
        }
        commons.note_use();
        let mut nr_opened = 0;
        self.collect(commons, || {
            nr_opened += 1;
            nr_opened == most
        })
    }

    /// The classes of which others can use slabs, one bit each.
    pub(crate) fn worthy_classes(&self, heap: &Heap) -> u64 {
        let worthy = |class: &SizeClass| self.worthy(heap, *class, MOST_SHARED).next().is_some();
        SizeClass::all().filter(worthy).fold(0, |bits, class| bits | 1 << class.index())
    }

    /// Takes all slabs of `class` from another heap that are worth it.
    fn adopt_all(&mut self, heap: &Heap, class: SizeClass, from: &mut Inner) {
        for slab in from.worthy(heap, class, MOST_SHARED) {
            self.adopt(heap, slab, from);
        }
    }

    /// Those of the first `looks` listed slabs of `class` that others can use: on the node of `heap`
    /// and with enough that is free. One that was given out may leave the list before the next is
    /// asked for.
    fn worthy<'a>(
        &self,
        heap: &'a Heap,
        class: SizeClass,
        looks: usize,
    ) -> impl Iterator<Item = NonNull<Slab>> + use<'a> {
        let pages = heap.mm().pages();
        let mut next = NonNull::new(self.classes[class.index()].partial.head);
        let listed = core::iter::from_fn(move || {
            let slab = next?;
            // SAFETY: list members are live, and the caller is inside the gate.
            next = NonNull::new(unsafe { slab.as_ref() }.next);
            Some(slab)
        });
        listed.take(looks).filter(move |slab| {
            // SAFETY: as above.
            let s = unsafe { slab.as_ref() };
            s.nr_free() * WORTH_PART >= class.objects() && pages.node_of(s.head()) == heap.node()
        })
    }

    /// Takes a listed slab from another heap.
    fn adopt(&mut self, heap: &Heap, slab: NonNull<Slab>, from: &mut Inner) {
        let map = &heap.mm().pages().map;
        let slab = slab.as_ptr();
        // SAFETY: the slab is live and on a list of `from`; we are inside both gates.
        unsafe {
            let (class, head) = ((*slab).class(), (*slab).head());
            let is_empty = (*slab).is_empty();
            from.unlist(slab);
            // Both heaps are of one node.
            from.count_slabs(heap, class, -1);
            // See the module doc for who may read them meanwhile.
            map.set_words(head, Slab::pages(class), heap.slab_word(class));
            self.classes[class.index()].partial.push(slab);
            self.walk.forget_left();
            self.count_slabs(heap, class, 1);
            if is_empty {
                from.count_empty(class, -1);
                self.count_empty(class, 1);
            }
        }
    }
}
