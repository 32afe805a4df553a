//! Purging: free resident pages go back to the OS.
//!
//! ```text
//!   zone lock: isolate up to a batch -> unlock -> Machine::purge -> zone lock: put back
//! ```
//!
//! Isolated blocks stand on a list of the zone, so that a forked child can put back what a thread
//! of its parent held. Whole pageblocks go first; out of a huge page less is purged only where it
//! is worth the huge page.

use zonal_numa::{Errno, NodeId, PAGE_SIZE, Span, probe};

use crate::buddy::BlockList;
use crate::chunk::Chunk;
use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::word::Migratetype;
use crate::zone::{Thp, Zone};

/// In whose name memory is given back: for the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reclaimer {
    /// The background reclaimer, or a round of its work by a caller.
    Kswapd,
    /// A request in need, or the program by `malloc_trim` and the like.
    Direct,
}

/// What to purge.
#[derive(Clone, Copy, Debug)]
pub struct PurgeHow {
    /// Only what was not used after this generation; none for all, whatever its age.
    pub up_to: Option<u32>,
    /// A section of huge pages is holed only for what rests so many generations more, and where that
    /// is a good part of it; none to hole it for anything.
    pub patience: Option<u32>,
    /// Holes smaller than this order are not worth a call.
    pub smallest: Order,
    /// Pageblocks to look at, at most; the next search goes on where this one ends.
    pub looks: usize,
    /// Who asks.
    pub by: Reclaimer,
}

impl PurgeHow {
    /// Everything that can be given back at all.
    pub const ALL: PurgeHow = PurgeHow {
        up_to: None,
        patience: None,
        smallest: Order::ZERO,
        looks: usize::MAX,
        by: Reclaimer::Direct,
    };

    /// Whether what was last used in `generation` is old enough.
    fn takes(&self, generation: u32) -> bool {
        self.up_to.is_none_or(|border| is_past(generation, border))
    }

    /// Up to which generation a huge page is given up for less than all of it.
    pub(crate) fn holing_up_to(&self) -> Option<u32> {
        self.up_to.map(|border| border.wrapping_sub(self.patience.unwrap_or(0)))
    }
}

/// Whether `generation` is not after `border`. The clock wraps after two years: what rested for
/// more than one counts as young again.
pub fn is_past(generation: u32, border: u32) -> bool {
    border.wrapping_sub(generation).cast_signed() >= 0
}

/// Blocks taken out at once: bounds the time of a batch and the stack.
const BATCH: usize = 64;
/// Free pages for which a huge page is given up: an eighth of it.
const WORTH_HOLING: usize = PAGEBLOCK_PAGES / 8;
/// Pageblocks looked at under one hold of the zone lock.
const SCAN: usize = 256;
/// What the system refused to take counts as used for so many generations: ten seconds.
const REFUSED_REST: u32 = 600;

/// The blocks of one round and the ranges they form.
struct Batch {
    blocks: [(Pfn, u32); BATCH],
    nr_blocks: usize,
    spans: [Span; BATCH],
    nr_spans: usize,
    nr_resident: usize,
    /// A section of huge pages with enough to give back for holing it.
    to_hole: Option<u16>,
}

impl Batch {
    fn new() -> Batch {
        Batch {
            blocks: [(Pfn::NONE, 0); BATCH],
            nr_blocks: 0,
            spans: [Span::EMPTY; BATCH],
            nr_spans: 0,
            nr_resident: 0,
            to_hole: None,
        }
    }

    fn is_full(&self, goal: usize) -> bool {
        self.nr_blocks == BATCH || self.nr_resident >= goal
    }

    fn add(&mut self, pages: &Pages, zone: &mut Zone, pfn: Pfn) {
        let (nr_pages, nr_resident) = zone.isolate(&pages.map, pfn);
        let addr = pages.map.addr_of(pfn).addr();
        let len = nr_pages * PAGE_SIZE;
        let last = self.nr_spans.checked_sub(1).map(|i| self.spans[i]);
        // Neighbours go in one call.
        let (slot, addr, len) = match last {
            Some(last) if last.end() == addr => (self.nr_spans - 1, last.addr(), last.len() + len),
            _ => (self.nr_spans, addr, len),
        };
        // SAFETY: the blocks are isolated: free pages of zonal that nobody else can get.
        self.spans[slot] = unsafe { Span::new(addr, len) };
        self.nr_spans = slot + 1;
        self.blocks[self.nr_blocks] = (pfn, slot as u32);
        self.nr_blocks += 1;
        self.nr_resident += nr_resident;
    }
}

impl Pages {
    /// Gives up to about `goal_pages` free resident pages of `node` back to the OS; returns how
    /// many it gave.
    pub fn purge(&self, node: NodeId, goal_pages: usize, how: PurgeHow) -> usize {
        let Some(home) = self.node(node) else { return 0 };
        let mut done = 0;
        let mut search = Search::Pageblocks;
        while done < goal_pages {
            let mut batch = Batch::new();
            let next = self.isolate_batch(home, search, &mut batch, goal_pages - done, how);
            if batch.nr_blocks > 0 {
                let purged = self.purge_batch(home, &batch, how.by);
                done += purged;
                // Locked or forbidden, and so probably all the rest.
                if purged == 0 {
                    break;
                }
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

    /// Whether a section of huge pages is to be holed, of which `nr_pages` more could be had in this
    /// chunk.
    pub(crate) fn is_worth_holing(&self, chunk: &Chunk, nr_pages: usize, how: PurgeHow) -> bool {
        how.patience.is_none() || self.sections.get(chunk.section()).wish(nr_pages)
    }

    /// From here on it is counted anew what could be had of sections of huge pages if they were
    /// holed. For the keeper, once a round.
    pub fn begin_wishes(&self) {
        self.sections.iter().for_each(|(_, section)| section.begin_wishes());
    }

    /// Whether another round would hole a section: this one found enough to be had in it.
    pub fn has_wishes(&self) -> bool {
        self.thp != Thp::Always && self.sections.iter().any(|(_, section)| section.has_wishes())
    }

    /// Lets pages of a section of huge pages be purged singly: tells the kernel to leave the holes
    /// alone, since khugepaged would fill them again. The huge pages that are there stay until
    /// they are holed. [`Pages::unhole`] takes it back. For the whole section, because advice by chunk would split the mapping.
    /// False when it was done before, or huge pages are wanted at all costs.
    pub(crate) fn hole_section(&self, index: u16) -> bool {
        let section = self.sections.get(index);
        if self.thp == Thp::Always || !section.begin_holing(self.generation()) {
            return false;
        }
        // No more is committed to it from here on, or is by a thread that holds the window lock.
        let _window = self.window.lock();
        let span = section.span(&self.map, 0, section.nr_pages());
        if self.machine.advise_huge(span, false).is_err() {
            // Not asked again: what the kernel refuses once, it refuses always.
            section.refuse_holing();
            return false;
        }
        let mut zone = self.nodes[section.node()].lock();
        let starts = (0..section.nr_committed()).step_by(PAGEBLOCK_PAGES);
        let starts = starts.map(|at| section.start().add(at));
        starts.clone().for_each(|start| self.map.chunk(start).set_holed(true));
        // Free pageblocks stand on the lists by kind: move those that just changed theirs.
        for start in starts {
            let block = self.map.word_at(start).as_buddy();
            if let Some((_, mt, _)) = block.filter(|(order, ..)| *order >= Order::PAGEBLOCK) {
                zone.buddy.retype(&self.map, start, mt);
            }
        }
        true
    }

    /// Fills the batch; says where to go on, none when all was seen.
    fn isolate_batch(
        &self,
        home: &Node,
        search: Search,
        batch: &mut Batch,
        goal: usize,
        how: PurgeHow,
    ) -> Option<Search> {
        let mut zone = home.lock();
        match search {
            Search::Pageblocks => {
                self.isolate_pageblocks(&mut zone, batch, goal, how);
                if batch.is_full(goal) {
                    return Some(search);
                }
                let nr_pageblocks = zone.nr_managed / PAGEBLOCK_PAGES;
                Some(Search::Holes { left: nr_pageblocks.min(how.looks) })
            }
            Search::Holes { left } => {
                let seen = self.isolate_holes(&mut zone, batch, goal, how, left.min(SCAN));
                let left = left - seen;
                (left > 0).then_some(Search::Holes { left })
            }
        }
    }

    /// Whole pageblocks stand on lists of their own; the one freed first is at the back, and those
    /// in front of many young ones are young, too.
    fn isolate_pageblocks(&self, zone: &mut Zone, batch: &mut Batch, goal: usize, how: PurgeHow) {
        for order in Order::PAGEBLOCK.and_up().rev() {
            for mt in Migratetype::ALL {
                let mut nr_young = 0;
                let mut next = zone.buddy.list(order, mt, true).tail();
                while let Some(pfn) = next.filter(|_| !batch.is_full(goal) && nr_young < SCAN) {
                    next = BlockList::prev(&self.map, pfn);
                    zone.note_scan(how.by, order.nr_pages());
                    if is_old(self, pfn, order, how) {
                        batch.add(self, zone, pfn);
                    } else {
                        nr_young += 1;
                    }
                }
            }
        }
    }

    /// Free blocks inside used pageblocks of base sections. Looks at up to `limit` pageblocks from
    /// where the last search ended, downwards, because zones fill from the bottom; returns how
    /// many it saw.
    fn isolate_holes(
        &self,
        zone: &mut Zone,
        batch: &mut Batch,
        goal: usize,
        how: PurgeHow,
        limit: usize,
    ) -> usize {
        for seen in 0..limit {
            if batch.is_full(goal) {
                return seen;
            }
            let Some(start) = self.step_back(zone) else { return limit };
            let chunk = self.map.chunk(start);
            zone.note_scan(how.by, chunk.nr_free_resident());
            if chunk.nr_free_resident() == 0 || !how.takes(chunk.generation()) {
                continue;
            }
            if chunk.is_whole() {
                let nr_pages = chunk.nr_free_resident();
                let is_ripe =
                    how.holing_up_to().is_none_or(|border| is_past(chunk.generation(), border));
                if nr_pages >= WORTH_HOLING && is_ripe && self.is_worth_holing(chunk, nr_pages, how)
                {
                    batch.to_hole.get_or_insert(chunk.section());
                }
                continue;
            }
            let mut at = 0;
            while at < PAGEBLOCK_PAGES {
                let pfn = start.add(at);
                let Some((order, _, warm)) = self.map.word_at(pfn).as_buddy() else {
                    at += 1;
                    continue;
                };
                at += order.nr_pages();
                if order >= Order::PAGEBLOCK {
                    break;
                }
                if warm && order >= how.smallest.max(self.os_page) {
                    if batch.is_full(goal) {
                        // The rest of this pageblock is for the next round.
                        zone.purge_cursor.1 += 1;
                        return seen;
                    }
                    batch.add(self, zone, pfn);
                }
            }
        }
        limit
    }

    /// Moves the cursor to the pageblock before, through all sections of the zone and round again.
    fn step_back(&self, zone: &mut Zone) -> Option<Pfn> {
        let (index, pageblock) = zone.purge_cursor;
        if pageblock > 0 {
            zone.purge_cursor.1 = pageblock - 1;
        } else {
            let mine = |section: &crate::section::Section| {
                section.node() == zone.node.index() && section.nr_committed() > 0
            };
            let before = self.sections.iter().rev().find(|(i, s)| u32::from(*i) < index && mine(s));
            let (i, section) =
                before.or_else(|| self.sections.iter().rev().find(|(_, s)| mine(s)))?;
            let nr_pageblocks = section.nr_committed() / PAGEBLOCK_PAGES;
            zone.purge_cursor = (u32::from(i), nr_pageblocks as u32 - 1);
        }
        let (index, pageblock) = zone.purge_cursor;
        let section = self.sections.get(index as u16);
        Some(section.start().add(pageblock as usize * PAGEBLOCK_PAGES))
    }

    /// Purges what the batch holds and puts it back. Returns the pages given back.
    fn purge_batch(&self, home: &Node, batch: &Batch, by: Reclaimer) -> usize {
        let gone = self.purge_spans(&batch.spans[..batch.nr_spans]);
        let env = self.env(home);
        let mut zone = home.lock();
        let mut purged = 0;
        for &(pfn, span) in &batch.blocks[..batch.nr_blocks] {
            let state =
                if gone & 1 << span == 0 { Isolated::Refused } else { Isolated::Purged(by) };
            let nr_pages = zone.putback(&env, pfn, state);
            purged += if state == Isolated::Refused { 0 } else { nr_pages };
        }
        probe::mm_page_purge(zone.node.index(), purged, gone.count_ones() as usize);
        purged
    }

    /// Purges up to 64 spans and says which are gone, one bit each. One that is locked does not
    /// keep the others; any other refusal is meant for all.
    pub(crate) fn purge_spans(&self, spans: &[Span]) -> u64 {
        debug_assert!(spans.len() <= BATCH);
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

/// Where the search is.
#[derive(Clone, Copy, Debug)]
enum Search {
    Pageblocks,
    Holes { left: usize },
}

fn is_old(pages: &Pages, pfn: Pfn, order: Order, how: PurgeHow) -> bool {
    pages.map.pieces(pfn, order.nr_pages()).all(|(chunk, ..)| how.takes(chunk.generation()))
}
