//! The accounts of holes: pages of live slabs that were purged because no object touches them.

use super::Pages;
use crate::chunk::Chunk;
use crate::pfn::Pfn;
use crate::purge::Reclaimer;
use crate::run::PageRun;
use crate::section::Section;
use crate::watermark::WatermarkLevel;

impl Pages {
    /// Takes pages of a live run, now empty, off the accounts.
    pub(crate) fn note_holes(&self, pfn: Pfn, nr_pages: usize, by: Reclaimer) {
        let home = self.home(pfn);
        let mut zone = home.lock();
        self.levels(home).uncharge(nr_pages);
        zone.nr_holes += nr_pages;
        self.map.chunk(pfn).adjust_holes(nr_pages as isize);
        zone.note_scan(by, nr_pages);
        zone.note_steal(by, nr_pages);
    }

    /// Charges what [`Pages::note_holes`] took off, since the pages of these bits are about to be
    /// used; false when the limits, or the node that they are bound to, do not allow it.
    pub(crate) fn fill_holes(&self, pfn: Pfn, holes: u16, level: WatermarkLevel) -> bool {
        let nr_pages = holes.count_ones() as usize;
        let home = self.home(pfn);
        let mut zone = home.lock();
        if !self.levels(home).try_charge(nr_pages, level) {
            return false;
        }
        zone.nr_holes -= nr_pages;
        self.map.chunk(pfn).adjust_holes(-(nr_pages as isize));
        zone.events.pgfault += nr_pages as u64;
        if home.spend(nr_pages) {
            return true;
        }
        drop(zone);
        if self.secure_holes(home, pfn, holes, level) {
            return true;
        }
        let mut zone = home.lock();
        self.levels(home).uncharge(nr_pages);
        zone.nr_holes += nr_pages;
        self.map.chunk(pfn).adjust_holes(nr_pages as isize);
        zone.events.pgfault -= nr_pages as u64;
        false
    }

    /// Takes the run of a slab back, in which these pages are holes since its section was holed for the
    /// time `holing`. They stay without charge: charged without memory they would count as left to who
    /// looks at the control group before the next owner touches them. Where the kernel may have filled them
    /// they are charged again. Returns how many pages of the run have memory.
    pub(crate) fn free_holed(&self, run: PageRun, holes: u16, holing: u8) -> usize {
        let nr_pages = holes.count_ones() as usize;
        let home = self.home(run.head());
        let chunk = self.map.chunk(run.head());
        let mut zone = home.lock();
        zone.nr_holes -= nr_pages;
        chunk.adjust_holes(-(nr_pages as isize));
        let gone = if is_filled(chunk, self.sections.get(chunk.section()), holing) {
            self.levels(home).charge(nr_pages);
            0
        } else {
            holes
        };
        let nr_pages = run.nr_pages();
        zone.free_holed(&self.env(home), run.into_head(), nr_pages, gone);
        nr_pages - gone.count_ones() as usize
    }

    /// The system refused to take pages inside a slab, of which `nr_holes` had been taken before: those
    /// count again.
    pub(crate) fn note_purge_fail(&self, pfn: Pfn, nr_pages: usize, nr_holes: usize) {
        let home = self.home(pfn);
        let mut zone = home.lock();
        zone.events.purge_fail += nr_pages as u64;
        self.levels(home).charge(nr_holes);
        zone.nr_holes -= nr_holes;
        self.map.chunk(pfn).adjust_holes(-(nr_holes as isize));
    }
}

/// Whether the kernel may have filled holes of such a time: the section was made whole since and is, or
/// was holed again later.
fn is_filled(chunk: &Chunk, section: &Section, holing: u8) -> bool {
    chunk.is_whole() || section.nr_holings() != holing
}

#[cfg(test)]
mod tests {
    use zonal_numa::fake::FakeBuilder;
    use zonal_numa::{Machine, NodeId};

    use super::*;
    use crate::order::Order;
    use crate::word::Migratetype;
    use crate::{Config, Mm};

    #[test]
    fn a_run_of_which_the_kernel_filled_the_holes_comes_back_with_all_its_memory() {
        let mm = Mm::new(Machine::fake(FakeBuilder::new().build()), Config::default()).unwrap();
        let pages = mm.pages();
        let node = NodeId::new(0).unwrap();
        for is_filled in [false, true] {
            let level = WatermarkLevel::Low;
            let run = pages.alloc_run(node, 8, Order::ZERO, Migratetype::Slab, level).unwrap();
            let section = pages.map.chunk(run.head()).section();
            pages.hole_section(section);
            let holing = pages.sections.get(section).nr_holings();
            pages.note_holes(run.head(), 3, Reclaimer::Direct);
            let charged = pages.charged();
            // Holed again since.
            let holing = if is_filled { holing.wrapping_sub(1) } else { holing };
            let nr_pages = pages.free_holed(run, 0b111, holing);
            assert_eq!(nr_pages, if is_filled { 8 } else { 5 });
            assert_eq!(pages.charged(), charged + nr_pages - 5);
            mm.validate(None).unwrap();
        }
    }
}
