//! Holing: sections of huge pages are given up as such, so that single pages of them can be purged.
//!
//! That is worth it only where much can be had, so the rounds of kswapd count for
//! each section what they wish to purge in it. `collapse` takes it back.

use crate::chunk::Chunk;
use crate::order::Order;
use crate::pagemap::PageMap;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::purge::PurgeHow;
use crate::zone::Zone;

use super::Thp;

impl Pages {
    /// Whether a section of huge pages is to be holed, of which `nr_pages` more could be had in this
    /// chunk, which are old enough for that or may be some day.
    pub(crate) fn is_worth_holing(
        &self,
        chunk: &Chunk,
        nr_pages: usize,
        how: PurgeHow,
        is_old: bool,
    ) -> bool {
        if how.sparing.is_none() {
            return true;
        }
        let section = self.sections.get(chunk.section());
        if !is_old {
            section.spare(nr_pages);
        }
        is_old && section.wish(nr_pages)
    }

    /// Cold pages that this round of kswapd left, since huge pages were too young to be given up for
    /// them: where there were enough of them for that.
    pub fn nr_spared(&self) -> usize {
        if self.thp == Thp::Always {
            return 0;
        }
        self.sections.iter().map(|(_, section)| section.nr_spared()).sum()
    }

    /// From here on it is counted anew what could be had of sections of huge pages if they were
    /// holed; what the last round spared may count as that. For kswapd, once a round.
    pub fn begin_wishes(&self, with_spared: bool) {
        self.sections.iter().for_each(|(_, section)| section.begin_wishes(with_spared));
    }

    /// Whether another round would hole a section: this one found enough to be had in it.
    pub fn has_wishes(&self) -> bool {
        self.thp != Thp::Always && self.sections.iter().any(|(_, section)| section.has_wishes())
    }

    /// Lets pages of a section of huge pages be purged singly: tells the kernel to leave the holes
    /// alone, since khugepaged would fill them again. The huge pages that are there stay until
    /// they are holed. [`Pages::unhole`] takes it back. For the whole section, because advice by
    /// chunk would split the mapping. False when it was done before, or huge pages are wanted at all
    /// costs.
    pub(crate) fn hole_section(&self, index: u16) -> bool {
        let section = self.sections.get(index);
        if self.thp == Thp::Always || !section.may_be_holed() {
            return false;
        }
        // Nobody else holes it, or makes it whole again, from here on.
        let _window = self.window.lock();
        if !section.may_be_holed() {
            return false;
        }
        let span = section.span(&self.map, 0, section.nr_pages());
        if self.machine.advise_huge(span, false).is_err() {
            // Not asked again: what the kernel refuses once, it refuses always.
            section.refuse_holing();
            return false;
        }
        let mut zone = self.nodes[section.node()].lock();
        section.begin_holing(self.generation());
        zone.nr_holed_rest += section.nr_left();
        section.pageblocks().for_each(|start| self.map.chunk(start).set_holed(true));
        section.pageblocks().for_each(|start| zone.relist(&self.map, start));
        true
    }
}

impl Zone {
    /// Free pageblocks stand on the lists by kind: moves one that just changed its own.
    pub(crate) fn relist(&mut self, map: &PageMap, start: Pfn) {
        let block = map.word_at(start).as_buddy();
        if let Some((_, mt, _)) = block.filter(|(order, ..)| *order >= Order::PAGEBLOCK) {
            self.buddy.retype(map, start, mt);
        }
    }
}
