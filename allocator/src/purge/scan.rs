//! Looking for what can be purged.
//!
//! Whole pageblocks go first, then free blocks inside used ones; out of a huge page less is purged
//! only where it is worth the huge page.

use zonal_numa::{PAGE_SIZE, Span};

use super::PurgeHow;
use crate::buddy::BlockList;
use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::section::Section;
use crate::word::Migratetype;
use crate::zone::Zone;

/// Blocks taken out at once: bounds the time of a batch and the stack.
pub(super) const BATCH: usize = 64;
/// Free pages for which a huge page is given up: an eighth of it.
const WORTH_HOLING: usize = PAGEBLOCK_PAGES / 8;
/// Pageblocks looked at under one hold of the zone lock.
const SCAN: usize = 256;

/// The blocks of one round and the ranges they form.
pub(super) struct Batch {
    pub(super) blocks: [(Pfn, u32); BATCH],
    pub(super) nr_blocks: usize,
    pub(super) spans: [Span; BATCH],
    pub(super) nr_spans: usize,
    nr_resident: usize,
    /// A section of huge pages with enough to give back for holing it.
    pub(super) to_hole: Option<u16>,
}

impl Batch {
    pub(super) fn new() -> Batch {
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

/// Where the search is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Search {
    Pageblocks,
    Holes { left: usize },
}

impl Pages {
    /// Fills the batch; says where to go on, none when all was seen.
    pub(super) fn isolate_batch(
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
                Some(Search::Holes { left: zone.nr_pageblocks().min(how.looks) })
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
                let is_old = how.takes_huge(chunk.generation(), chunk.freed_at());
                if nr_pages >= WORTH_HOLING && self.is_worth_holing(chunk, nr_pages, how, is_old) {
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
            let mine = |section: &Section| {
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
}

fn is_old(pages: &Pages, pfn: Pfn, order: Order, how: PurgeHow) -> bool {
    pages.map.pieces(pfn, order.nr_pages()).all(|(chunk, ..)| how.takes(chunk.generation()))
}
