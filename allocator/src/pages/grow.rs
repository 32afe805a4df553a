//! Growth of a zone: commits the next step of its section, or adds a section.

use zonal_numa::{Errno, MemPolicy, NodeId, NodeMask, PAGE_SIZE, Span};

use crate::lock::lock_unless;
use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::{Pages, Placement};
use crate::policy::bound::Footing;
use crate::policy::is_in_turn;
use crate::policy::turns::Weights;
use crate::section::{SECTION_ALIGN, Section};
use crate::sync::atomic::Ordering::Relaxed;
use crate::window::Window;
use crate::zone::Request;

/// The largest step of committing, in pages: 32 MiB.
const LARGEST_STEP: usize = (32 << 20) / PAGE_SIZE;
/// On nodes that memory is bound to steps are smaller: each looks at what is left there.
const BOUND_STEP: usize = (4 << 20) / PAGE_SIZE;

/// What came of a wish for growth.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// There is no more to be had.
    Refused,
    /// This thread brought memory, or found that what the zone has may do now.
    Own,
    /// Another thread was faster.
    Others,
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
        // What is left of a section of the other kind is better than nothing.
        let grown = self.commit_or_add(&mut window, id, how, req)
            || (!firm && self.commit_next(&mut window, id, How { huge: !huge, firm }, req));
        if grown {
            node.note_growth();
            self.window_lock().wake_all();
            Growth::Own
        } else {
            Growth::Refused
        }
    }

    fn commit_or_add(&self, window: &mut Window, id: NodeId, how: How, req: &Request) -> bool {
        self.commit_next(window, id, how, req)
            // A node that gave nothing gives nothing to a new section.
            || ((!how.firm || self.section_to_grow(window, id, how.huge).is_none())
                && self.add_section(window, id, how.huge).is_ok()
                && self.commit_next(window, id, how, req))
    }

    /// The section that grows, or another one of the kind of which something is left: address space
    /// may be short. Of one that was holed the rest is as good as base pages.
    fn section_to_grow(&self, window: &mut Window, id: NodeId, huge: bool) -> Option<u16> {
        let serves = |section: &Section| {
            let is_huge = section.is_huge() && !section.is_holed();
            section.node() == id.index() && is_huge == huge && section.nr_left() > 0
        };
        let current = window.growing(id.index(), huge).section;
        if let Some(index) = current.filter(|&index| serves(self.sections.get(index))) {
            return Some(index);
        }
        let (index, _) = self.sections.iter().find(|(_, section)| serves(section))?;
        window.go_on_in(id.index(), huge, index);
        Some(index)
    }

    /// Commits the next step of a section of the kind. False when there is none that is not full, or
    /// the OS refuses.
    fn commit_next(&self, window: &mut Window, id: NodeId, how: How, req: &Request) -> bool {
        let How { huge, firm } = how;
        let Some(index) = self.section_to_grow(window, id, huge) else { return false };
        let section = self.sections.get(index);
        let (done, left) = (section.nr_committed(), section.nr_left());
        // Up to the next border that the block needs: a pageblock, or two for the largest order.
        let block = req.order.max(Order::PAGEBLOCK).nr_pages();
        let least = (done + block).next_multiple_of(block).min(section.nr_pages()) - done;
        let node = &self.nodes[id.index()];
        let largest = if node.is_bound() { BOUND_STEP } else { LARGEST_STEP };
        let step = (node.lock().nr_managed / 8).clamp(PAGEBLOCK_PAGES, largest);
        let step = if firm { least } else { (step & !(PAGEBLOCK_PAGES - 1)).max(least).min(left) };
        let committed = [step, least]
            .into_iter()
            .find(|&nr_pages| self.machine.commit(section.span(&self.map, done, nr_pages)).is_ok());
        let Some(nr_pages) = committed else { return false };
        let span = section.span(&self.map, done, nr_pages);
        if firm && !self.fill(id, span) {
            // Nobody has seen these pages: they are as they were before, or cost no more than that.
            let _ = self.machine.purge(&[span]);
            let _ = self.machine.protect_none(span);
            self.mark_full(id);
            return false;
        }
        let start = section.start().add(done);
        let mut zone = node.lock();
        section.set_committed(done + nr_pages);
        let mt = req.mt.for_pageblock();
        zone.online(&self.env(node), (index, section), (start, nr_pages), firm, mt);
        let growing = window.growing(id.index(), huge);
        (growing.last_step, growing.strays) = (nr_pages as u32, 0);
        true
    }

    /// Adds a section; where address space is short, a smaller one.
    fn add_section(&self, window: &mut Window, id: NodeId, huge: bool) -> Result<(), Errno> {
        if self.sections.is_full() {
            return Err(Errno::ENOMEM);
        }
        let mut len = window.growing(id.index(), huge).next_len();
        let span = loop {
            match window.extend(&self.machine, &self.map, len) {
                Ok(span) => break span,
                Err(errno) if len == SECTION_ALIGN => return Err(errno),
                Err(_) => len /= 2,
            }
        };
        let node = &self.nodes[id.index()];
        // Placement and advice are wishes: memory that is elsewhere, or of small pages, is still
        // memory.
        if self.bind(id, span).is_err() {
            node.nr_bind_fail.fetch_add(1, Relaxed);
        }
        if self.os_page == Order::ZERO {
            let _ = self.machine.advise_huge(span, huge);
        }
        let start = self.map.pfn_of(span.addr()).ok_or(Errno::ENOMEM)?;
        let index = self.sections.add(id, huge, start, span.len() / PAGE_SIZE);
        // Where every node has sections of its own, fewer and larger ones keep mappings few.
        let doublings = if self.online.count() > 1 { 2 } else { 1 };
        window.growing(id.index(), huge).advance(index, doublings);
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
