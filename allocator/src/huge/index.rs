//! The index of huge blocks: an array sorted by address, in a mapping of its own, and the sums over
//! it.

use core::ptr;

use zonal_numa::{MemPolicy, NodeId, PAGE_SIZE, Span};

use crate::misuse::{BadKind, BadPointer};
use crate::pages::Pages;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Live,
    /// Free since that time.
    Cached(u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub(super) span: Span,
    pub(super) state: State,
    /// What it is charged to.
    pub(super) node: NodeId,
    /// The policy that its pages follow where nodes take turns; else local, and they are its node's.
    pub(super) turns: MemPolicy,
    /// OS pages of it that are known to be on other nodes.
    pub(super) strays: u32,
    /// Whether huge pages were asked for.
    pub(super) by_huge_pages: bool,
    /// Its blocks get huge pages where large blocks are dense, and tell whether they are: none was asked for
    /// with zeros, or grew. Never true again, or requests of both kinds would have it mapped anew in turns.
    pub(super) tells: bool,
}

#[derive(Debug)]
pub(super) struct Index {
    memory: Span,
    items: *mut Mapping,
    nr: usize,
    capacity: usize,
    /// Items that are out of it while the system moves them, and come back.
    nr_moving: usize,
    pub(super) live_bytes: usize,
    pub(super) cached_bytes: usize,
    /// The block that was handed out last on a node that memory is bound to, and how much of it was
    /// looked at.
    pub(super) last_bound: (usize, usize),
    /// The most that `live_bytes` was since mappings were last aged.
    pub(super) peak_bytes: usize,
}

// SAFETY: the array belongs to the index and moves with its lock.
unsafe impl Send for Index {}

impl Mapping {
    /// Whether its pages are where a request for this node and these turns wants them.
    pub(super) fn is_at(&self, (node, turns): (NodeId, MemPolicy)) -> bool {
        (self.node, self.turns) == (node, turns)
    }
}

impl Index {
    pub(super) const EMPTY: Index = Index {
        memory: Span::EMPTY,
        items: ptr::null_mut(),
        nr: 0,
        capacity: 0,
        nr_moving: 0,
        live_bytes: 0,
        cached_bytes: 0,
        last_bound: (0, 0),
        peak_bytes: 0,
    };

    pub(super) fn items_mut(&mut self) -> &mut [Mapping] {
        if self.items.is_null() {
            return &mut [];
        }
        // SAFETY: the first `nr` items are initialised.
        unsafe { core::slice::from_raw_parts_mut(self.items, self.nr) }
    }

    pub(super) fn find(&mut self, addr: usize) -> Option<usize> {
        self.items_mut().binary_search_by_key(&addr, |m| m.span.addr()).ok()
    }

    /// The live block that starts at `addr`, and its number.
    pub(super) fn find_live(&mut self, addr: usize) -> Result<(usize, Mapping), BadPointer> {
        match self.find(addr) {
            Some(i) if self.items_mut()[i].state == State::Live => Ok((i, self.items_mut()[i])),
            Some(_) => Err(BadPointer::new(addr, BadKind::DoubleFree)),
            None => Err(BadPointer::new(addr, self.kind_of(addr))),
        }
    }

    fn kind_of(&mut self, addr: usize) -> BadKind {
        let items = self.items_mut();
        let i = items.partition_point(|m| m.span.addr() <= addr);
        match i.checked_sub(1).map(|i| items[i]) {
            Some(m) if m.span.contains(addr) => match m.state {
                State::Live => BadKind::Interior,
                State::Cached(_) => BadKind::NotAllocated,
            },
            _ => BadKind::Foreign,
        }
    }

    pub(super) fn make_live(&mut self, i: usize) {
        let len = self.items_mut()[i].span.len();
        self.items_mut()[i].state = State::Live;
        self.cached_bytes -= len;
        self.add_live(len);
    }

    pub(super) fn add_live(&mut self, len: usize) {
        self.live_bytes += len;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
    }

    /// Bytes of the array itself.
    pub(super) fn own_bytes(&self) -> usize {
        self.memory.len()
    }

    /// Whether one more item fits without a larger array.
    pub(super) fn has_slot(&self) -> bool {
        self.nr + self.nr_moving < self.capacity
    }

    pub(super) fn insert(&mut self, pages: &Pages, mapping: Mapping) -> bool {
        if !self.has_slot() && !self.grow(pages) {
            return false;
        }
        self.add_live(mapping.span.len());
        self.place(mapping);
        true
    }

    pub(super) fn place(&mut self, mapping: Mapping) {
        debug_assert!(self.nr < self.capacity);
        let i = self.items_mut().partition_point(|m| m.span.addr() < mapping.span.addr());
        // SAFETY: there is room for one more item.
        unsafe {
            let at = self.items.add(i);
            at.add(1).copy_from(at, self.nr - i);
            at.write(mapping);
        }
        self.nr += 1;
    }

    /// Takes live item `i` out while its owner, whose alone it is, lets the system move or resize it without the
    /// lock: once it has moved, its old place may be another thread's new mapping. It counts as live.
    pub(super) fn begin_move(&mut self, i: usize) -> Mapping {
        debug_assert_eq!(self.items_mut()[i].state, State::Live);
        self.nr_moving += 1;
        self.remove(i)
    }

    /// Enters what became of it.
    pub(super) fn end_move(&mut self, old: Mapping, moved: Mapping) {
        self.nr_moving -= 1;
        self.live_bytes -= old.span.len();
        self.add_live(moved.span.len());
        // Its slot was kept.
        self.place(moved);
    }

    /// In a forked child, where nobody is left who would enter what moves: nor is who owns it.
    pub(super) fn forget_moving(&mut self) {
        self.nr_moving = 0;
    }

    pub(super) fn remove(&mut self, i: usize) -> Mapping {
        // SAFETY: `i` is below `nr`.
        unsafe {
            let at = self.items.add(i);
            let mapping = at.read();
            at.copy_from(at.add(1), self.nr - i - 1);
            self.nr -= 1;
            mapping
        }
    }

    fn grow(&mut self, pages: &Pages) -> bool {
        let bytes = (self.capacity * 2 * size_of::<Mapping>()).max(16 << 10);
        let Ok(span) = pages.machine.map(bytes, PAGE_SIZE) else { return false };
        let items = ptr::with_exposed_provenance_mut::<Mapping>(span.addr());
        if !self.items.is_null() {
            // SAFETY: the new array is larger; the old one is unmapped after the copy.
            unsafe { items.copy_from_nonoverlapping(self.items, self.nr) };
            let _ = pages.machine.unmap(self.memory);
        }
        self.memory = span;
        self.items = items;
        self.capacity = bytes / size_of::<Mapping>();
        true
    }
}
