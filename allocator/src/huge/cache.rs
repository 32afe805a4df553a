//! Cached mappings: freed huge blocks that are kept for reuse.
//!
//! They are reused best-fit, because mapping and first touch cost far more than the block's own
//! use; where none is large enough, the largest is extended. Kept mappings never raise the peak:
//! together with the blocks in use they hold no more than those held at their highest in recent
//! time. They leave by age, and when others need the room.

use core::ptr;

use zonal_numa::{MemPolicy, NodeId, PAGE_SIZE, Span};

use super::index::{Index, Mapping, State};
use super::mremap::remap;
use super::{Huge, unmap};
use crate::order::PAGEBLOCK_BYTES;
use crate::pages::Pages;
use crate::watermark::WatermarkLevel;

/// What all cached mappings together may hold, in bytes.
pub(super) const CACHE_BYTES: usize = 512 << 20;
/// Part of the request that a cached mapping must have to be extended.
const EXTEND_PART: usize = 4;
/// A cached mapping unused for this long is unmapped.
pub(super) const CACHE_NS: u64 = 1_000_000_000;
/// A cached mapping is cut if more than one eighth of it is too much.
const FIT_SHIFT: u32 = 3;

/// All bytes that may go, and the kernel is not asked what it has of them.
const ALL: (usize, bool) = (usize::MAX, false);

impl Huge {
    /// Unmaps cached mappings that were not used for `age_ns`; returns the bytes.
    pub(crate) fn age(&self, pages: &Pages, now: u64, age_ns: u64) -> usize {
        let is_old = |since: u64| now.saturating_sub(since) >= age_ns;
        let mut oldest = u64::MAX;
        for mapping in self.index.lock().items_mut() {
            if let State::Cached(since) = &mut mapping.state {
                // What was freed after a pause of the process, before that was taken off the time, is
                // of a time to come.
                *since = now.min(*since);
                oldest = oldest.min(*since);
            }
        }
        let bytes =
            if is_old(oldest) { self.evict(pages, ALL, &|_, since| is_old(since)) } else { 0 };
        let mut index = self.index.lock();
        index.peak_bytes = index.live_bytes + index.cached_bytes;
        bytes
    }

    /// Pages of all cached mappings.
    pub(crate) fn cached_pages(&self) -> usize {
        self.index.lock().cached_bytes / PAGE_SIZE
    }

    /// Unmaps all cached mappings, as long as it may; returns the bytes.
    pub(crate) fn drain(&self, pages: &Pages, may_go_on: impl Fn() -> bool) -> usize {
        self.evict(pages, ALL, &|_, _| may_go_on())
    }

    /// Unmaps cached mappings, the oldest first, until about `goal` bytes are gone: of a longer one its end.
    /// Returns the bytes, counted by what the kernel had of them if it is to be asked and answers.
    pub(crate) fn trim(&self, pages: &Pages, goal: usize, asks_kernel: bool) -> usize {
        self.evict(pages, (goal, asks_kernel), &|_, _| true)
    }

    /// Unmaps cached mappings, the oldest first, that would make for a new peak.
    pub(super) fn keep_to_peak(&self, pages: &Pages) {
        self.evict(pages, ALL, &|index, _| {
            index.live_bytes + index.cached_bytes > index.peak_bytes
        });
    }

    /// Unmaps the oldest cached mapping as long as it `may_go`, which gets the time that it was freed, and fewer bytes
    /// than the goal are gone: by the lengths, or by what the kernel had of them.
    #[inline(never)]
    fn evict(
        &self,
        pages: &Pages,
        (goal, asks_kernel): (usize, bool),
        may_go: &dyn Fn(&Index, u64) -> bool,
    ) -> usize {
        let mut bytes = 0;
        while bytes < goal {
            let Some(mapping) = self.take_oldest(goal - bytes, may_go) else { break };
            let nr_held = if asks_kernel { pages.nr_resident(mapping.span) } else { None };
            bytes += nr_held.map_or(mapping.span.len(), |nr_pages| nr_pages * PAGE_SIZE);
            unmap(pages, mapping);
        }
        bytes
    }

    /// Takes out the oldest cached mapping if it `may_go`, of one longer than `most` bytes its end.
    #[inline(never)]
    fn take_oldest(&self, most: usize, may_go: &dyn Fn(&Index, u64) -> bool) -> Option<Mapping> {
        let mut index = self.index.lock();
        if index.cached_bytes == 0 {
            return None;
        }
        let times = index.items_mut().iter().enumerate().filter_map(|(i, m)| match m.state {
            State::Cached(since) => Some((since, i)),
            State::Live => None,
        });
        let (_, i) = times.min().filter(|&(since, _)| may_go(&index, since))?;
        let mapping = index.take_end(i, most);
        index.cached_bytes -= mapping.span.len();
        Some(mapping)
    }

    /// A cached mapping for a request of `len` bytes, extended if none is large enough.
    pub(super) fn take_cached(
        &self,
        pages: &Pages,
        place: (NodeId, MemPolicy),
        (len, align): (usize, usize),
        tells: bool,
    ) -> Option<Span> {
        let mut index = self.index.lock();
        if let Some((i, span)) = index.take_fitting(place, len, align) {
            let told = index.items_mut()[i].tells;
            index.items_mut()[i].tells &= tells;
            drop(index);
            if told {
                let start = ptr::with_exposed_provenance(span.addr());
                // SAFETY: mapped, and nobody has it yet.
                unsafe { pages.density.note_freed(start, len / PAGE_SIZE) };
            }
            return Some(span);
        }
        // A move keeps no alignment beyond that of a page.
        if align > pages.machine.page_size() {
            return None;
        }
        let i = index.largest(place).filter(|&(have, _)| have >= len / EXTEND_PART)?.1;
        index.make_live(i);
        let old = index.begin_move(i);
        drop(index);
        let span = remap(pages, old, (len, WatermarkLevel::Low));
        let mut moved = Mapping { span: span.unwrap_or(old.span), ..old };
        if span.is_some() {
            moved.tells &= tells;
            if pages.density.is_dense() {
                moved.ask_for_huge(pages);
            }
        }
        let mut index = self.index.lock();
        index.end_move(old, moved);
        if span.is_none() {
            // As it was, but for its age.
            if let Some(i) = index.find(old.span.addr()) {
                index.cache(i, 0);
            }
        }
        drop(index);
        self.keep_to_peak(pages);
        span
    }
}

impl Index {
    /// The length and number of the largest cached mapping.
    fn largest(&mut self, place: (NodeId, MemPolicy)) -> Option<(usize, usize)> {
        let items = self.items_mut().iter().enumerate();
        let cached = items.filter(|(_, m)| matches!(m.state, State::Cached(_)) && m.is_at(place));
        cached.map(|(i, m)| (m.span.len(), i)).max()
    }

    /// The smallest cached mapping that `len` bytes fit into. What is much too large is cut: the
    /// kernel needs no telling, since a mapping is only a range to it.
    fn take_fitting(
        &mut self,
        place: (NodeId, MemPolicy),
        len: usize,
        align: usize,
    ) -> Option<(usize, Span)> {
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
        if span.len() - len > span.len() >> FIT_SHIFT && self.has_slot() {
            let (front, rest) = span.split_at(len);
            span = front;
            self.place(Mapping { span: rest, ..found });
        }
        self.items_mut()[i].span = span;
        self.make_live(i);
        Some((i, span))
    }

    /// Takes item `i` out, or of a longer one the last `len` bytes and what is left of the huge page in which they
    /// begin.
    fn take_end(&mut self, i: usize, len: usize) -> Mapping {
        let whole = self.items_mut()[i];
        let huge_page = PAGEBLOCK_BYTES;
        let cut = whole.span.end().saturating_sub(len) / huge_page * huge_page;
        // Less than a huge page is not worth keeping.
        if cut < whole.span.addr() + huge_page {
            return self.remove(i);
        }
        let (front, end) = whole.span.split_at(cut - whole.span.addr());
        self.items_mut()[i].span = front;
        Mapping { span: end, ..whole }
    }

    /// Marks item `i` as cached since `now`, one with cached neighbours that it touches.
    pub(super) fn cache(&mut self, mut i: usize, now: u64) {
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
        let are_alike =
            first.is_at((second.node, second.turns)) && first.by_huge_pages == second.by_huge_pages;
        if first.span.end() != second.span.addr() || !are_alike {
            return false;
        }
        // SAFETY: both ranges are ours, and they touch.
        let span = unsafe { Span::new(first.span.addr(), first.span.len() + second.span.len()) };
        let strays = first.strays.saturating_add(second.strays);
        let tells = first.tells && second.tells;
        items[i] = Mapping { span, state: State::Cached(a.max(b)), strays, tells, ..first };
        self.remove(i + 1);
        true
    }
}
