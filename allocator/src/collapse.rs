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
    /// False when there is none left. A slow call of the system: for the background reclaimer.
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
        // No more is committed to it, and nobody holes it, from here on.
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

#[cfg(test)]
mod tests {
    use zonal_numa::fake::{Call, FakeBuilder};

    use super::*;
    use crate::pages::PageConfig;
    use crate::pages_tests::Rig;
    use crate::purge::{Isolated, PurgeHow, Reclaimer};
    use crate::run::PageRun;
    use crate::word::PageWord;

    const N0: NodeId = NodeId::ZERO;

    /// A dense heap that has moved on to huge pages; the runs in those, a pageblock each.
    fn dense(config: &PageConfig) -> (Rig, Vec<PageRun>) {
        let rig = Rig::new(FakeBuilder::new(), config);
        let runs: Vec<PageRun> = (0..64).map(|_| rig.alloc(512).unwrap()).collect();
        let huge = runs.into_iter().filter(|run| rig.pages.map.chunk(run.head()).is_huge());
        let huge = huge.collect();
        (rig, huge)
    }

    /// Purges half of the last pageblock, for which its section is holed.
    fn hole(rig: &Rig, runs: &mut [PageRun]) -> Pfn {
        let last = runs.last_mut().unwrap();
        rig.pages.shrink_run(last, 256);
        assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 256);
        assert!(!rig.pages.map.chunk(last.head()).is_whole());
        last.head()
    }

    #[test]
    fn a_holed_section_that_is_dense_becomes_whole_and_can_be_holed_again() {
        let (rig, mut runs) = dense(&PageConfig::default());
        rig.pages.set_generation(10);
        let head = hole(&rig, &mut runs);
        let charged = rig.pages.charged();
        assert_eq!(rig.pages.unhole(N0, 9), 0, "holed later");
        assert_eq!(rig.pages.unhole(N0, 10), 1);
        rig.check();
        // The kernel may fill the rest at any time, so it counts, and is to be had again.
        let chunk = rig.pages.map.chunk(head);
        assert!(chunk.is_whole() && chunk.nr_free_resident() == 256);
        assert_eq!(rig.pages.charged(), charged + 256);
        while rig.pages.collapse(N0) {}
        assert!(rig.fake.calls(Call::Collapse) > 0);
        assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 256);
        assert!(!chunk.is_whole());
        assert_eq!(rig.pages.unhole(N0, 9), 0);
        rig.check();
    }

    /// A purge has free blocks of a holed section in hand when it is made whole: they come back, with or
    /// without a run being taken beside them meanwhile.
    #[test]
    fn what_is_isolated_while_a_section_becomes_whole_counts_as_the_rest_of_it() {
        for (state, is_first) in [
            (Isolated::Purged(Reclaimer::Kswapd), true),
            (Isolated::Purged(Reclaimer::Kswapd), false),
            (Isolated::Refused, true),
            (Isolated::Kept, false),
        ] {
            let (rig, mut runs) = dense(&PageConfig::default());
            let head = hole(&rig, &mut runs);
            let home = rig.pages.node(N0).unwrap();
            let putback = |pfn| home.lock().putback(&rig.pages.env(home), pfn, state);
            // One block in which every page is missing, and one with all of them.
            let mut run = runs.swap_remove(runs.len() - 2);
            rig.pages.shrink_run(&mut run, 256);
            assert!(!rig.pages.map.chunk(run.head()).is_whole());
            let blocks = [head, run.head()].map(|head| head.add(256));
            // Beside each is one that can be had meanwhile.
            rig.pages.shrink_run(&mut run, 128);
            rig.pages.shrink_run(runs.last_mut().unwrap(), 128);
            for pfn in blocks {
                home.lock().isolate(&rig.pages.map, pfn);
            }
            assert_eq!(rig.pages.unhole(N0, rig.pages.generation()), 1);
            rig.check();
            let mut put = Vec::new();
            if is_first {
                put.extend(blocks.map(putback));
                rig.check();
            }
            runs.push(rig.alloc(1).unwrap());
            if !is_first {
                put.extend(blocks.map(putback));
            }
            rig.check();
            let nr_resident = if matches!(state, Isolated::Purged(_)) { 0 } else { 256 };
            assert_eq!(put, [nr_resident; 2]);
            // Now somebody takes a part of each.
            while blocks.iter().any(|&pfn| rig.pages.map.word_at(pfn).as_buddy().is_some()) {
                runs.push(rig.alloc(64).unwrap());
                rig.check();
            }
        }
    }

    #[test]
    fn a_part_of_a_huge_page_that_was_purged_on_its_way_out_counts_as_the_rest_of_it() {
        let (rig, mut runs) = dense(&PageConfig::default());
        let mut run = runs.swap_remove(0);
        rig.pages.shrink_run(&mut run, 256);
        let home = rig.pages.node(N0).unwrap();
        let taken = rig.alloc(256).unwrap();
        assert!(rig.pages.map.chunk(taken.head()).is_whole());
        let charged = rig.pages.charged();
        rig.pages.map.set_word(taken.head(), PageWord::NOTHING);
        home.lock().free_purged(&rig.pages.env(home), taken.into_head(), 256);
        assert_eq!(rig.pages.charged(), charged);
        runs.push(rig.alloc(1).unwrap());
        rig.check();
    }

    #[test]
    fn where_little_is_left_a_huge_page_is_split_before_a_part_of_it_goes_back() {
        let (rig, mut runs) = dense(&PageConfig::default());
        hole(&rig, &mut runs);
        assert_eq!(rig.fake.calls(Call::Split), 0);
        rig.pages.lookout().set_tight(true);
        let mut run = runs.remove(0);
        rig.pages.shrink_run(&mut run, 100);
        assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 412);
        let nr_splits = rig.fake.calls(Call::Split);
        assert!(nr_splits > 0);
        // All of one needs no splitting.
        let whole = runs.remove(0);
        rig.pages.free_run(whole);
        assert_eq!(rig.pages.purge(N0, usize::MAX, PurgeHow::ALL), 512);
        assert_eq!(rig.fake.calls(Call::Split), nr_splits);
        rig.check();
    }

    #[test]
    fn a_sparse_section_stays_as_it_is() {
        let (rig, mut runs) = dense(&PageConfig::default());
        runs.iter_mut().for_each(|run| rig.pages.shrink_run(run, 256));
        rig.pages.purge(N0, usize::MAX, PurgeHow::ALL);
        assert_eq!(rig.pages.unhole(N0, 0), 0);
        assert!(!rig.pages.collapse(N0));
        rig.check();
    }

    #[test]
    fn a_section_stays_as_it_is_where_a_limit_is_near() {
        let config = PageConfig { limit: 100 << 9, ..PageConfig::default() };
        let (rig, mut runs) = dense(&config);
        hole(&rig, &mut runs);
        let headroom = || rig.pages.limit() - rig.pages.charged();
        while headroom() >= rig.pages.watermarks().high + 256 {
            runs.push(rig.alloc(512).unwrap());
        }
        assert_eq!(rig.pages.unhole(N0, 0), 0);
        rig.check();
    }

    #[test]
    fn a_few_pages_are_not_worth_a_section() {
        let (rig, mut runs) = dense(&PageConfig::default());
        let how = PurgeHow { sparing: true, ..PurgeHow::ALL };
        let last = runs.last_mut().unwrap();
        rig.pages.shrink_run(last, 256);
        for _ in 0..3 {
            rig.pages.begin_wishes();
            assert_eq!(rig.pages.purge(N0, usize::MAX, how), 0);
        }
        runs.iter_mut().for_each(|run| rig.pages.shrink_run(run, 256));
        rig.pages.begin_wishes();
        assert_eq!(rig.pages.purge(N0, usize::MAX, how), 0, "it takes a round to know");
        rig.pages.begin_wishes();
        assert_eq!(rig.pages.purge(N0, usize::MAX, how), runs.len() * 256);
        rig.check();
    }

    #[test]
    fn what_was_wanted_back_is_holed_again_only_for_much_more() {
        let (rig, mut runs) = dense(&PageConfig::default());
        let how = PurgeHow { sparing: true, ..PurgeHow::ALL };
        let purge = || {
            rig.pages.begin_wishes();
            rig.pages.purge(N0, usize::MAX, how)
        };
        let section = |run: &PageRun| rig.pages.map.chunk(run.head()).section();
        let last = section(runs.last().unwrap());
        runs.retain(|run| section(run) == last);
        let nr_committed = rig.pages.sections.get(last).nr_committed();
        // A tenth of the section.
        let tenth = nr_committed / 10 / 256 + 1;
        runs[..tenth].iter_mut().for_each(|run| rig.pages.shrink_run(run, 256));
        assert_eq!([purge(), purge()], [0, tenth * 256]);
        assert_eq!(rig.pages.unhole(N0, rig.pages.generation()), 1);
        assert_eq!([purge(), purge(), purge()], [0; 3]);
        let quarter = nr_committed / 4 / 256 + 1;
        runs[tenth..quarter].iter_mut().for_each(|run| rig.pages.shrink_run(run, 256));
        assert_eq!([purge(), purge()], [0, quarter * 256]);
        rig.check();
    }
}
