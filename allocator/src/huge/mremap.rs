//! Blocks that change their size: the system moves the pages, and nothing is copied.

use zonal_numa::{PAGE_SIZE, Span};

use super::Huge;
use super::index::{Mapping, State};
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
        index.begin_move(i);
        drop(index);
        // What grows step by step goes on growing: some room saves most of the calls, and what is
        // not touched takes no memory.
        let more = if len > old.span.len() { part(len) } else { 0 };
        let roomy = (len + more).next_multiple_of(pages.machine.page_size());
        let span = remap(pages, old, (roomy, WatermarkLevel::Low)).or_else(|| {
            // Moving pages is better than copying them, even where memory is short.
            let last = (len, WatermarkLevel::Reserve);
            (more > 0).then(|| remap(pages, old, last)).flatten()
        });
        let mut moved = Mapping { span: span.unwrap_or(old.span), ..old };
        if moved.span.len() > old.span.len() {
            // What grows is written as it does.
            moved.ask_for_huge(pages);
            moved.tells = false;
        }
        self.index.lock().end_move(old, moved);
        self.keep_to_peak(pages);
        span.map(|span| span.addr())
    }
}

impl Mapping {
    /// What is still to be touched of it shall come in huge pages.
    pub(super) fn ask_for_huge(&mut self, pages: &Pages) {
        if pages.thp == Thp::Auto && !self.by_huge_pages {
            // Advice: nothing changes if it is refused.
            let _ = pages.machine.advise_huge(self.span, true);
            self.by_huge_pages = true;
        }
    }
}

/// Changes the length of a live mapping that is out of the index ([`begin_move`](super::index::Index::begin_move));
/// none, and nothing changed, when there is no room or the system refuses.
pub(super) fn remap(
    pages: &Pages,
    old: Mapping,
    (len, level): (usize, WatermarkLevel),
) -> Option<Span> {
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
    let Ok(span) = pages.machine.remap(old.span, len, true) else {
        pages.take_back_huge(old.node, more);
        return None;
    };
    pages.uncharge_huge(old.node, have.saturating_sub(want));
    Some(span)
}
