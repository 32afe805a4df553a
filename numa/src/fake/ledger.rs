//! Which pages count as used, and on which node: one byte a page.

use std::collections::BTreeMap;

use memmap2::MmapMut;

use crate::{Errno, MAX_NODES, NodeId, Span};

/// The page counts as used on its node.
const CHARGED: u8 = 1 << 7;
/// The node was chosen by `bind`, not by the first touch.
const BOUND: u8 = 1 << 6;
/// The number of the node.
const NODE: u8 = BOUND - 1;

/// All mappings of a fake machine.
#[derive(Debug)]
pub(super) struct Ledger {
    page_size: usize,
    limits: [usize; MAX_NODES],
    used: [usize; MAX_NODES],
    /// What files hold.
    files: [usize; MAX_NODES],
    /// Where pages come from that shall be on a node.
    from: [NodeId; MAX_NODES],
    /// Pages that find no room go elsewhere.
    spills: bool,
    /// By address; they do not overlap.
    regions: BTreeMap<usize, Region>,
}

/// A mapping and a byte for each of its pages. The bytes are a mapping as well,
/// because most of a large reservation is never looked at.
#[derive(Debug)]
struct Region {
    len: usize,
    pages: MmapMut,
}

impl Ledger {
    pub(super) fn new(page_size: usize, limits: [usize; MAX_NODES]) -> Ledger {
        Ledger {
            page_size,
            limits,
            used: [0; MAX_NODES],
            files: [0; MAX_NODES],
            from: core::array::from_fn(|i| NodeId::from_index(i).unwrap_or(NodeId::ZERO)),
            spills: false,
            regions: BTreeMap::new(),
        }
    }

    pub(super) fn set_limit(&mut self, node: NodeId, pages: usize) {
        self.limits[node.index()] = pages;
    }

    pub(super) fn set_files(&mut self, node: NodeId, pages: usize) {
        self.files[node.index()] = pages;
    }

    pub(super) fn spill(&mut self) {
        self.spills = true;
    }

    pub(super) fn divert(&mut self, from: NodeId, to: NodeId) {
        self.from[from.index()] = to;
    }

    /// All pages, those free and those that files hold; none without a limit.
    pub(super) fn memory(&self, node: NodeId) -> Option<(usize, usize, usize)> {
        let i = node.index();
        (self.limits[i] != usize::MAX).then(|| {
            let free = self.limits[i].saturating_sub(self.used[i] + self.files[i]);
            (self.limits[i], free, self.files[i])
        })
    }

    pub(super) fn used(&self, node: NodeId) -> usize {
        self.used[node.index()]
    }

    pub(super) fn node_of(&self, addr: usize) -> Option<NodeId> {
        let (&start, region) = self.regions.range(..=addr).next_back()?;
        let page = (addr - start) / self.page_size;
        let byte = *region.pages.get(page).filter(|_| addr - start < region.len)?;
        (byte & CHARGED != 0).then(|| node_in(byte))
    }

    /// Moves a used page to a node that has room for it; what files hold gives way.
    pub(super) fn move_page(&mut self, addr: usize, to: NodeId) {
        let has_room = self.used[to.index()] < self.limits[to.index()];
        let Some(from) = self.node_of(addr).filter(|&from| from != to && has_room) else { return };
        self.for_each_page(Span::mapped(addr, 1), |byte| *byte = *byte & !NODE | to.index() as u8);
        self.used[from.index()] -= 1;
        self.used[to.index()] += 1;
        let free = self.limits[to.index()] - self.used[to.index()];
        self.files[to.index()] = self.files[to.index()].min(free);
    }

    /// Enters a mapping. What stood there before is gone.
    pub(super) fn add(&mut self, span: Span) -> Result<(), Errno> {
        self.remove(span);
        if !span.is_empty() {
            let pages = self.blank(span.len())?;
            self.regions.insert(span.addr(), Region { len: span.len(), pages });
        }
        Ok(())
    }

    fn blank(&self, len: usize) -> Result<MmapMut, Errno> {
        MmapMut::map_anon(len.div_ceil(self.page_size)).map_err(|_| Errno::ENOMEM)
    }

    /// Takes mappings out; those that the span cuts keep what is left of them.
    pub(super) fn remove(&mut self, span: Span) {
        self.uncharge(span);
        let hit: Vec<usize> = self.starts(span);
        for start in hit {
            let Some(region) = self.regions.remove(&start) else { continue };
            let end = start + region.len;
            self.keep(start, &region, start, span.addr());
            self.keep(start, &region, span.end(), end);
        }
    }

    /// Enters `from..to` of a region again, if there is anything between.
    fn keep(&mut self, start: usize, region: &Region, from: usize, to: usize) {
        if from >= to {
            return;
        }
        let Ok(mut pages) = self.blank(to - from) else {
            panic!("no memory for the ledger of a fake machine");
        };
        let first = (from - start) / self.page_size;
        let nr = pages.len();
        pages.copy_from_slice(&region.pages[first..first + nr]);
        self.regions.insert(from, Region { len: to - from, pages });
    }

    /// Forgets all mappings and answers what they were.
    pub(super) fn take_all(&mut self) -> Vec<Span> {
        self.used = [0; MAX_NODES];
        let regions = core::mem::take(&mut self.regions);
        regions.into_iter().map(|(start, region)| Span::mapped(start, region.len)).collect()
    }

    /// Where the regions begin that the span touches.
    fn starts(&self, span: Span) -> Vec<usize> {
        let before = self.regions.range(..span.addr()).next_back();
        let before = before.filter(|(start, region)| **start + region.len > span.addr());
        let within = self.regions.range(span.addr()..span.end());
        before.into_iter().chain(within).map(|(&start, _)| start).collect()
    }

    /// The bytes of all pages of the span that are mapped.
    fn for_each_page(&mut self, span: Span, mut each: impl FnMut(&mut u8)) {
        for start in self.starts(span) {
            let Some(region) = self.regions.get_mut(&start) else { continue };
            let first = span.addr().saturating_sub(start) / self.page_size;
            let end = span.end().min(start + region.len) - start;
            region.pages[first..end.div_ceil(self.page_size)].iter_mut().for_each(&mut each);
        }
    }

    /// Counts the pages of the span, those of no fixed node on `home`. All or none.
    pub(super) fn charge(&mut self, span: Span, home: NodeId) -> Result<(), Errno> {
        if self.spills {
            return self.charge_anywhere(span, home);
        }
        let from = self.from;
        let node = |byte: u8| from[if byte & BOUND != 0 { node_in(byte) } else { home }.index()];
        let mut more = [0; MAX_NODES];
        self.for_each_page(span, |byte| {
            if *byte & CHARGED == 0 {
                more[node(*byte).index()] += 1;
            }
        });
        let used = |node: usize| self.used[node] + self.files[node] + more[node];
        let fits = |node: usize| more[node] == 0 || used(node) <= self.limits[node];
        if !(0..MAX_NODES).all(fits) {
            return Err(Errno::ENOMEM);
        }
        self.for_each_page(span, |byte| {
            if *byte & CHARGED == 0 {
                *byte = *byte & BOUND | CHARGED | node(*byte).index() as u8;
            }
        });
        self.used.iter_mut().zip(more).for_each(|(used, more)| *used += more);
        Ok(())
    }

    /// The same page by page, each from the lowest node with room if its own has none.
    fn charge_anywhere(&mut self, span: Span, home: NodeId) -> Result<(), Errno> {
        let (limits, files, mut used) = (self.limits, self.files, self.used);
        let mut failed = false;
        self.for_each_page(span, |byte| {
            if *byte & CHARGED != 0 || failed {
                return;
            }
            let wanted = if *byte & BOUND != 0 { node_in(*byte) } else { home };
            let has_room = |&node: &usize| used[node] + files[node] < limits[node];
            let found = core::iter::once(wanted.index()).chain(0..MAX_NODES).find(has_room);
            match found {
                Some(node) => {
                    used[node] += 1;
                    *byte = *byte & BOUND | CHARGED | node as u8;
                }
                None => failed = true,
            }
        });
        self.used = used;
        if failed { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Gives the pages of the span back.
    pub(super) fn uncharge(&mut self, span: Span) {
        let mut less = [0; MAX_NODES];
        self.for_each_page(span, |byte| {
            if *byte & CHARGED != 0 {
                less[node_in(*byte).index()] += 1;
                *byte &= !CHARGED;
            }
        });
        self.used.iter_mut().zip(less).for_each(|(used, less)| *used -= less);
    }

    /// Fixes the node of pages that come from now on, or leaves it to the first
    /// touch. Pages that are there stay where they are, as in the kernel.
    pub(super) fn bind(&mut self, span: Span, node: Option<NodeId>) {
        let unused = node.map_or(0, |node| BOUND | node.index() as u8);
        self.for_each_page(span, |byte| {
            if *byte & CHARGED == 0 {
                *byte = unused;
            }
        });
    }

    /// Whether the node of the last page has `more` bytes.
    pub(super) fn may_grow(&self, old: Span, more: usize) -> Result<(), Errno> {
        let node = self.node_of(old.end().saturating_sub(1)).map_or(0, NodeId::index);
        let pages = more.div_ceil(self.page_size);
        let room = self.limits[node].saturating_sub(self.used[node]);
        if pages <= room { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// A mapping has got another length or place; new pages are on the node of
    /// its last page.
    pub(super) fn relocate(&mut self, old: Span, new: Span) {
        let last = self.node_of(old.end().saturating_sub(1)).unwrap_or(NodeId::ZERO);
        let mut bytes = Vec::new();
        self.for_each_page(old, |byte| bytes.push(*byte));
        self.remove(old);
        if self.add(new).is_err() {
            panic!("no memory for the ledger of a fake machine");
        }
        bytes.resize(new.len().div_ceil(self.page_size), CHARGED | last.index() as u8);
        let mut used = [0; MAX_NODES];
        let mut moved = bytes.into_iter();
        self.for_each_page(new, |byte| {
            *byte = moved.next().unwrap_or(0);
            if *byte & CHARGED != 0 {
                used[node_in(*byte).index()] += 1;
            }
        });
        self.used.iter_mut().zip(used).for_each(|(all, these)| *all += these);
    }
}

fn node_in(byte: u8) -> NodeId {
    NodeId::from_index(usize::from(byte & NODE)).unwrap_or(NodeId::ZERO)
}
