//! The next step of a section: pages are claimed under the zone's lock, committed without any, and go online
//! under it again.

use zonal_numa::{NodeId, PAGE_SIZE};

use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::Pages;
use crate::pages::growing::Step;
use crate::pfn::Pfn;
use crate::section::Section;
use crate::zone::{Request, Zone};

/// The largest step of committing, in pages: 32 MiB.
const LARGEST_STEP: usize = (32 << 20) / PAGE_SIZE;
/// On nodes that memory is bound to steps are smaller: each looks at what is left there.
pub(super) const BOUND_STEP: usize = (4 << 20) / PAGE_SIZE;

/// Why nothing was committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NotCommitted {
    /// No section of the kind has any pages left.
    NoneLeft,
    /// The OS, or a node that is full, gave no memory for them.
    Refused,
}

/// How a section grows.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) huge: bool,
    /// Its pages are taken before anybody touches them.
    pub(super) firm: bool,
}

impl Pages {
    /// Commits the next pages of the kind.
    pub(super) fn commit_next(
        &self,
        id: NodeId,
        how: How,
        req: &Request,
    ) -> Result<Step, NotCommitted> {
        let node = &self.nodes[id.index()];
        let claim = self.claim_next(node, how, req).ok_or(NotCommitted::NoneLeft)?;
        let (start, claimed, least) = claim;
        let commit = |&nr_pages: &usize| self.machine.commit(self.span_of(start, nr_pages)).is_ok();
        let mut nr_pages = [claimed, least].into_iter().find(commit).unwrap_or(0);
        let span = self.span_of(start, nr_pages);
        let is_full = how.firm && nr_pages > 0 && !self.fill(id, span);
        if is_full {
            // Nobody has seen these pages: they are as they were before, or cost no more than that.
            let _ = self.machine.purge(&[span]);
            let _ = self.machine.protect_none(span);
            self.mark_full(id);
            nr_pages = 0;
        }
        let env = self.env(node);
        let mut zone = node.lock();
        zone.refuse(&self.map, start.add(nr_pages), claimed - nr_pages);
        if nr_pages == 0 {
            return Err(NotCommitted::Refused);
        }
        zone.online(&env, start, nr_pages, how.firm);
        drop(zone);
        node.note_growth();
        // Also of those who wait for a section that somebody adds.
        self.window_lock().wake_all();
        Ok(Step { start, nr_pages, strays: 0 })
    }

    /// Takes the next pages to commit: what was refused before, or the next step of a section of the
    /// kind. How many there are, and how few would do.
    fn claim_next(&self, node: &Node, how: How, req: &Request) -> Option<(Pfn, usize, usize)> {
        let env = self.env(node);
        let mt = req.mt.for_pageblock();
        let mut zone = node.lock();
        let claim_refused = |zone: &mut Zone| {
            let start = zone.claim_refused(&self.map, how.huge, mt)?;
            Some((start, PAGEBLOCK_PAGES, PAGEBLOCK_PAGES))
        };
        // One pageblock does not help who wants a larger block, but is better than nothing.
        if req.order <= Order::PAGEBLOCK
            && let Some(claim) = claim_refused(&mut zone)
        {
            return Some(claim);
        }
        let Some(index) = self.section_to_grow(&mut zone, how.huge) else {
            return claim_refused(&mut zone);
        };
        let section = self.sections.get(index);
        let (done, left) = (section.nr_committed(), section.nr_left());
        // Up to the next border that the block needs: a pageblock, or two for the largest order.
        let block = req.order.max(Order::PAGEBLOCK).nr_pages();
        let least = (done + block).next_multiple_of(block).min(section.nr_pages()) - done;
        let largest = if node.is_bound() { BOUND_STEP } else { LARGEST_STEP };
        let step = (zone.nr_managed / 8).clamp(PAGEBLOCK_PAGES, largest) & !(PAGEBLOCK_PAGES - 1);
        // More is on its way where others are at it.
        let is_alone = zone.claims.committing.len() == 0;
        let step = if how.firm || !is_alone { least } else { step.max(least).min(left) };
        Some((zone.claim(&env, (index, section), step, mt), step, least))
    }

    /// The section that grows, or another one of the kind of which something is left: address space
    /// may be short. Of one that was holed the rest is as good as base pages.
    fn section_to_grow(&self, zone: &mut Zone, huge: bool) -> Option<u16> {
        let node = zone.node.index();
        let serves = |section: &Section| {
            let is_huge = section.is_huge() && !section.is_holed();
            section.node() == node && is_huge == huge && section.nr_left() > 0
        };
        let current = &mut zone.claims.sections[usize::from(huge)];
        if !current.is_some_and(|index| serves(self.sections.get(index))) {
            *current = self.sections.iter().find(|(_, section)| serves(section)).map(|(i, _)| i);
        }
        *current
    }
}
