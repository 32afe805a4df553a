//! Huge blocks: mapped directly, above what the buddy core serves.
//!
//! An index sorted by address tells what is where. Freed mappings stay for a while and are reused
//! best-fit, because mapping and first touch cost far more than the block's own use; where none is
//! large enough, the largest is extended. Kept mappings never raise the peak: together with the
//! blocks in use they hold no more than those held at their highest in recent time. They leave by
//! age, and when others need the room. The index lives in a mapping of its own and every operation
//! is all-or-nothing. System calls are made outside the lock, except the growth of the index.

use core::ptr::{self, NonNull};

use zonal_numa::{MemPolicy, NodeId, PAGE_SIZE, Span};

use crate::error::AllocError;
use crate::grow::HugePolicy;
use crate::lock::{FutexLock, Mutex};
use crate::misuse::{BadKind, BadPointer};
use crate::mm::Request;
use crate::order::PAGEBLOCK_PAGES;
use crate::pages::Pages;
use crate::policy::is_in_turn;
use crate::room::Footing;
use crate::watermark::WatermarkLevel;
use crate::zone::Thp;

/// What all cached mappings together may hold, in bytes.
const CACHE_BYTES: usize = 512 << 20;
/// A block that grows gets one part in so many more than asked for.
const GROWTH_PART: usize = 8;
/// Part of the request that a cached mapping must have to be extended.
const EXTEND_PART: usize = 4;
/// A cached mapping unused for this long is unmapped.
const CACHE_NS: u64 = 1_000_000_000;
/// A cached mapping is cut if more than one eighth of it is too much.
const FIT_SHIFT: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// Free since that time.
    Cached(u64),
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    span: Span,
    state: State,
    /// What it is charged to.
    node: NodeId,
    /// The policy that its pages follow where nodes take turns; else local, and they are its node's.
    turns: MemPolicy,
    /// OS pages of it that are known to be on other nodes.
    strays: u32,
}

/// The index of huge blocks.
#[derive(Debug)]
pub(crate) struct Huge {
    index: Mutex<Index>,
}

#[derive(Debug)]
struct Index {
    memory: Span,
    items: *mut Mapping,
    nr: usize,
    capacity: usize,
    live_bytes: usize,
    cached_bytes: usize,
    /// The block that was handed out last on a node that memory is bound to.
    last_bound: usize,
    /// The most that `live_bytes` was since mappings were last aged.
    peak_bytes: usize,
}

// SAFETY: the array belongs to the index and moves with its lock.
unsafe impl Send for Index {}

/// A huge block as handed out.
#[derive(Debug)]
pub(crate) struct HugeBlock {
    pub(crate) span: Span,
    pub(crate) known_zero: bool,
}

impl Huge {
    pub(crate) fn new() -> Huge {
        let index = Index {
            memory: Span::EMPTY,
            items: ptr::null_mut(),
            nr: 0,
            capacity: 0,
            live_bytes: 0,
            cached_bytes: 0,
            last_bound: 0,
            peak_bytes: 0,
        };
        Huge { index: Mutex::new(index) }
    }

    /// A block for the request, which is larger than the buddy core serves.
    pub(crate) fn alloc(
        &self,
        pages: &Pages,
        (node, policy): (NodeId, HugePolicy<'_>),
        request: Request,
        level: WatermarkLevel,
    ) -> Result<HugeBlock, AllocError> {
        let granule = pages.machine.page_size();
        let len = request.size.checked_next_multiple_of(granule).ok_or(AllocError::TooLarge)?;
        let exhausted = AllocError::Exhausted { node, order: 10 };
        let in_turn = is_in_turn(policy.policy);
        let turns = if in_turn { policy.policy } else { MemPolicy::LOCAL };
        let is_bound = !in_turn && pages.is_bound(node);
        if let Some(span) = self.take_cached(pages, (node, turns), len, request.align) {
            if !is_bound {
                return Ok(HugeBlock { span, known_zero: false });
            }
            if pages.secure_block(node, span) {
                self.look_at_last(pages, span);
                return Ok(HugeBlock { span, known_zero: false });
            }
            self.discard(pages, span);
            return Err(exhausted);
        }
        let footing = if in_turn { Footing::Ample } else { pages.footing(node, len, level) };
        if footing == Footing::Full || !pages.charge_huge(node, len / PAGE_SIZE, level) {
            return Err(exhausted);
        }
        let by_huge_pages = match pages.thp {
            _ if footing == Footing::Firm => false,
            Thp::Never => false,
            // Whoever asks for no zeros will write what it asks for.
            Thp::Auto => !request.zeroed,
            Thp::Always => true,
        };
        // Where nodes take turns, the kernel goes by its huge pages where they fit: without a
        // border of them at the start, blocks of one size would leave out the same node again and
        // again.
        let wants_border = by_huge_pages || in_turn;
        let border = if wants_border { PAGEBLOCK_PAGES * PAGE_SIZE } else { PAGE_SIZE };
        if let Ok(span) = pages.machine.map(len, request.align.max(border)) {
            pages.bind_huge(node, policy, span);
            if by_huge_pages {
                // A wish: small pages serve as well.
                let _ = pages.machine.advise_huge(span, true);
            }
            let mapping = Mapping { span, state: State::Live, node, turns, strays: 0 };
            let is_placed = footing == Footing::Ample || pages.fill(node, span);
            let entered = is_placed && self.index.lock().insert(pages, mapping);
            if entered {
                if is_bound {
                    self.look_at_last(pages, span);
                }
                self.keep_to_peak(pages);
                return Ok(HugeBlock { span, known_zero: true });
            }
            let _ = pages.machine.unmap(span);
            if !is_placed {
                pages.mark_full(node);
            }
        }
        pages.uncharge_huge(node, len / PAGE_SIZE);
        Err(exhausted)
    }

    /// Frees the block at `addr`.
    pub(crate) fn free(&self, pages: &Pages, addr: usize) -> Result<(), BadPointer> {
        let now = pages.machine.now_ns();
        let mut index = self.index.lock();
        let Some(i) = index.find(addr) else {
            return Err(BadPointer::new(addr, index.kind_of(addr)));
        };
        if index.items_mut()[i].state != State::Live {
            return Err(BadPointer::new(addr, BadKind::DoubleFree));
        }
        let mapping = index.items_mut()[i];
        if mapping.turns == MemPolicy::LOCAL {
            pages.note_stray_block(mapping.node, mapping.span, mapping.strays as usize);
        }
        let len = mapping.span.len();
        if len + index.cached_bytes <= CACHE_BYTES {
            index.cache(i, now);
            drop(index);
        } else {
            index.live_bytes -= len;
            let mapping = index.remove(i);
            drop(index);
            unmap(pages, mapping);
        }
        self.age(pages, now, CACHE_NS);
        Ok(())
    }

    /// `next` was handed out on a node that memory is bound to. Looks where the one before it is: by
    /// now it was touched.
    fn look_at_last(&self, pages: &Pages, next: Span) {
        let mut index = self.index.lock();
        let last = core::mem::replace(&mut index.last_bound, next.addr());
        let Some(i) = index.find(last) else { return };
        let mapping = index.items_mut()[i];
        if mapping.turns != MemPolicy::LOCAL {
            return;
        }
        // Without the lock, because it may take long. If the block is freed meanwhile and something
        // else of the process mapped there, that is moved to the node: a loss of time at most.
        drop(index);
        let known = mapping.strays as usize;
        let strays = pages.bring_block_home(mapping.node, mapping.span, known);
        let mut index = self.index.lock();
        if let Some(i) = index.find(last) {
            index.items_mut()[i].strays = strays as u32;
        }
    }

    /// Unmaps a live block that nobody got.
    fn discard(&self, pages: &Pages, span: Span) {
        let mut index = self.index.lock();
        if let Some(i) = index.find(span.addr()) {
            index.live_bytes -= span.len();
            let mapping = index.remove(i);
            drop(index);
            unmap(pages, mapping);
        }
    }

    /// Unmaps cached mappings that were not used for `age_ns`; returns the bytes.
    pub(crate) fn age(&self, pages: &Pages, now: u64, age_ns: u64) -> usize {
        let bytes = self.evict(pages, |_, since| now.saturating_sub(since) >= age_ns);
        let mut index = self.index.lock();
        index.peak_bytes = index.live_bytes + index.cached_bytes;
        bytes
    }

    /// Unmaps all cached mappings; returns the bytes.
    pub(crate) fn drain(&self, pages: &Pages) -> usize {
        self.evict(pages, |_, _| true)
    }

    /// Unmaps cached mappings, the oldest first, that would make for a new peak.
    fn keep_to_peak(&self, pages: &Pages) {
        self.evict(pages, |index, _| index.live_bytes + index.cached_bytes > index.peak_bytes);
    }

    /// Unmaps the oldest cached mapping as long as `may_go`, which gets the time that it was freed.
    fn evict(&self, pages: &Pages, may_go: impl Fn(&Index, u64) -> bool) -> usize {
        let mut bytes = 0;
        loop {
            let mut index = self.index.lock();
            if index.cached_bytes == 0 {
                return bytes;
            }
            let times = index.items_mut().iter().enumerate().filter_map(|(i, m)| match m.state {
                State::Cached(since) => Some((since, i)),
                State::Live => None,
            });
            let Some((_, i)) = times.min().filter(|&(since, _)| may_go(&index, since)) else {
                return bytes;
            };
            let mapping = index.remove(i);
            index.cached_bytes -= mapping.span.len();
            drop(index);
            bytes += mapping.span.len();
            unmap(pages, mapping);
        }
    }

    /// A cached mapping for a request of `len` bytes, extended if none is large enough.
    fn take_cached(
        &self,
        pages: &Pages,
        place: (NodeId, MemPolicy),
        len: usize,
        align: usize,
    ) -> Option<Span> {
        let mut index = self.index.lock();
        if let Some(span) = index.take_fitting(place, len, align) {
            return Some(span);
        }
        // A move keeps no alignment beyond that of a page.
        if align > pages.machine.page_size() {
            return None;
        }
        let i = index.largest(place).filter(|&(have, _)| have >= len / EXTEND_PART)?.1;
        index.make_live(i);
        let old = index.items_mut()[i].span;
        let span = index.remap(pages, i, (len, WatermarkLevel::Low));
        if span.is_none() {
            // As it was, but for its age.
            index.live_bytes -= old.len();
            index.cached_bytes += old.len();
            index.items_mut()[i].state = State::Cached(0);
        }
        drop(index);
        self.keep_to_peak(pages);
        span
    }

    /// Bytes of the live block that starts at `addr`.
    pub(crate) fn size_of(&self, addr: usize) -> Result<usize, BadPointer> {
        let mut index = self.index.lock();
        match index.find(addr) {
            Some(i) if index.items_mut()[i].state == State::Live => {
                Ok(index.items_mut()[i].span.len())
            }
            Some(_) => Err(BadPointer::new(addr, BadKind::DoubleFree)),
            None => Err(BadPointer::new(addr, index.kind_of(addr))),
        }
    }

    /// Grows or shrinks the live block at `addr` by `mremap`; the new address, or none when it has
    /// to be copied. The caller owns the block.
    pub(crate) fn resize(&self, pages: &Pages, addr: usize, size: usize) -> Option<usize> {
        let len = size.checked_next_multiple_of(pages.machine.page_size())?;
        let mut index = self.index.lock();
        let i = index.find(addr)?;
        let old = index.items_mut()[i];
        if old.state != State::Live {
            return None;
        }
        if len <= old.span.len() && len >= old.span.len() - old.span.len() / GROWTH_PART {
            return Some(addr);
        }
        // What grows step by step goes on growing: some room saves most of the calls, and what is
        // not touched takes no memory.
        let more = if len > old.span.len() { len / GROWTH_PART } else { 0 };
        let roomy = (len + more).next_multiple_of(pages.machine.page_size());
        let span = index.remap(pages, i, (roomy, WatermarkLevel::Low)).or_else(|| {
            // Moving pages is better than copying them, even where memory is short.
            let last = (len, WatermarkLevel::Reserve);
            (more > 0).then(|| index.find(addr)).flatten().and_then(|i| index.remap(pages, i, last))
        });
        drop(index);
        self.keep_to_peak(pages);
        span.map(|span| span.addr())
    }

    /// Calls `visit` with each block: its span, its node, and whether it is in use.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Span, NodeId, bool)) {
        for mapping in self.index.lock().items_mut() {
            visit(mapping.span, mapping.node, mapping.state == State::Live);
        }
    }

    /// The first mapping at `addr` or above it: its span, node, and whether it is live. For a walk
    /// that does more at each than the lock should be held for; what changes meanwhile may be met
    /// or not.
    pub(crate) fn next_from(&self, addr: usize) -> Option<(Span, NodeId, bool)> {
        let mut index = self.index.lock();
        let items = index.items_mut();
        let i = items.partition_point(|mapping| mapping.span.addr() < addr);
        items.get(i).map(|mapping| (mapping.span, mapping.node, mapping.state == State::Live))
    }

    /// Bytes of the index itself.
    pub(crate) fn index_bytes(&self) -> usize {
        self.index.lock().memory.len()
    }

    /// Whether somebody is at work in the index. A thread that finds nobody while it is interrupted
    /// does not hold the lock itself.
    pub(crate) fn is_locked(&self) -> bool {
        self.raw_lock().is_held()
    }

    pub(crate) fn raw_lock(&self) -> &FutexLock {
        // SAFETY: taken by the fork handlers only, in the order of the lock table.
        unsafe { self.index.raw() }
    }
}

impl Mapping {
    /// Whether its pages are where a request for this node and these turns wants them.
    fn is_at(&self, (node, turns): (NodeId, MemPolicy)) -> bool {
        (self.node, self.turns) == (node, turns)
    }
}

impl Index {
    fn items_mut(&mut self) -> &mut [Mapping] {
        if self.items.is_null() {
            return &mut [];
        }
        // SAFETY: the first `nr` items are initialised.
        unsafe { core::slice::from_raw_parts_mut(self.items, self.nr) }
    }

    fn find(&mut self, addr: usize) -> Option<usize> {
        self.items_mut().binary_search_by_key(&addr, |m| m.span.addr()).ok()
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

    /// Changes the length of the live mapping number `i`; none, and nothing changed, when there is no
    /// room or the system refuses.
    fn remap(
        &mut self,
        pages: &Pages,
        i: usize,
        (len, level): (usize, WatermarkLevel),
    ) -> Option<Span> {
        let old = self.items_mut()[i];
        let (have, want) = (old.span.len() / PAGE_SIZE, len / PAGE_SIZE);
        let more = want.saturating_sub(have);
        // Near full, a new block is filled first.
        let footing = || pages.footing(old.node, more * PAGE_SIZE, level);
        let is_ample = more == 0 || footing() == Footing::Ample;
        if !is_ample || !pages.charge_huge(old.node, more, level) {
            return None;
        }
        // Under the lock: between the move and the update of the index the old address may be
        // somebody else's new mapping.
        let Ok(span) = pages.machine.remap(old.span, len, true) else {
            pages.uncharge_huge(old.node, more);
            return None;
        };
        pages.uncharge_huge(old.node, have.saturating_sub(want));
        self.remove(i);
        self.live_bytes -= old.span.len();
        self.add_live(span.len());
        // There is room: one was just removed.
        self.place(Mapping { span, ..old });
        Some(span)
    }

    /// The length and number of the largest cached mapping.
    fn largest(&mut self, place: (NodeId, MemPolicy)) -> Option<(usize, usize)> {
        let items = self.items_mut().iter().enumerate();
        let cached = items.filter(|(_, m)| matches!(m.state, State::Cached(_)) && m.is_at(place));
        cached.map(|(i, m)| (m.span.len(), i)).max()
    }

    fn make_live(&mut self, i: usize) {
        let len = self.items_mut()[i].span.len();
        self.items_mut()[i].state = State::Live;
        self.cached_bytes -= len;
        self.add_live(len);
    }

    fn add_live(&mut self, len: usize) {
        self.live_bytes += len;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
    }

    /// The smallest cached mapping that `len` bytes fit into. What is much too large is cut: the
    /// kernel needs no telling, since a mapping is only a range to it.
    fn take_fitting(
        &mut self,
        place: (NodeId, MemPolicy),
        len: usize,
        align: usize,
    ) -> Option<Span> {
        if self.cached_bytes < len {
            return None;
        }
        let items = self.items_mut().iter().enumerate();
        let fits = items.filter(|(_, m)| {
            matches!(m.state, State::Cached(_))
                && m.is_at(place)
                && m.span.len() >= len
                && m.span.addr() % align == 0
        });
        let (i, found) = fits.min_by_key(|(_, m)| m.span.len()).map(|(i, m)| (i, *m))?;
        let mut span = found.span;
        if span.len() - len > span.len() >> FIT_SHIFT && self.nr < self.capacity {
            let (front, rest) = span.split_at(len);
            span = front;
            self.place(Mapping { span: rest, ..found });
        }
        self.items_mut()[i].span = span;
        self.make_live(i);
        Some(span)
    }

    /// Marks item `i` as cached since `now`, one with cached neighbours that it touches.
    fn cache(&mut self, mut i: usize, now: u64) {
        let len = self.items_mut()[i].span.len();
        self.live_bytes -= len;
        self.cached_bytes += len;
        self.items_mut()[i].state = State::Cached(now);
        if i > 0 && self.join(i - 1) {
            i -= 1;
        }
        self.join(i);
    }

    /// Joins item `i` with the one behind it, if both are cached and touch.
    fn join(&mut self, i: usize) -> bool {
        let items = self.items_mut();
        let (Some(&first), Some(&second)) = (items.get(i), items.get(i + 1)) else { return false };
        let (State::Cached(a), State::Cached(b)) = (first.state, second.state) else {
            return false;
        };
        if first.span.end() != second.span.addr() || !first.is_at((second.node, second.turns)) {
            return false;
        }
        // SAFETY: both ranges are ours, and they touch.
        let span = unsafe { Span::new(first.span.addr(), first.span.len() + second.span.len()) };
        let strays = first.strays.saturating_add(second.strays);
        items[i] = Mapping { span, state: State::Cached(a.max(b)), strays, ..first };
        self.remove(i + 1);
        true
    }

    fn insert(&mut self, pages: &Pages, mapping: Mapping) -> bool {
        if self.nr == self.capacity && !self.grow(pages) {
            return false;
        }
        self.add_live(mapping.span.len());
        self.place(mapping);
        true
    }

    fn place(&mut self, mapping: Mapping) {
        let i = self.items_mut().partition_point(|m| m.span.addr() < mapping.span.addr());
        // SAFETY: there is room for one more item.
        unsafe {
            let at = self.items.add(i);
            at.add(1).copy_from(at, self.nr - i);
            at.write(mapping);
        }
        self.nr += 1;
    }

    fn remove(&mut self, i: usize) -> Mapping {
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

fn unmap(pages: &Pages, mapping: Mapping) {
    let _ = pages.machine.unmap(mapping.span);
    pages.uncharge_huge(mapping.node, mapping.span.len() / PAGE_SIZE);
}

/// The start of a mapping as a pointer.
pub(crate) fn pointer(addr: usize) -> Option<NonNull<u8>> {
    NonNull::new(ptr::with_exposed_provenance_mut(addr))
}
