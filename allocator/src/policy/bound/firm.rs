//! Memory of a bound node that is near full: taken, and looked at, before anybody gets it.
//!
//! How much of what is free the kernel hands out is not to be known beforehand, and what files hold
//! gives way only to those who insist ([`zonal_numa::Machine::fill`]). A page that is charged need not
//! have memory either: whoever had it may never have touched it, or the kernel gave small pages where
//! it was asked for a huge one. So every way out of the zone leads through here while the node is
//! near full: runs, holes of slabs, huge blocks.

use zonal_numa::{NodeId, PAGE_SIZE, Span};

use super::Footing;
use crate::node::Node;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::purge::{Isolated, Reclaimer};
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::WatermarkLevel;

impl Pages {
    /// Takes memory of the node for a span that nobody uses; false when there is not enough, and
    /// then the span is to be given back.
    pub(crate) fn fill(&self, id: NodeId, span: Span) -> bool {
        // SAFETY: the callers' spans are free or fresh, and theirs alone. What was used before need
        // not be zero: nobody looks at it again, and where zeros are promised it is.
        if unsafe { self.machine.fill(span, id) } {
            return true;
        }
        if let Some(node) = self.node(id) {
            node.note_full();
        }
        false
    }

    /// Gives a run that just left the zone the memory that it lacks, where its node is near full.
    /// None when there is none: the run is back in the zone.
    pub(crate) fn secure(&self, home: &Node, id: NodeId, run: PageRun) -> Option<PageRun> {
        if !home.is_firm() || self.fill(id, self.span_of(run.head(), run.nr_pages())) {
            return Some(run);
        }
        let nr_pages = run.nr_pages();
        // What is locked stays as it is.
        let is_empty = self.machine.purge(&[self.span_of(run.head(), nr_pages)]).is_ok();
        let env = self.env(home);
        if is_empty {
            home.lock().free_purged(&env, run.into_head(), nr_pages);
        } else {
            home.lock().free(&env, run.into_head(), nr_pages);
        }
        self.mark_full(id);
        None
    }

    /// The same for the first `nr` runs of `out`; how many are left of them, in front.
    pub(crate) fn secure_bulk(
        &self,
        (home, id): (&Node, NodeId),
        out: &mut [Option<PageRun>],
        nr: usize,
    ) -> usize {
        if !home.is_firm() {
            return nr;
        }
        let mut kept = 0;
        for i in 0..nr {
            out[kept] = out[i].take().and_then(|run| self.secure(home, id, run));
            kept += usize::from(out[kept].is_some());
        }
        kept
    }

    /// The same for a huge block that was used before, and now is only the caller's.
    pub(crate) fn secure_block(&self, id: NodeId, span: Span) -> bool {
        !self.node(id).is_some_and(Node::is_firm) || self.fill(id, span)
    }

    /// Whether purged pages of a slab, a bit for each, may get memory with the first touch, or have
    /// got it: where nobody looked for some time.
    pub(crate) fn secure_holes(
        &self,
        home: &Node,
        head: Pfn,
        holes: u16,
        level: WatermarkLevel,
    ) -> bool {
        let id = self.node_of(head);
        let nr_pages = holes.count_ones() as usize;
        match self.footing(id, nr_pages * PAGE_SIZE, level) {
            Footing::Ample => {
                let _zone = home.lock();
                home.spend(nr_pages)
            }
            Footing::Full => false,
            Footing::Firm => {
                let spans = || {
                    let pages = (0..u16::BITS as usize).filter(|page| holes & (1 << page) != 0);
                    pages.map(|page| self.span_of(head.add(page), 1))
                };
                let filled = spans().all(|span| self.fill(id, span));
                if !filled {
                    spans().for_each(|span| {
                        let _ = self.machine.purge(&[span]);
                    });
                    self.mark_full(id);
                }
                filled
            }
        }
    }

    /// Takes memory for the free blocks of the node where they have none: what they get later might
    /// come from elsewhere. None when there is not enough, else whether there were any.
    pub(crate) fn fill_free(&self, id: NodeId) -> Option<bool> {
        let node = self.node(id)?;
        let mut any = false;
        loop {
            let isolated = node.lock().isolate_unfilled(&self.map);
            let Some((pfn, order)) = isolated else { return Some(any) };
            let span = self.span_of(pfn, order.nr_pages());
            let filled = self.fill(id, span);
            // What is locked stays as it is.
            let is_empty = !filled && self.machine.purge(&[span]).is_ok();
            let env = self.env(node);
            let mut zone = node.lock();
            if filled {
                zone.note_filled(&env, pfn, order);
            }
            let state = if is_empty { Isolated::Purged(Reclaimer::Direct) } else { Isolated::Kept };
            zone.putback(&env, pfn, state);
            if !filled {
                drop(zone);
                self.mark_full(id);
                return None;
            }
            any = true;
        }
    }

    /// After [`Pages::fill`] failed and the span was given back.
    pub(crate) fn mark_full(&self, id: NodeId) {
        if let (Some(node), Some(room)) = (self.node(id), self.machine.memory(id)) {
            node.full.0.store(node.left(room).max(1), Relaxed);
        }
    }

    pub(crate) fn span_of(&self, head: Pfn, nr_pages: usize) -> Span {
        // SAFETY: pages of a section, which are the caller's: free, isolated, just claimed or handed out.
        unsafe { Span::new(self.map.addr_of(head).addr(), nr_pages * PAGE_SIZE) }
    }
}
