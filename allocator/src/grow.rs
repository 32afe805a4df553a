//! Growth of a zone: commits the next step of its section, or adds a section.

use zonal_numa::{Errno, MemPolicy, NodeId, NodeMask, PAGE_SIZE};

use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::{Pages, Placement};
use crate::policy::is_in_turn;
use crate::section::SECTION_ALIGN;
use crate::sync::atomic::Ordering::Relaxed;
use crate::window::Window;
use crate::zone::Request;

/// The largest step of committing, in pages: 32 MiB.
const LARGEST_STEP: usize = (32 << 20) / PAGE_SIZE;
/// What a node that memory is bound to must have left for its zone to grow, in bytes.
const ROOM_TO_GROW: usize = 16 << 20;
/// Its steps of committing are smaller: what is committed is not taken yet when the next step asks.
const BOUND_STEP: usize = ROOM_TO_GROW / 4 / PAGE_SIZE;

impl Pages {
    /// Commits more memory for `node`, `seen` being what its growth count was when the zone was
    /// found short. False when there is none to be had.
    pub(crate) fn grow(&self, id: NodeId, huge: bool, req: &Request, seen: u32) -> bool {
        let Some(node) = self.node(id) else { return false };
        let mut window = self.window.lock();
        if node.grown() != seen {
            return true;
        }
        if !self.has_room(id, ROOM_TO_GROW) {
            return false;
        }
        // What is left of a section of the other kind is better than nothing.
        let grown = self.commit_or_add(&mut window, id, huge, req)
            || self.commit_next(&mut window, id, !huge, req);
        if grown {
            node.note_growth();
        }
        grown
    }

    fn commit_or_add(&self, window: &mut Window, id: NodeId, huge: bool, req: &Request) -> bool {
        self.commit_next(window, id, huge, req)
            || (self.add_section(window, id, huge).is_ok()
                && self.commit_next(window, id, huge, req))
    }

    /// Commits the next step of the section that grows. False when there is no such section, it
    /// is full, or the OS refuses.
    fn commit_next(&self, window: &mut Window, id: NodeId, huge: bool, req: &Request) -> bool {
        let Some(index) = window.growing(id.index(), huge).section else { return false };
        let section = self.sections.get(index);
        // A holed section gets no more huge pages.
        if huge && section.is_holed() {
            return false;
        }
        let (done, left) = (section.nr_committed(), section.nr_left());
        if left == 0 {
            return false;
        }
        // Up to the next border that the block needs: a pageblock, or two for the largest order.
        let block = req.order.max(Order::PAGEBLOCK).nr_pages();
        let least = (done + block).next_multiple_of(block).min(section.nr_pages()) - done;
        let node = &self.nodes[id.index()];
        let largest = if node.is_bound() { BOUND_STEP } else { LARGEST_STEP };
        let step = (node.lock().nr_managed / 8).clamp(PAGEBLOCK_PAGES, largest);
        let step = (step & !(PAGEBLOCK_PAGES - 1)).max(least).min(left);
        let committed = [step, least]
            .into_iter()
            .find(|&nr_pages| self.machine.commit(section.span(&self.map, done, nr_pages)).is_ok());
        let Some(nr_pages) = committed else { return false };
        let start = section.start().add(done);
        let mut zone = node.lock();
        section.set_committed(done + nr_pages);
        zone.online(&self.env(node), (index, huge), start, nr_pages, req.mt.for_pageblock());
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
        window.growing(id.index(), huge).advance(index);
        Ok(())
    }

    /// Whether `bytes` more can be had on the node, as far as that matters: only where a policy
    /// binds memory to it. The kernel answers a bound node that is full by going to other nodes or
    /// by killing the process; here it ends in ENOMEM.
    pub(crate) fn has_room(&self, id: NodeId, bytes: usize) -> bool {
        let Some(node) = self.node(id).filter(|node| node.is_bound()) else { return true };
        let Some(available) = self.machine.available(id) else { return true };
        let zone = node.lock();
        // Free pages that the node has not given yet, but will without being asked again.
        let cold = (zone.nr_free - zone.nr_free_resident) * PAGE_SIZE;
        available >= bytes + cold
    }

    /// Places a huge block: by the kernel page by page where nodes take turns, else on `id`.
    pub(crate) fn bind_huge(&self, id: NodeId, policy: MemPolicy, span: zonal_numa::Span) {
        let bound = if is_in_turn(policy) && self.placement != Placement::Kernel {
            self.machine.bind(span, &policy)
        } else {
            self.bind(id, span)
        };
        if let (Err(_), Some(node)) = (bound, self.node(id)) {
            node.nr_bind_fail.fetch_add(1, Relaxed);
        }
    }

    fn bind(&self, id: NodeId, span: zonal_numa::Span) -> Result<(), Errno> {
        match self.placement {
            Placement::Kernel => Ok(()),
            Placement::Prefer => self.machine.bind(span, &MemPolicy::preferred(id)),
            Placement::Strict => self.machine.bind(span, &MemPolicy::bind(NodeMask::of(id))),
        }
    }

    /// The nodes' records, in lock order.
    pub(crate) fn online_nodes(&self) -> impl Iterator<Item = &Node> {
        self.online.iter().map(|id| &self.nodes[id.index()])
    }
}
