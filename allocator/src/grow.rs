//! Growth of a zone: commits the next step of its section, or adds a section.

use zonal_numa::{Errno, MemPolicy, NodeId, NodeMask, PAGE_SIZE};

use crate::node::Node;
use crate::order::{Order, PAGEBLOCK_PAGES};
use crate::pages::{Pages, Placement};
use crate::section::SECTION_ALIGN;
use crate::sync::atomic::Ordering::Relaxed;
use crate::window::Window;
use crate::zone::Request;

/// The largest step of committing, in pages: 32 MiB.
const LARGEST_STEP: usize = (32 << 20) / PAGE_SIZE;

impl Pages {
    /// Commits more memory for `node`, `seen` being what its growth count was when the zone was
    /// found short. False when there is none to be had.
    pub(crate) fn grow(&self, id: NodeId, huge: bool, req: &Request, seen: u32) -> bool {
        let Some(node) = self.node(id) else { return false };
        let mut window = self.window.lock();
        if node.grown() != seen {
            return true;
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
        let step = (node.lock().nr_managed / 8).clamp(PAGEBLOCK_PAGES, LARGEST_STEP);
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
