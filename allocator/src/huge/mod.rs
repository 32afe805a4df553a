//! Huge blocks: mapped directly, above what the buddy core serves, or rows of free pageblocks (`contig`).
//!
//! An index sorted by address tells what is where (`index`). Freed mappings stay for a while and are
//! reused (`cache`); blocks that grow are moved by the system (`mremap`). Every operation is
//! all-or-nothing. System calls are made outside the lock of the index, but for its own growth: what
//! changes its size is out of the index meanwhile.

mod cache;
mod contig;
mod index;
mod mremap;

use core::ptr::{self, NonNull};

use zonal_numa::{MemPolicy, NodeId, PAGE_SIZE, Span};

use self::cache::{CACHE_BYTES, CACHE_NS};
use self::index::{Index, Mapping, State};
use crate::error::AllocError;
use crate::lock::{FutexLock, Mutex};
use crate::misuse::BadPointer;
use crate::mm::Request;
use crate::order::{Order, PAGEBLOCK_BYTES};
use crate::pages::Pages;
use crate::pages::bind::HugePolicy;
use crate::policy::bound::Footing;
use crate::policy::is_in_turn;
use crate::thp::Thp;
use crate::watermark::WatermarkLevel;

/// The huge blocks of all nodes.
#[derive(Debug)]
pub(crate) struct Huge {
    index: Mutex<Index>,
}

/// A huge block as handed out.
#[derive(Debug)]
pub(crate) struct HugeBlock {
    pub(crate) span: Span,
    pub(crate) known_zero: bool,
}

impl Huge {
    pub(crate) fn new() -> Huge {
        Huge { index: Mutex::new(Index::EMPTY) }
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
        let exhausted = AllocError::Exhausted { node, order: Order::MAX.get() };
        let in_turn = is_in_turn(policy.policy);
        let turns = if in_turn { policy.policy } else { MemPolicy::LOCAL };
        let is_bound = !in_turn && pages.is_bound(node);
        let tells = !request.zeroed && !request.grows;
        if let Some(span) = self.take_cached(pages, (node, turns), (len, request.align), tells) {
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
        let by_huge_pages = footing != Footing::Firm && wants_huge_pages(pages, request, len);
        // Where nodes take turns, the kernel goes by its huge pages where they fit: without a
        // border of them at the start, blocks of one size would leave out the same node again and
        // again.
        let wants_border = by_huge_pages || in_turn;
        let border = if wants_border { PAGEBLOCK_BYTES } else { PAGE_SIZE };
        if let Ok(span) = pages.machine.map(len, request.align.max(border)) {
            pages.bind_huge(node, policy, span);
            if by_huge_pages {
                // A wish: small pages serve as well.
                let _ = pages.machine.advise_huge(span, true);
            }
            let (state, tells) = (State::Live, tells && footing != Footing::Firm);
            let mapping = Mapping { span, state, node, turns, strays: 0, by_huge_pages, tells };
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
        pages.take_back_huge(node, len / PAGE_SIZE);
        Err(exhausted)
    }

    /// Whether a freed mapping that `size` bytes fit into is kept.
    pub(crate) fn keeps(&self, size: usize) -> bool {
        let mut index = self.index.lock();
        let fits = |m: &Mapping| matches!(m.state, State::Cached(_)) && m.span.len() >= size;
        index.cached_bytes >= size && index.items_mut().iter().any(fits)
    }

    /// Frees the block at `addr`.
    pub(crate) fn free(&self, pages: &Pages, addr: usize) -> Result<(), BadPointer> {
        let now = pages.awake_ns();
        let mut index = self.index.lock();
        let (mut i, mapping) = index.find_live(addr)?;
        if mapping.turns == MemPolicy::LOCAL && pages.is_bound(mapping.node) {
            // The kernel is asked without the lock.
            drop(index);
            pages.note_stray_block(mapping.node, mapping.span, mapping.strays as usize);
            index = self.index.lock();
            i = index.find_live(addr)?.0;
        }
        let len = mapping.span.len();
        // One in small pages would serve a dense program in them for ever.
        let is_outdated = pages.density.learns()
            && pages.density.is_dense()
            && mapping.tells
            && !mapping.by_huge_pages;
        if len + index.cached_bytes <= CACHE_BYTES && !is_outdated {
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
    /// now it was touched. A large one takes several requests, and the blocks that these get are passed
    /// over.
    fn look_at_last(&self, pages: &Pages, next: Span) {
        let mut index = self.index.lock();
        let (last, done) = index.last_bound;
        index.last_bound = (next.addr(), 0);
        let Ok((_, mapping)) = index.find_live(last) else { return };
        if mapping.turns != MemPolicy::LOCAL {
            return;
        }
        // Without the lock, because it may take long. If the block is freed meanwhile and something
        // else of the process mapped there, that is moved to the node: a loss of time at most.
        drop(index);
        let known = mapping.strays as usize;
        let (strays, done) = pages.bring_block_home(mapping.node, mapping.span, (known, done));
        let mut index = self.index.lock();
        if let Some(i) = index.find(last) {
            index.items_mut()[i].strays = strays as u32;
            if done < mapping.span.len() {
                index.last_bound = (last, done);
            }
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

    /// Bytes of the live block that starts at `addr`.
    pub(crate) fn size_of(&self, addr: usize) -> Result<usize, BadPointer> {
        self.index.lock().find_live(addr).map(|(_, mapping)| mapping.span.len())
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
        self.index.lock().own_bytes()
    }

    /// Whether somebody is at work in the index. A thread that finds nobody while it is interrupted
    /// does not hold the lock itself.
    pub(crate) fn is_locked(&self) -> bool {
        self.raw_lock().is_held()
    }

    /// In a forked child, where parts of what was inherited may be missing.
    pub(crate) fn after_fork(&self) {
        let mut index = self.index.lock();
        index.forget_moving();
        index.items_mut().iter_mut().for_each(|mapping| mapping.tells = false);
    }

    pub(crate) fn raw_lock(&self) -> &FutexLock {
        // SAFETY: taken by the fork handlers only, in the order of the lock table.
        unsafe { self.index.raw() }
    }
}

/// Whether a new mapping of `len` bytes is to have huge pages.
fn wants_huge_pages(pages: &Pages, request: Request, len: usize) -> bool {
    match pages.thp {
        Thp::Never => false,
        // Whoever asks for zeros may leave them untouched; what grows is written as it does.
        // Of what is too large to be kept nobody would ever know.
        Thp::Auto if len > CACHE_BYTES => !request.zeroed,
        Thp::Auto => !request.zeroed && (request.grows || pages.density.is_dense()),
        Thp::Always => true,
    }
}

fn unmap(pages: &Pages, mapping: Mapping) {
    let nr_pages = mapping.span.len() / PAGE_SIZE;
    pages.lookout().begin_leaving(nr_pages);
    pages.split_ends(mapping.span);
    let _ = pages.machine.unmap(mapping.span);
    pages.uncharge_huge(mapping.node, nr_pages);
    pages.lookout().end_leaving(nr_pages);
}

/// The start of a mapping as a pointer.
pub(crate) fn pointer(addr: usize) -> Option<NonNull<u8>> {
    NonNull::new(ptr::with_exposed_provenance_mut(addr))
}
