//! Sections that were holed get their huge pages back.
//!
//! To purge single pages of a section of huge pages, the kernel is told to leave it alone
//! ([`Pages::hole_section`]), and what is wanted of it later comes as small pages. When that happens
//! soon, holing it was a mistake: the age of cold memory grows, and the sections that are dense again
//! go back to huge pages. What lies in them now is collapsed, as khugepaged would do some day.
//!
//! The kernel may fill what is still missing in such a section at any time. So free pages beside
//! used ones count as resident from here on. Pages inside slabs stay holes by the accounts; a slab
//! knows when its section was holed for them, and the next holing purges them again.

use zonal_numa::{Errno, NodeId, ThpMode};

use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::purge::is_past;
use crate::section::Section;
use crate::watermark::WatermarkLevel;
use crate::zone::{Env, Zone};

/// A section is dense when less than one page in so many is missing in its used pageblocks.
const MISSING_PART: usize = 8;

impl Pages {
    /// Makes the dense ones of the sections of `node` whole again that were holed up to the
    /// generation `before`. Returns how many there were.
    pub fn unhole(&self, node: NodeId, before: u32) -> usize {
        let wanted = |section: &Section| {
            section.node() == node.index()
                && section.is_holed()
                && is_past(section.holed_at(), before)
        };
        let sections = self.sections.iter().filter(|(_, section)| wanted(section));
        sections.filter(|(_, section)| self.unhole_section(section)).count()
    }

    /// Asks for huge pages in place of the small ones of one pageblock that was holed and is full.
    /// False when there is none left. A slow call of the system: for kswapd.
    pub fn collapse(&self, node: NodeId) -> bool {
        let wanted = |section: &Section| {
            section.node() == node.index() && !section.is_holed() && section.is_to_collapse()
        };
        for (_, section) in self.sections.iter().filter(|(_, section)| wanted(section)) {
            // A file of the kernel's: not read where nothing is to be done.
            if matches!(self.machine.thp_mode(), ThpMode::Never | ThpMode::Unknown) {
                return false;
            }
            while let Some(pageblock) = section.next_to_collapse() {
                let first = pageblock * PAGEBLOCK_PAGES;
                let chunk = self.map.chunk(section.start().add(first));
                // What is missing would come with it: a few holes, which the kernel may fill as well.
                if chunk.resident.count(0, PAGEBLOCK_PAGES) < PAGEBLOCK_PAGES
                    || chunk.nr_holes() * MISSING_PART >= PAGEBLOCK_PAGES
                {
                    continue;
                }
                let span = section.span(&self.map, first, PAGEBLOCK_PAGES);
                if self.machine.collapse(span) == Err(Errno::EINVAL) {
                    section.end_collapse();
                }
                return true;
            }
        }
        false
    }

    /// The pages that the used pageblocks of a dense section miss. An estimate, without the zone's
    /// lock.
    fn missing_in_dense(&self, section: &Section) -> Option<usize> {
        let (mut nr_pages, mut nr_missing) = (0, 0);
        for start in section.pageblocks() {
            let chunk = self.map.chunk(start);
            let nr_resident = chunk.resident.count(0, PAGEBLOCK_PAGES);
            if nr_resident > 0 {
                nr_pages += PAGEBLOCK_PAGES;
                nr_missing += PAGEBLOCK_PAGES - nr_resident + chunk.nr_holes();
            }
        }
        (nr_missing * MISSING_PART < nr_pages).then_some(nr_missing)
    }

    fn unhole_section(&self, section: &Section) -> bool {
        // Nobody else holes it, or makes it whole, from here on.
        let _window = self.window.lock();
        let home = &self.nodes[section.node()];
        let has_room = |nr_pages| self.levels(home).have_room(nr_pages, WatermarkLevel::High);
        if !section.is_holed() || !self.missing_in_dense(section).is_some_and(has_room) {
            return false;
        }
        let span = section.span(&self.map, 0, section.nr_pages());
        if self.machine.advise_huge(span, true).is_err() {
            return false;
        }
        let mut zone = home.lock();
        let env = self.env(home);
        section.end_holing();
        zone.nr_holed_rest -= section.nr_left();
        for start in section.pageblocks() {
            zone.unhole(&env, start);
        }
        section.begin_collapse();
        true
    }
}

impl Zone {
    /// The pageblock at `start` is one of huge pages again: what is free in it, or isolated, counts as
    /// resident beside what is used.
    fn unhole(&mut self, env: &Env<'_>, start: Pfn) {
        let chunk = env.map.chunk(start);
        chunk.set_holed(false);
        self.relist(env.map, start);
        let mut at = 0;
        while at < PAGEBLOCK_PAGES {
            let pfn = start.add(at);
            let word = env.map.word_at(pfn);
            let free = word.as_buddy().map(|(order, ..)| order);
            let Some(order) = free.or(word.as_isolated().map(|(order, _)| order)) else {
                at += 1;
                continue;
            };
            // Nothing is used beside a whole pageblock.
            if order >= Order::PAGEBLOCK {
                return;
            }
            let end = at + order.nr_pages();
            let missing = order.nr_pages() - chunk.resident.count(at, end);
            if missing > 0 {
                env.levels.charge(missing);
                if free.is_some() {
                    self.buddy.remove(env.map, pfn);
                    chunk.resident.set(at, end);
                    chunk.adjust(0, missing as isize);
                    self.nr_free_resident += missing;
                    self.buddy.free(env.map, pfn, order);
                } else {
                    chunk.resident.set(at, end);
                }
            }
            at = end;
        }
    }
}
