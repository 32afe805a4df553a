//! Blocks that change their size: the system moves the pages, and nothing is copied.

use zonal_numa::{PAGE_SIZE, Span};

use super::Huge;
use super::index::{Index, Mapping, State};
use crate::large::GROWTH_PART;
use crate::pages::Pages;
use crate::policy::bound::Footing;
use crate::thp::Thp;
use crate::watermark::WatermarkLevel;

impl Huge {
    /// Grows or shrinks the live block at `addr` by `mremap`; the new address, or none when it has
    /// to be copied. The caller owns the block. With `exact` it gets no room to grow further.
    pub(crate) fn resize(
        &self,
        pages: &Pages,
        addr: usize,
        size: usize,
        exact: bool,
    ) -> Option<usize> {
        let len = size.checked_next_multiple_of(pages.machine.page_size())?;
        let mut index = self.index.lock();
        let i = index.find(addr)?;
        let old = index.items_mut()[i];
        if old.state != State::Live {
            return None;
        }
        let part = |len: usize| if exact { 0 } else { len / GROWTH_PART };
        if len <= old.span.len() && len >= old.span.len() - part(old.span.len()) {
            return Some(addr);
        }
        // What grows step by step goes on growing: some room saves most of the calls, and what is
        // not touched takes no memory.
        let more = if len > old.span.len() { part(len) } else { 0 };
        let roomy = (len + more).next_multiple_of(pages.machine.page_size());
        let span = index.remap(pages, i, (roomy, WatermarkLevel::Low)).or_else(|| {
            // Moving pages is better than copying them, even where memory is short.
            let last = (len, WatermarkLevel::Reserve);
            (more > 0).then(|| index.find(addr)).flatten().and_then(|i| index.remap(pages, i, last))
        });
        if let Some(span) = span.filter(|span| span.len() > old.span.len()) {
            // What grows is written as it does.
            index.ask_for_huge(pages, span.addr());
            index.tells_no_more(span.addr());
        }
        drop(index);
        self.keep_to_peak(pages);
        span.map(|span| span.addr())
    }
}

impl Index {
    /// What is still to be touched of the mapping at `addr` shall come in huge pages.
    pub(super) fn ask_for_huge(&mut self, pages: &Pages, addr: usize) {
        let Some(i) = self.find(addr) else { return };
        let mapping = &mut self.items_mut()[i];
        if pages.thp == Thp::Auto && !mapping.by_huge_pages {
            // Advice: nothing changes if it is refused.
            let _ = pages.machine.advise_huge(mapping.span, true);
            mapping.by_huge_pages = true;
        }
    }

    /// What the mapping at `addr` holds tells nothing about requests in general.
    pub(super) fn tells_no_more(&mut self, addr: usize) {
        if let Some(i) = self.find(addr) {
            self.items_mut()[i].tells = false;
        }
    }

    /// Changes the length of the live mapping number `i`; none, and nothing changed, when there is no
    /// room or the system refuses.
    pub(super) fn remap(
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
        if want < have {
            pages.split_ends(old.span.split_at(len).1);
        }
        // Under the lock: between the move and the update of the index the old address may be
        // somebody else's new mapping.
        let Ok(span) = pages.machine.remap(old.span, len, true) else {
            pages.take_back_huge(old.node, more);
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
}
