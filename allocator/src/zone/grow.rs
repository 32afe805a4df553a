//! New memory on its way into a zone.
//!
//! ```text
//!   section's rest --claim--> committing --online--> free, cold
//!                                |   ^
//!                         refuse |   | claim
//!                                v   |
//!                               refused
//! ```
//!
//! The system call that commits pages waits for page faults of other threads. So whoever grows a zone takes
//! the next pages of a section under the zone's lock, as one takes a free block for a purge, and commits them
//! without it: nobody waits for that, since others take the pages behind these. What the system refuses is
//! claimed again by the next who grows. A child of a fork knows of nobody who commits: what was on its way
//! counts as refused there.

use super::{Env, Zone};
use crate::buddy::BlockList;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::section::Section;
use crate::word::{Migratetype, PageWord};

/// Pageblocks that are in no free list yet: their words are those of isolated blocks, nothing of them is
/// resident.
#[derive(Debug)]
pub(crate) struct Claims {
    /// Whoever claimed them asks the system for them.
    pub(crate) committing: BlockList,
    /// The system gave none for these.
    pub(crate) refused: BlockList,
    /// The sections to claim from, of base and of huge pages: a hint.
    pub(crate) sections: [Option<u16>; 2],
}

impl Claims {
    pub(super) const fn new() -> Claims {
        Claims { committing: BlockList::EMPTY, refused: BlockList::EMPTY, sections: [None; 2] }
    }

    /// Pages of all such pageblocks.
    pub(crate) fn nr_pages(&self) -> usize {
        (self.committing.len() + self.refused.len()) * PAGEBLOCK_PAGES
    }
}

impl Zone {
    /// All pageblocks of its sections so far: those in service, and those that are claimed.
    pub(crate) fn nr_pageblocks(&self) -> usize {
        (self.nr_managed + self.claims.nr_pages()) / PAGEBLOCK_PAGES
    }

    /// Takes the next `nr_pages` pages of a section, whole pageblocks, for the caller to commit.
    pub(crate) fn claim(
        &mut self,
        env: &Env<'_>,
        (index, section): (u16, &Section),
        nr_pages: usize,
        mt: Migratetype,
    ) -> Pfn {
        let done = section.nr_committed();
        let start = section.start().add(done);
        for at in pageblocks(start, nr_pages) {
            let chunk = env.map.chunk(at);
            chunk.online(self.node, index, section.is_huge(), mt);
            chunk.set_holed(section.is_holed());
            env.map.set_word(at, PageWord::isolated(Order::PAGEBLOCK, mt));
            self.claims.committing.push_back(env.map, at);
        }
        section.set_committed(done + nr_pages);
        if section.is_holed() {
            self.nr_holed_rest -= nr_pages;
        }
        start
    }

    /// A pageblock of the kind that was refused before.
    pub(crate) fn refused(&self, map: &PageMap, huge: bool) -> Option<Pfn> {
        let mut next = self.claims.refused.head();
        while let Some(at) = next.filter(|&at| map.chunk(at).is_whole() != huge) {
            next = BlockList::next(map, at);
        }
        next
    }

    /// Takes such a pageblock for the caller to commit.
    pub(crate) fn claim_refused(
        &mut self,
        map: &PageMap,
        huge: bool,
        mt: Migratetype,
    ) -> Option<Pfn> {
        let at = self.refused(map, huge)?;
        map.chunk(at).set_migratetype(mt);
        map.set_word(at, PageWord::isolated(Order::PAGEBLOCK, mt));
        self.claims.refused.unlink(map, at);
        self.claims.committing.push_back(map, at);
        Some(at)
    }

    /// The system gave no memory for pages that the caller claimed.
    pub(crate) fn refuse(&mut self, map: &PageMap, start: Pfn, nr_pages: usize) {
        for at in pageblocks(start, nr_pages) {
            self.claims.committing.unlink(map, at);
            self.claims.refused.push_back(map, at);
        }
    }

    /// Takes claimed pages into service that are committed now, and resident already or not.
    pub(crate) fn online(&mut self, env: &Env<'_>, start: Pfn, nr_pages: usize, resident: bool) {
        for at in pageblocks(start, nr_pages) {
            self.claims.committing.unlink(env.map, at);
            env.map.set_word(at, PageWord::NOTHING);
            if resident {
                env.map.chunk(at).resident.set(0, PAGEBLOCK_PAGES);
            }
        }
        self.nr_managed += nr_pages;
        let nr_resident = if resident { nr_pages } else { 0 };
        env.levels.charge(nr_resident);
        self.add_free(env, start, nr_pages, nr_resident);
        // From the top down: lists are taken from the end that was filled last, so that zones grow
        // upwards and runs meet the tail that the one before left.
        for at in pageblocks(start, nr_pages).rev() {
            self.buddy.free(env.map, at, Order::PAGEBLOCK);
        }
    }

    /// In a forked child, where nobody is at it any more.
    pub(crate) fn refuse_all(&mut self, map: &PageMap) {
        while let Some(at) = self.claims.committing.head() {
            self.refuse(map, at, PAGEBLOCK_PAGES);
        }
    }
}

fn pageblocks(start: Pfn, nr_pages: usize) -> impl DoubleEndedIterator<Item = Pfn> {
    (0..nr_pages / PAGEBLOCK_PAGES).map(move |i| start.add(i * PAGEBLOCK_PAGES))
}
