//! The buddy core: free blocks by order, migratetype and warmth; split and merge.
//!
//! ```text
//!   areas[order][migratetype][warm|cold] -> head <-> block <-> block <-> tail
//! ```
//!
//! A *warm* block has a resident page, a *cold* one has none. The links stand in the cold words of
//! the heads, the order, migratetype and warmth in their page words, so that splitting and merging
//! write metadata that exists already and cannot fail.
//!
//! Invariants, under the zone lock:
//! * `[B1]` a free block is listed once, under what its head's word says; no other page of it has
//!   a word;
//! * `[B2]` two free buddies of one order are merged, unless that would mix the high-atomic
//!   reserve with other pageblocks; a merge never leaves the section, because sections are
//!   aligned to the largest block;
//! * `[B3]` the migratetype of a block is that of its pageblock (both pageblocks, at order 10).

use crate::order::{NR_ORDERS, Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Migratetype, NR_MIGRATETYPES, PageWord};

const NEXT: usize = 0;
const PREV: usize = 1;

/// A doubly linked list of blocks through their cold words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockList {
    head: Pfn,
    tail: Pfn,
    len: u32,
}

impl BlockList {
    pub(crate) const EMPTY: BlockList = BlockList { head: Pfn::NONE, tail: Pfn::NONE, len: 0 };

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn head(&self) -> Option<Pfn> {
        self.head.is_some().then_some(self.head)
    }

    pub(crate) fn tail(&self) -> Option<Pfn> {
        self.tail.is_some().then_some(self.tail)
    }

    /// The block after `pfn`, which is on a list.
    pub(crate) fn next(map: &PageMap, pfn: Pfn) -> Option<Pfn> {
        let next = Pfn::new(map.cold(pfn)[NEXT].load(Relaxed));
        next.is_some().then_some(next)
    }

    /// The block before `pfn`, which is on a list.
    pub(crate) fn prev(map: &PageMap, pfn: Pfn) -> Option<Pfn> {
        let prev = Pfn::new(map.cold(pfn)[PREV].load(Relaxed));
        prev.is_some().then_some(prev)
    }

    pub(crate) fn push_front(&mut self, map: &PageMap, pfn: Pfn) {
        let old = self.head;
        self.link(map, Pfn::NONE, pfn);
        self.link(map, pfn, old);
        self.len += 1;
    }

    pub(crate) fn push_back(&mut self, map: &PageMap, pfn: Pfn) {
        let old = self.tail;
        self.link(map, pfn, Pfn::NONE);
        self.link(map, old, pfn);
        self.len += 1;
    }

    pub(crate) fn unlink(&mut self, map: &PageMap, pfn: Pfn) {
        let [next, prev] = map.cold(pfn);
        self.link(map, Pfn::new(prev.load(Relaxed)), Pfn::new(next.load(Relaxed)));
        self.len -= 1;
    }

    /// Makes `b` follow `a`; either may be the list's end.
    fn link(&mut self, map: &PageMap, a: Pfn, b: Pfn) {
        if a.is_some() {
            map.cold(a)[NEXT].store(b.get(), Relaxed);
        } else {
            self.head = b;
        }
        if b.is_some() {
            map.cold(b)[PREV].store(a.get(), Relaxed);
        } else {
            self.tail = a;
        }
    }
}

/// The free blocks of a zone.
#[derive(Debug)]
pub(crate) struct Buddy {
    areas: [[[BlockList; 2]; NR_MIGRATETYPES]; NR_ORDERS],
    /// Bit `order` is set when that list is not empty.
    nonempty: [[u16; 2]; NR_MIGRATETYPES],
    pub(crate) splits: u64,
    pub(crate) merges: u64,
}

impl Buddy {
    pub(crate) fn new() -> Buddy {
        Buddy {
            areas: [[[BlockList::EMPTY; 2]; NR_MIGRATETYPES]; NR_ORDERS],
            nonempty: [[0; 2]; NR_MIGRATETYPES],
            splits: 0,
            merges: 0,
        }
    }

    pub(crate) fn list(&self, order: Order, mt: Migratetype, warm: bool) -> &BlockList {
        &self.areas[order.index()][mt.index()][usize::from(warm)]
    }

    /// The smallest order from `order` on that has a block of that kind.
    pub(crate) fn smallest(&self, order: Order, mt: Migratetype, warm: bool) -> Option<Order> {
        let orders = self.nonempty[mt.index()][usize::from(warm)] >> order.get() << order.get();
        (orders != 0).then(|| Order::from_bits(orders.trailing_zeros()))
    }

    /// Puts a free block back, merging it with its buddies as far as that goes. The chunks'
    /// counts already include it.
    pub(crate) fn free(&mut self, map: &PageMap, mut pfn: Pfn, mut order: Order) {
        while let Some(larger) = order.doubled() {
            let buddy = pfn.buddy(order);
            let same = |(buddy_order, ..): &(Order, Migratetype, bool)| *buddy_order == order;
            if !map.covers(buddy) || !map.word_at(buddy).as_buddy().as_ref().is_some_and(same) {
                break;
            }
            if order == Order::PAGEBLOCK && !marry(map, pfn, buddy) {
                break;
            }
            self.remove(map, buddy);
            self.merges += 1;
            pfn = pfn.block(larger);
            order = larger;
            if order == Order::MAX {
                // [B3] one migratetype for both halves.
                map.chunk(pfn.buddy(Order::PAGEBLOCK))
                    .set_migratetype(map.chunk(pfn).migratetype());
            }
        }
        self.insert(map, pfn, order);
    }

    /// Takes the block `target` of order `to` out of the listed block `pfn`: the rest goes back to
    /// the lists. The chunks' counts already exclude the part taken.
    pub(crate) fn carve(&mut self, map: &PageMap, pfn: Pfn, target: Pfn, to: Order) {
        let (mut order, ..) = self.remove(map, pfn);
        let mut half = pfn;
        while order > to {
            let Some(smaller) = order.halved() else { break };
            order = smaller;
            let (kept, rest) = if target.get() & (1 << order.get()) == 0 {
                (half, half.buddy(order))
            } else {
                (half.buddy(order), half)
            };
            self.insert(map, rest, order);
            self.splits += 1;
            half = kept;
        }
        debug_assert_eq!(half, target);
    }

    /// Unlists a block.
    pub(crate) fn remove(&mut self, map: &PageMap, pfn: Pfn) -> (Order, Migratetype, bool) {
        let block = map.word_at(pfn).as_buddy();
        debug_assert!(block.is_some(), "{pfn:?} heads no free block");
        let (order, mt, warm) = block.unwrap_or((Order::ZERO, Migratetype::Slab, false));
        let list = &mut self.areas[order.index()][mt.index()][usize::from(warm)];
        list.unlink(map, pfn);
        if list.len == 0 {
            self.nonempty[mt.index()][usize::from(warm)] &= !(1 << order.get());
        }
        map.set_word(pfn, PageWord::NOTHING);
        (order, mt, warm)
    }

    /// Changes the migratetype of the pageblock of `pfn` and moves its free blocks along.
    pub(crate) fn retype(&mut self, map: &PageMap, pfn: Pfn, mt: Migratetype) {
        let pair = pfn.block(Order::MAX);
        let whole = map.word_at(pair).as_buddy().is_some_and(|(order, ..)| order == Order::MAX);
        let (start, len) = if whole {
            (pair, Order::MAX.nr_pages())
        } else {
            (pfn.block(Order::PAGEBLOCK), PAGEBLOCK_PAGES)
        };
        for (chunk, ..) in map.pieces(start, len) {
            chunk.set_migratetype(mt);
        }
        let mut at = 0;
        while at < len {
            let head = start.add(at);
            if map.word_at(head).as_buddy().is_some() {
                let (order, ..) = self.remove(map, head);
                self.insert(map, head, order);
                at += order.nr_pages();
            } else {
                at += 1;
            }
        }
    }

    fn insert(&mut self, map: &PageMap, pfn: Pfn, order: Order) {
        let chunk = map.chunk(pfn);
        let mt = chunk.migratetype();
        let warm = is_warm(map, pfn, order);
        map.set_word(pfn, PageWord::buddy(order, mt, warm));
        let list = &mut self.areas[order.index()][mt.index()][usize::from(warm)];
        // Requests take from the front. Dense chunks stand there, so that emptier ones have a
        // chance to become whole. Cold pageblocks: base pages in front, huge pages at the back.
        let front = if order >= Order::PAGEBLOCK {
            warm || !chunk.is_whole()
        } else {
            chunk.nr_free() <= PAGEBLOCK_PAGES / 2
        };
        if front {
            list.push_front(map, pfn);
        } else {
            list.push_back(map, pfn);
        }
        self.nonempty[mt.index()][usize::from(warm)] |= 1 << order.get();
    }
}

/// Whether two free pageblocks may become one block of order 10.
fn marry(map: &PageMap, a: Pfn, b: Pfn) -> bool {
    let [a, b] = [a, b].map(|pfn| map.chunk(pfn).migratetype());
    a == b || (a != Migratetype::HighAtomic && b != Migratetype::HighAtomic)
}

/// Whether the free block has a resident page.
pub(crate) fn is_warm(map: &PageMap, pfn: Pfn, order: Order) -> bool {
    map.pieces(pfn, order.nr_pages()).any(|(chunk, lo, hi)| match chunk.nr_free_resident() {
        0 => false,
        // Every free page of the chunk is resident, so these are.
        n if n == chunk.nr_free() => true,
        _ => chunk.resident.any(lo, hi),
    })
}

/// Where in the free block `pfn` of order `from` a request of order `to` is best served: always
/// in the half with more resident pages, in the lower one if they are equal.
pub(crate) fn choose(map: &PageMap, mut pfn: Pfn, from: Order, to: Order) -> Pfn {
    let even = map.pieces(pfn, from.nr_pages()).all(|(chunk, ..)| {
        chunk.nr_free_resident() == 0 || chunk.nr_free_resident() == chunk.nr_free()
    });
    if even && from < Order::MAX {
        return pfn;
    }
    let resident = |pfn, order: Order| -> usize {
        map.pieces(pfn, order.nr_pages()).map(|(chunk, lo, hi)| chunk.resident.count(lo, hi)).sum()
    };
    let mut order = from;
    while let Some(half) = order.halved().filter(|&half| half >= to) {
        let upper = pfn.buddy(half);
        if resident(upper, half) > resident(pfn, half) {
            pfn = upper;
        }
        order = half;
    }
    pfn
}
