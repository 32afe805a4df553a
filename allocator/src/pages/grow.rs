//! Growth of a zone: commits the next step of its section, or adds a section.
//!
//! Nobody holds a lock while the system commits: pages are claimed first ([`crate::zone`]), and who finds the
//! zone short meanwhile commits some of its own. So it is with sections: an address is claimed under the window's
//! lock, the section reserved without it and entered under it. All that is done for nodes that memory is
//! bound to is done under that lock.

use zonal_numa::{Errno, MemPolicy, NodeId, NodeMask, PAGE_SIZE, Span};

use crate::lock::lock_unless;
use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::{Pages, Placement};
use crate::pfn::Pfn;
use crate::policy::bound::Footing;
use crate::policy::is_in_turn;
use crate::policy::turns::Weights;
use crate::section::{SECTION_ALIGN, Section};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{spin, yield_now};
use crate::window::{Step, Window};
use crate::zone::{Request, Zone};

/// The largest step of committing, in pages: 32 MiB.
const LARGEST_STEP: usize = (32 << 20) / PAGE_SIZE;
/// On nodes that memory is bound to steps are smaller: each looks at what is left there.
const BOUND_STEP: usize = (4 << 20) / PAGE_SIZE;

/// How often a thread looks whether who adds a section is done before it adds one: about 50 us, as long as
/// the system takes for that.
const PATIENCE: u32 = 1000;

/// What came of a wish for growth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// There is no more to be had.
    Refused,
    /// This thread brought memory, or found that what the zone has may do now.
    Own,
    /// Another thread was faster.
    Others,
}

/// Why nothing was committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NotCommitted {
    /// No section of the kind has any pages left.
    NoneLeft,
    /// The OS, or a node that is full, gave no memory for them.
    Refused,
}

/// How a section grows.
#[derive(Clone, Copy)]
struct How {
    huge: bool,
    /// Its pages are taken before anybody touches them.
    firm: bool,
}

/// The policy of a huge block, and the weights that it goes by, if it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HugePolicy<'a> {
    pub(crate) policy: MemPolicy,
    pub(crate) weights: Option<&'a Weights>,
}

impl Pages {
    /// Commits more memory for `node`, `seen` being what its growth count was when the zone was
    /// found short.
    pub(crate) fn grow(&self, id: NodeId, huge: bool, req: &Request, seen: u32) -> Growth {
        let Some(node) = self.node(id) else { return Growth::Refused };
        let has_grown = || node.grown() != seen;
        if has_grown() {
            return Growth::Others;
        }
        if node.is_bound() {
            return self.grow_bound(id, huge, req, has_grown);
        }
        self.refresh_allowed();
        if self.footing(id, BOUND_STEP * PAGE_SIZE, req.level) == Footing::Full {
            return Growth::Refused;
        }
        let how = How { huge, firm: false };
        match self.commit_next(id, how, req) {
            Ok(_) => return Growth::Own,
            Err(NotCommitted::Refused) => return self.commit_other(id, how, req, has_grown),
            Err(NotCommitted::NoneLeft) => {}
        }
        match self.add_beside_others(id, huge, has_grown) {
            None => return Growth::Others,
            Some(Err(_)) => return self.commit_other(id, how, req, has_grown),
            Some(Ok(())) => {}
        }
        match self.commit_next(id, how, req) {
            Err(NotCommitted::Refused) => self.commit_other(id, how, req, has_grown),
            // They may have been faster.
            Ok(_) | Err(NotCommitted::NoneLeft) => Growth::Own,
        }
    }

    /// Adds a section for a thread that found none with any pages left; none if another thread has grown the zone.
    /// The window is locked for the claim and for the entry, not while the system is asked: who comes meanwhile
    /// adds a short section of its own.
    fn add_beside_others(
        &self,
        id: NodeId,
        huge: bool,
        has_grown: impl Fn() -> bool + Copy,
    ) -> Option<Result<(), Errno>> {
        let lock = || lock_unless(&self.window, has_grown).filter(|_| !has_grown());
        let mut window = lock()?;
        if window.growing(id.index(), huge).is_adding() {
            drop(window);
            for _ in 0..PATIENCE {
                if has_grown() {
                    return None;
                }
                spin();
            }
            window = lock()?;
        }
        if self.sections.is_full() {
            return Some(Err(Errno::ENOMEM));
        }
        let growing = window.growing(id.index(), huge);
        let is_first = growing.begin_adding();
        // Short ones shall not take the places of long ones.
        let is_long = is_first || self.sections.is_half_full();
        let len = if is_long { growing.next_len() } else { SECTION_ALIGN };
        let added = match window.claim(&self.machine, len) {
            None => self.add_section(&mut window, id, huge, (len, is_first)),
            Some(start) => {
                drop(window);
                let reserved = self.machine.reserve_at(start, len);
                reserved.iter().for_each(|&span| self.settle(id, huge, span));
                window = self.window.lock();
                match reserved {
                    Ok(span) => self.enter_section(&mut window, id, huge, span, is_first),
                    Err(errno) => {
                        window.give_back(start, len);
                        match errno {
                            Errno::EEXIST => {
                                self.add_section(&mut window, id, huge, (len, is_first))
                            }
                            _ if len == SECTION_ALIGN => Err(errno),
                            _ => self.add_section(&mut window, id, huge, (len / 2, is_first)),
                        }
                    }
                }
            }
        };
        window.growing(id.index(), huge).end_adding();
        if added.is_ok() {
            // Who waits finds something to commit.
            self.nodes[id.index()].note_growth();
            self.window_lock().wake_all();
        }
        Some(added)
    }

    /// What is left of a section of the other kind is better than nothing. While others commit, or add sections, it
    /// is too early to say that there is none.
    fn commit_other(
        &self,
        id: NodeId,
        how: How,
        req: &Request,
        has_grown: impl Fn() -> bool,
    ) -> Growth {
        if self.commit_next(id, How { huge: !how.huge, ..how }, req).is_ok() {
            return Growth::Own;
        }
        let is_committing = || self.nodes[id.index()].lock().claims.committing.len() > 0;
        let mut window = self.window.lock();
        let is_adding =
            [false, true].iter().any(|&huge| window.growing(id.index(), huge).is_adding());
        drop(window);
        // Asked last: what was being added, or committed, until just now is known by it.
        if !is_adding && !is_committing() && !has_grown() {
            return Growth::Refused;
        }
        yield_now();
        Growth::Others
    }

    /// The same for a node that memory is bound to: one after the other, since each looks at what is left
    /// there, and at what came the last time.
    fn grow_bound(
        &self,
        id: NodeId,
        huge: bool,
        req: &Request,
        has_grown: impl Fn() -> bool + Copy,
    ) -> Growth {
        let node = &self.nodes[id.index()];
        let window = lock_unless(&self.window, has_grown).filter(|_| !has_grown());
        let Some(mut window) = window else { return Growth::Others };
        self.refresh_allowed();
        self.bring_home(&mut window, id, huge);
        self.bring_home(&mut window, id, !huge);
        let needed = req.order.nr_pages().max(PAGEBLOCK_PAGES);
        let held_back = node.allowance().is_some_and(|left| left.load(Relaxed) < needed);
        let firm = match self.footing(id, BOUND_STEP * PAGE_SIZE, req.level) {
            Footing::Full => return Growth::Refused,
            // What the zone has may do now.
            Footing::Ample if held_back => return Growth::Own,
            Footing::Ample => false,
            Footing::Firm => match self.fill_free(id) {
                // The free blocks that have memory now may do.
                Some(true) => return Growth::Own,
                Some(false) => true,
                None => return Growth::Refused,
            },
        };
        // A node that is near full has no huge pages any more.
        let how = How { huge: huge && !firm, firm };
        let came = match self.commit_next(id, how, req) {
            Err(NotCommitted::NoneLeft) => {
                let len = window.growing(id.index(), how.huge).next_len();
                match self.add_section(&mut window, id, how.huge, (len, true)) {
                    Ok(()) => self.commit_next(id, how, req),
                    Err(_) => Err(NotCommitted::NoneLeft),
                }
            }
            came => came,
        };
        let other = How { huge: !huge, firm };
        let came = match came {
            Ok(step) => Some((how, step)),
            Err(_) if firm => None,
            Err(_) => self.commit_next(id, other, req).ok().map(|step| (other, step)),
        };
        let Some((how, step)) = came else { return Growth::Refused };
        window.growing(id.index(), how.huge).last = Some(step);
        Growth::Own
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

    /// Commits the next pages of the kind.
    fn commit_next(&self, id: NodeId, how: How, req: &Request) -> Result<Step, NotCommitted> {
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

    /// Adds a section under the window's lock, of which the next one is `longer`; where address space is short, a
    /// smaller one.
    fn add_section(
        &self,
        window: &mut Window,
        id: NodeId,
        huge: bool,
        (mut len, longer): (usize, bool),
    ) -> Result<(), Errno> {
        if self.sections.is_full() {
            return Err(Errno::ENOMEM);
        }
        let span = loop {
            match window.extend(&self.machine, &self.map, len) {
                Ok(span) => break span,
                Err(errno) if len == SECTION_ALIGN => return Err(errno),
                Err(_) => len /= 2,
            }
        };
        self.settle(id, huge, span);
        self.enter_section(window, id, huge, span, longer)
    }

    /// Placement and advice for a new section. They are wishes: memory that is elsewhere, or of small pages, is
    /// still memory.
    fn settle(&self, id: NodeId, huge: bool, span: Span) {
        if self.bind(id, span).is_err() {
            self.nodes[id.index()].nr_bind_fail.fetch_add(1, Relaxed);
        }
        if self.os_page == Order::ZERO {
            let _ = self.machine.advise_huge(span, huge);
        }
    }

    /// Enters a reserved section, of which the next one is `longer`.
    fn enter_section(
        &self,
        window: &mut Window,
        id: NodeId,
        huge: bool,
        span: Span,
        longer: bool,
    ) -> Result<(), Errno> {
        if self.sections.is_full() {
            // Others added the last.
            let _ = self.machine.unmap(span);
            window.give_back(span.addr(), span.len());
            return Err(Errno::ENOMEM);
        }
        window.enter(&self.map, span);
        let start = self.map.pfn_of(span.addr()).ok_or(Errno::ENOMEM)?;
        self.sections.add(id, huge, start, span.len() / PAGE_SIZE);
        if longer {
            // Where every node has sections of its own, fewer and larger ones keep mappings few.
            let doublings = if self.online.count() > 1 { 2 } else { 1 };
            window.growing(id.index(), huge).advance(doublings);
        }
        Ok(())
    }

    /// Places a huge block: page by page where nodes take turns, else on `id`.
    pub(crate) fn bind_huge(&self, id: NodeId, policy: HugePolicy<'_>, span: Span) {
        let HugePolicy { policy, weights } = policy;
        let bound = match weights.filter(|weights| weights.are_own()) {
            _ if self.placement == Placement::Kernel || !is_in_turn(policy) => self.bind(id, span),
            // By the kernel where it knows how.
            None => self.machine.bind(span, &policy),
            Some(weights) => self.bind_by_weight(policy.nodes, weights, span),
        };
        if let (Err(_), Some(node)) = (bound, self.node(id)) {
            node.nr_bind_fail.fetch_add(1, Relaxed);
        }
    }

    /// Gives each node a piece of the span as large as its share.
    fn bind_by_weight(&self, nodes: NodeMask, weights: &Weights, span: Span) -> Result<(), Errno> {
        let granule = self.machine.page_size();
        let total: usize = nodes.iter().map(|node| usize::from(weights.of(node))).sum();
        let (mut rest, mut left) = (span, total);
        for node in nodes {
            let weight = usize::from(weights.of(node));
            // Of what is left, so that the last one takes all of it.
            let nr_pages = rest.len() / granule;
            let (part, after) = rest.split_at(nr_pages * weight / left * granule);
            if !part.is_empty() {
                self.machine.bind(part, &MemPolicy::preferred(node))?;
            }
            (rest, left) = (after, left - weight);
        }
        Ok(())
    }

    fn bind(&self, id: NodeId, span: Span) -> Result<(), Errno> {
        match self.placement {
            Placement::Kernel => Ok(()),
            Placement::Prefer => self.machine.bind(span, &MemPolicy::preferred(id)),
            Placement::Strict(nodes) => {
                self.machine.bind_strictly(span, nodes.or(NodeMask::of(id)), id)
            }
        }
    }

    /// The nodes' records, in lock order.
    pub(crate) fn online_nodes(&self) -> impl Iterator<Item = &Node> {
        self.online.iter().map(|id| &self.nodes[id.index()])
    }
}
