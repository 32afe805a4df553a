//! Purging: free resident pages go back to the OS.
//!
//! ```text
//!   zone lock: isolate up to a batch -> unlock -> Machine::purge -> zone lock: put back
//! ```
//!
//! Isolated blocks stand on a list of the zone, so that a forked child can put back what a thread
//! of its parent held. What is looked at, and in which order, is in `scan`.

mod scan;

use zonal_numa::{Errno, NodeId, Span, probe};

use self::scan::{BATCH, Batch, Search};
use crate::deadline::Deadline;
use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_BYTES, PAGEBLOCK_PAGES};
use crate::pages::Pages;

/// In whose name memory is given back: for the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reclaimer {
    /// kswapd, or a round of its work by a caller.
    Kswapd,
    /// A request in need, or the program by `malloc_trim` and the like.
    Direct,
}

/// What to purge.
#[derive(Clone, Copy, Debug)]
pub struct PurgeHow {
    /// Only what was not used after this generation; none for all, whatever its age.
    pub up_to: Option<u32>,
    /// A section of huge pages is holed only for a good part of it, and for what was not used after this
    /// generation; none for whatever there is.
    pub sparing: Option<u32>,
    /// Holes smaller than this order are not worth a call.
    pub smallest: Order,
    /// Pageblocks to look at, at most; the next search goes on where this one ends.
    pub looks: usize,
    /// Who asks.
    pub by: Reclaimer,
    /// When a search through heaps stops, though there is more.
    pub deadline: Deadline,
    /// What went counts by what the kernel had of it, which costs a call for each range; otherwise by the accounts,
    /// in which pages that nobody touched since they were handed out are resident.
    pub asks_kernel: bool,
    /// How long a visitor that looks for holes stays, at least, while the owner works beside it; beyond that for
    /// one slab and one call.
    pub turn_ns: u64,
}

impl PurgeHow {
    /// Everything that can be given back at all.
    pub const ALL: PurgeHow = PurgeHow {
        up_to: None,
        sparing: None,
        smallest: Order::ZERO,
        looks: usize::MAX,
        by: Reclaimer::Direct,
        deadline: Deadline::NEVER,
        asks_kernel: false,
        turn_ns: 200_000,
    };

    /// Whether what was last used in `generation` is old enough.
    fn takes(&self, generation: u32) -> bool {
        self.up_to.is_none_or(|border| is_past(generation, border))
    }

    /// The same where a huge page is given up for it, in which something was last freed at `freed_at`. That
    /// counts only where huge pages are spared: what else is free is old when it is not handed out.
    fn takes_huge(&self, generation: u32, freed_at: u32) -> bool {
        let is_past = |border| {
            is_past(generation, border) && (self.sparing == self.up_to || is_past(freed_at, border))
        };
        self.sparing.is_none_or(is_past)
    }
}

/// Whether `generation` is not after `border`. The clock wraps after two years: what rested for
/// more than one counts as young again.
pub fn is_past(generation: u32, border: u32) -> bool {
    border.wrapping_sub(generation).cast_signed() >= 0
}

/// Where the kernel is asked, it may have little of what is taken: a batch has so many pages at least.
const LEAST_ASKED: usize = PAGEBLOCK_PAGES;

/// What the system refused to take counts as used for so many generations: ten seconds.
const REFUSED_REST: u32 = 600;

impl Pages {
    /// Gives up to about `goal_pages` free resident pages of `node` back to the OS; returns how
    /// many it gave.
    pub fn purge(&self, node: NodeId, goal_pages: usize, how: PurgeHow) -> usize {
        let Some(home) = self.node(node) else { return 0 };
        let mut done = 0;
        let mut search = Search::Pageblocks;
        while done < goal_pages {
            let mut batch = Batch::new();
            let left = (goal_pages - done).max(if how.asks_kernel { LEAST_ASKED } else { 0 });
            let next = self.isolate_batch(home, search, &mut batch, left, how);
            if batch.nr_blocks > 0 {
                // Locked or forbidden, and so probably all the rest.
                let Some(purged) = self.purge_batch(home, &batch, how) else { break };
                done += purged;
            }
            if batch.to_hole.is_some_and(|index| self.hole_section(index)) {
                search = Search::Pageblocks;
                continue;
            }
            match next {
                Some(next) => search = next,
                None => break,
            }
        }
        done
    }

    /// Purges what the batch holds and puts it back. Returns the pages given back; none where the system refused
    /// all.
    fn purge_batch(&self, home: &Node, batch: &Batch, how: PurgeHow) -> Option<usize> {
        let (gone, nr_held) = self.purge_counted(&batch.spans[..batch.nr_spans], how.asks_kernel);
        let env = self.env(home);
        let mut zone = home.lock();
        let mut purged = 0;
        for &(pfn, span) in &batch.blocks[..batch.nr_blocks] {
            let state =
                if gone & 1 << span == 0 { Isolated::Refused } else { Isolated::Purged(how.by) };
            let nr_pages = zone.putback(&env, pfn, state);
            purged += if state == Isolated::Refused { 0 } else { nr_pages };
        }
        probe::mm_page_purge(zone.node.index(), purged, gone.count_ones() as usize);
        (gone != 0).then(|| nr_held.unwrap_or(purged))
    }

    /// Purges up to 64 spans, as below; says also how many pages the kernel had of those that are gone, where it is
    /// to be asked and answers.
    #[inline(never)]
    pub(crate) fn purge_counted(&self, spans: &[Span], asks_kernel: bool) -> (u64, Option<usize>) {
        let mut held = [0; BATCH];
        let mut ask = |(held, &span): (&mut usize, &Span)| {
            let nr_pages = self.nr_resident(span);
            *held = nr_pages.unwrap_or(0);
            nr_pages.is_some()
        };
        let is_known = asks_kernel && held.iter_mut().zip(spans).all(&mut ask);
        let gone = self.purge_spans(spans);
        let of_gone = (0..spans.len()).filter(|i| gone & 1 << i != 0).map(|i| held[i]);
        (gone, is_known.then(|| of_gone.sum()))
    }

    /// Purges up to 64 spans and says which are gone, one bit each. One that is locked does not
    /// keep the others; any other refusal is meant for all.
    fn purge_spans(&self, spans: &[Span]) -> u64 {
        debug_assert!(spans.len() <= BATCH);
        spans.iter().for_each(|&span| self.split_ends(span));
        let mut gone = 0;
        let mut at = 0;
        while at < spans.len() {
            let rest = &spans[at..];
            let (nr_done, is_over) = match self.machine.purge(rest) {
                Ok(()) => (rest.len(), true),
                Err((nr_done, errno)) => (nr_done, errno != Errno::EINVAL),
            };
            (at..at + nr_done).for_each(|i| gone |= 1 << i);
            at += nr_done + 1;
            if is_over {
                break;
            }
        }
        gone
    }

    /// What is left being little, splits the huge pages of which the span, about to go, has a part only.
    /// Otherwise the kernel keeps the memory until it splits them itself, which in a full control group
    /// may be too late.
    pub(crate) fn split_ends(&self, span: Span) {
        if !self.lookout().is_tight() {
            return;
        }
        // Mappings outside the window may share one with their neighbours.
        let is_huge = |addr| self.map.pfn_of(addr).is_none_or(|pfn| self.map.chunk(pfn).is_huge());
        let granule = self.machine.page_size();
        let (first, last) = (span.split_at(granule).0, span.split_at(span.len() - granule).1);
        let border = PAGEBLOCK_BYTES;
        let starts_inside = !first.addr().is_multiple_of(border);
        let ends_inside = !last.end().is_multiple_of(border);
        let is_same = first.addr() / border == last.addr() / border;
        if starts_inside && is_huge(first.addr()) {
            let _ = self.machine.split(first);
        }
        if ends_inside && !(starts_inside && is_same) && is_huge(last.addr()) {
            let _ = self.machine.split(last);
        }
    }

    /// What the system refused to take rests so long: the generation that it gets.
    pub(crate) fn generation_after_refusal(&self) -> u32 {
        refused_at(self.generation())
    }
}

/// The generation of what the system refused to take now: not to be asked for it all the time.
pub(crate) fn refused_at(now: u32) -> u32 {
    now.wrapping_add(REFUSED_REST)
}

/// What became of an isolated block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Isolated {
    /// It is empty and zero.
    Purged(Reclaimer),
    /// The system did not take it.
    Refused,
    /// It is as it was, or nobody knows.
    Kept,
}
