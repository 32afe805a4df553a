//! `validate`: recomputes the truth from the metadata and compares every counter with it.
//!
//! Takes all locks of the layer, so it can run beside other threads; a test aid and a tool for
//! debugging, linear in the committed pages.

use crate::buddy::{BlockList, is_warm};
use crate::chunk::Chunk;
use crate::error::Mismatch;
use crate::node::{Node, ZoneGuard};
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::word::{Migratetype, PageWord};

/// What a walk over a zone's sections counts.
#[derive(Debug, Default)]
struct Truth {
    managed: usize,
    free: usize,
    resident: usize,
    free_resident: usize,
    isolated: usize,
    isolated_blocks: usize,
    highatomic: usize,
    holes: usize,
    holed_rest: usize,
    blocks: usize,
}

impl Pages {
    /// Checks every counter, list and word of the page layer against each other.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), Mismatch> {
        let _window = self.window.lock();
        self.validate_nodes(&mut self.online_nodes(), 0)
    }

    /// Checks the zones that are left, with the locks of those before still held, so that the
    /// sum of all holds at one moment.
    fn validate_nodes(
        &self,
        nodes: &mut dyn Iterator<Item = &Node>,
        charged: usize,
    ) -> Result<(), Mismatch> {
        let Some(node) = nodes.next() else {
            return Mismatch::check(
                "pages charged to the process",
                Pfn::NONE,
                charged,
                self.charged(),
            );
        };
        let zone = node.lock();
        let here = self.validate_zone(node, &zone)?;
        self.validate_nodes(nodes, charged + here)
    }

    /// Returns the charged pages of the zone.
    fn validate_zone(&self, node: &Node, zone: &ZoneGuard<'_>) -> Result<usize, Mismatch> {
        let mut truth = Truth::default();
        for (index, section) in self.sections.iter() {
            if section.node() != zone.node.index() {
                continue;
            }
            truth.managed += section.nr_committed();
            truth.holed_rest += if section.is_holed() { section.nr_left() } else { 0 };
            let mut skip = 0;
            for start in section.pageblocks() {
                let chunk = self.map.chunk(start);
                let of = Mismatch::check;
                of("section of chunk", start, usize::from(index), usize::from(chunk.section()))?;
                let chunk_node = chunk.node().map_or(usize::MAX, |id| id.index());
                of("node of chunk", start, section.node(), chunk_node)?;
                of("kind of chunk", start, section.is_huge().into(), chunk.is_huge().into())?;
                skip = self.validate_chunk(start, chunk, skip, &mut truth)?;
            }
        }
        let none = Pfn::NONE;
        let out = truth.managed - truth.free - truth.isolated;
        let claimed = zone.claims.nr_pages();
        Mismatch::check("pages managed", none, truth.managed, zone.nr_managed + claimed)?;
        Mismatch::check("pages free", none, truth.free, zone.nr_free)?;
        Mismatch::check(
            "pages free and resident",
            none,
            truth.free_resident,
            zone.nr_free_resident,
        )?;
        Mismatch::check("pages isolated", none, truth.isolated, zone.nr_isolated + claimed)?;
        Mismatch::check("pages handed out", none, out, zone.nr_out)?;
        Mismatch::check("pageblocks in reserve", none, truth.highatomic, zone.nr_highatomic)?;
        Mismatch::check("rest of holed sections", none, truth.holed_rest, zone.nr_holed_rest)?;
        Mismatch::check("holes", none, truth.holes, zone.nr_holes)?;
        let charged = truth.resident + zone.nr_huge - zone.nr_holes;
        Mismatch::check("pages charged", none, charged, node.budget.charged())?;
        let listed = self.validate_lists(zone)?;
        Mismatch::check("free blocks listed", none, truth.blocks, listed)?;
        let mut isolated = 0;
        for list in [&zone.isolated, &zone.claims.committing, &zone.claims.refused] {
            isolated += self.walk(list, |word| word.as_isolated().is_some())?;
        }
        Mismatch::check("isolated blocks listed", none, truth.isolated_blocks, isolated)?;
        Ok(charged)
    }

    /// Checks one pageblock, whose first `skip` pages belong to a block that began before it.
    /// Returns the same for the next.
    fn validate_chunk(
        &self,
        start: Pfn,
        chunk: &Chunk,
        skip: usize,
        truth: &mut Truth,
    ) -> Result<usize, Mismatch> {
        // Pages of a block that began in the pageblock before are free, or isolated.
        let mut free = 0;
        let mut free_resident = 0;
        let mut count = |lo: usize, hi: usize| {
            free += hi - lo;
            free_resident += chunk.resident.count(lo, hi);
        };
        let before = start.get().wrapping_sub(PAGEBLOCK_PAGES as u32);
        if skip > 0 && self.map.word_at(Pfn::new(before)).as_buddy().is_some() {
            count(0, PAGEBLOCK_PAGES);
        }
        let mut at = skip;
        while at < PAGEBLOCK_PAGES {
            let pfn = start.add(at);
            let word = self.map.word_at(pfn);
            let order = if let Some((order, mt, warm)) = word.as_buddy() {
                let chunk_mt = chunk.migratetype().index();
                Mismatch::check("migratetype of block", pfn, chunk_mt, mt.index())?;
                Mismatch::check("warmth", pfn, self.warmth(pfn, order), warm.into())?;
                Mismatch::check("buddies not merged", pfn, 0, self.unmerged(pfn, order))?;
                truth.blocks += 1;
                count(at, PAGEBLOCK_PAGES.min(at + order.nr_pages()));
                order
            } else if let Some((order, _)) = word.as_isolated() {
                truth.isolated += order.nr_pages();
                truth.isolated_blocks += 1;
                order
            } else {
                // Handed out: such a page counts as resident and dirty.
                Mismatch::check("resident", pfn, 1, chunk.resident.count(at, at + 1))?;
                Mismatch::check("dirty", pfn, 1, chunk.dirty.count(at, at + 1))?;
                at += 1;
                continue;
            };
            for i in 1..order.nr_pages() {
                let word = self.map.word_at(pfn.add(i));
                Mismatch::check("word inside a block", pfn.add(i), 0, word.raw() as usize)?;
            }
            Mismatch::check("alignment", pfn, 1, pfn.is_aligned(order).into())?;
            at += order.nr_pages();
        }
        Mismatch::check("free pages of chunk", start, free, chunk.nr_free())?;
        Mismatch::check("resident ones", start, free_resident, chunk.nr_free_resident())?;
        let hidden =
            chunk.dirty.count(0, PAGEBLOCK_PAGES) > chunk.resident.count(0, PAGEBLOCK_PAGES);
        Mismatch::check("dirty but not resident", start, 0, hidden.into())?;
        truth.free += free;
        truth.free_resident += free_resident;
        truth.resident += chunk.resident.count(0, PAGEBLOCK_PAGES);
        truth.holes += chunk.nr_holes();
        truth.highatomic += usize::from(chunk.migratetype() == Migratetype::HighAtomic);
        Ok(at - PAGEBLOCK_PAGES)
    }

    /// Warmth from the bitmap alone.
    fn warmth(&self, pfn: Pfn, order: Order) -> usize {
        let mut pieces = self.map.pieces(pfn, order.nr_pages());
        let warm = pieces.any(|(chunk, lo, hi)| chunk.resident.any(lo, hi));
        debug_assert_eq!(warm, is_warm(&self.map, pfn, order));
        warm.into()
    }

    /// Whether the buddy is free too, though the two could be one block.
    fn unmerged(&self, pfn: Pfn, order: Order) -> usize {
        let buddy = pfn.buddy(order);
        if order == Order::MAX || !self.map.covers(buddy) {
            return 0;
        }
        let reserve = |pfn| self.map.chunk(pfn).migratetype() == Migratetype::HighAtomic;
        let free = self.map.word_at(buddy).as_buddy().is_some_and(|(other, ..)| other == order);
        (free && reserve(pfn) == reserve(buddy)).into()
    }

    fn validate_lists(&self, zone: &ZoneGuard<'_>) -> Result<usize, Mismatch> {
        let mut listed = 0;
        for order in Order::ZERO.and_up() {
            for mt in Migratetype::ALL {
                for warm in [false, true] {
                    let list = zone.buddy.list(order, mt, warm);
                    listed += self.walk(list, |word| word.as_buddy() == Some((order, mt, warm)))?;
                    self.validate_kinds(list, order)?;
                    let known = zone.buddy.smallest(order, mt, warm) == Some(order);
                    let filled = list.len() > 0;
                    Mismatch::check(
                        "list known as filled",
                        Pfn::NONE,
                        filled.into(),
                        known.into(),
                    )?;
                }
            }
        }
        Ok(listed)
    }

    /// Cold pageblocks: those of small pages stand before those of huge ones.
    fn validate_kinds(&self, list: &BlockList, order: Order) -> Result<(), Mismatch> {
        let mut huge_before = false;
        let mut next = list.head();
        while let Some(pfn) = next.filter(|_| order >= Order::PAGEBLOCK) {
            let whole = self.map.chunk(pfn).is_whole();
            let cold = self.map.word_at(pfn).as_buddy().is_some_and(|(.., warm)| !warm);
            let misplaced = cold && huge_before && !whole;
            Mismatch::check("small pages listed behind huge ones", pfn, 0, misplaced.into())?;
            huge_before |= whole;
            next = BlockList::next(&self.map, pfn);
        }
        Ok(())
    }

    /// Walks a list, checks its links and words; returns its length.
    fn walk(
        &self,
        list: &BlockList,
        is_right: impl Fn(PageWord) -> bool,
    ) -> Result<usize, Mismatch> {
        let mut nr = 0;
        let mut last = None;
        let mut next = list.head();
        while let Some(pfn) = next {
            Mismatch::check("word on a list", pfn, 1, is_right(self.map.word_at(pfn)).into())?;
            let back = BlockList::prev(&self.map, pfn) == last;
            Mismatch::check("back link", pfn, 1, back.into())?;
            nr += 1;
            Mismatch::check("loop in a list", pfn, 0, (nr > list.len()).into())?;
            last = Some(pfn);
            next = BlockList::next(&self.map, pfn);
        }
        Mismatch::check("tail of a list", Pfn::NONE, 1, (list.tail() == last).into())?;
        Mismatch::check("length of a list", Pfn::NONE, nr, list.len())?;
        Ok(nr)
    }
}
