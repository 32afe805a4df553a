//! What lies where, and what of it is in memory.
//!
//! A walk over the page words tells slabs, large blocks, page caches and free blocks apart; the
//! kernel is asked which pages it holds (`mincore`; `PAGEMAP_SCAN` for long mappings, which may be mostly
//! empty; `move_pages` where there are several nodes). No
//! lock is held while it answers: beside threads at work the sums are off by what they do
//! meanwhile, and every walk ends.

use zonal_numa::{MAX_NODES, NodeId, PAGE_SIZE, Span};
use zonal_stats::{MAX_PAGEBLOCKS, MAX_SECTIONS, Pageblock, SectionKind, Snapshot};

use crate::class::SizeClass;
use crate::mm::Mm;
use crate::order::PAGEBLOCK_PAGES;
use crate::pages::{Pages, is_long};
use crate::pfn::Pfn;
use crate::section::Section;
use crate::word::{Kind, PageWord};

impl Mm {
    /// Adds to a snapshot just taken what lies where. `ask_kernel`: which of it is in memory, too;
    /// otherwise zonal's own accounts stand for that.
    pub fn survey(&self, snapshot: &mut Snapshot, ask_kernel: bool) {
        let mut survey = Survey { mm: self, pages: self.pages(), snapshot, ask_kernel };
        survey.snapshot.nr_sections = 0;
        survey.snapshot.nr_pageblocks = 0;
        survey.snapshot.nr_sections_left_out = 0;
        for (_, section) in self.pages().sections.iter() {
            survey.section(section);
        }
        let mut from = 0;
        while let Some((span, node, is_live)) = self.huge().next_from(from) {
            let asked = survey.ask_kernel;
            survey.huge(span, node.index() as u64, is_live);
            // The kernel refuses what was unmapped meanwhile: that says nothing about the rest.
            if self.huge().next_from(span.addr()).is_none_or(|(now, ..)| now != span) {
                survey.ask_kernel = asked;
            }
            from = span.end();
        }
        survey.metadata(self);
        let Survey { snapshot, ask_kernel, .. } = survey;
        snapshot.asked_kernel = u64::from(ask_kernel);
        let nodes = snapshot.nr_nodes as usize;
        for node in &mut snapshot.nodes[..nodes] {
            settle(node, ask_kernel);
        }
        snapshot.cost_ns = self.machine().now_ns().saturating_sub(snapshot.taken_ns);
    }
}

/// The figures that follow from the others.
fn settle(node: &mut zonal_stats::Node, ask_kernel: bool) {
    let bytes = |pages: u64| pages * PAGE_SIZE as u64;
    let memory = &mut node.memory;
    memory.free_resident_bytes = bytes(node.zone.nr_free_resident);
    memory.holes_bytes = bytes(node.zone.nr_holes);
    // What the walk found in slabs, less what is not in use there.
    memory.used_small_bytes =
        memory.used_small_bytes.saturating_sub(memory.slab_free_bytes + memory.cached_bytes);
    if !ask_kernel {
        memory.resident_bytes = memory.held_bytes();
    }
    memory.settle();
}

struct Survey<'a> {
    mm: &'a Mm,
    pages: &'a Pages,
    snapshot: &'a mut Snapshot,
    ask_kernel: bool,
}

impl Survey<'_> {
    fn section(&mut self, section: &Section) {
        let node = section.node() as u64;
        let nr_committed = section.nr_committed();
        let kind = match (section.is_huge(), section.is_holed()) {
            (false, _) => SectionKind::Base,
            (true, false) => SectionKind::Huge,
            (true, true) => SectionKind::Holed,
        };
        let first_pageblock = self.snapshot.nr_pageblocks;
        let mut nr_resident = 0;
        // What is left of the run whose head was seen last.
        let mut run = Run { what: What::Other, left: 0 };
        for first in (0..nr_committed).step_by(PAGEBLOCK_PAGES) {
            let start = section.start().add(first);
            let nr_pages = PAGEBLOCK_PAGES.min(nr_committed - first);
            let mut block = self.pageblock(start, nr_pages, node, &mut run);
            let span = section.span(&self.pages.map, first, nr_pages);
            block.resident = self.resident_for(node, span) as u16;
            nr_resident += u64::from(block.resident);
            let slot = self.snapshot.nr_pageblocks as usize;
            if slot < MAX_PAGEBLOCKS && (self.snapshot.nr_sections as usize) < MAX_SECTIONS {
                self.snapshot.pageblocks[slot] = block;
                self.snapshot.nr_pageblocks += 1;
            }
        }
        let start = self.pages.map.addr_of(section.start()).addr() as u64;
        self.enter(zonal_stats::Section {
            start,
            nr_pages: section.nr_pages() as u64,
            nr_committed: nr_committed as u64,
            nr_resident,
            node,
            kind: kind as u64,
            first_pageblock,
            nr_pageblocks: self.snapshot.nr_pageblocks - first_pageblock,
        });
    }

    /// What the pages of a pageblock are, entered into the sums of the node.
    fn pageblock(&mut self, start: Pfn, nr_pages: usize, node: u64, run: &mut Run) -> Pageblock {
        let chunk = self.pages.map.chunk(start);
        let mut block = Pageblock {
            free_resident: chunk.nr_free_resident() as u16,
            migratetype: chunk.migratetype().index() as u16,
            ..Pageblock::default()
        };
        let (mut objects, mut tails) = (0, 0);
        let mut at = 0;
        while at < nr_pages {
            if run.left == 0 {
                *run = Run::of(self.pages.map.word_at(start.add(at)));
            }
            let here = run.left.min(nr_pages - at);
            match run.what {
                What::Slab(class) => {
                    block.slab += here as u16;
                    let slab_pages = class.slab_order().nr_pages();
                    let in_objects = self.mm.objects_in(class) * class.size();
                    // Page by page: a slab's share of objects and of its tail.
                    objects += here * in_objects / slab_pages;
                    tails += here * (slab_pages * PAGE_SIZE - in_objects) / slab_pages;
                }
                What::Large => block.large += here as u16,
                What::Pcp => block.pcp += here as u16,
                What::Free => block.free += here as u16,
                What::Other => {}
            }
            run.left -= here;
            at += here;
        }
        if let Some(node) = self.snapshot.node_mut(node) {
            node.memory.used_small_bytes += objects as u64;
            node.memory.slab_tail_bytes += tails as u64;
            node.memory.used_large_bytes += u64::from(block.large) * PAGE_SIZE as u64;
            node.memory.pcp_bytes += u64::from(block.pcp) * PAGE_SIZE as u64;
        }
        block
    }

    fn huge(&mut self, span: Span, node: u64, is_live: bool) {
        let nr_resident = self.resident_for(node, span);
        let kind = if is_live { SectionKind::HugeBlock } else { SectionKind::HugeCached };
        let nr_pages = (span.len() / PAGE_SIZE) as u64;
        self.enter(zonal_stats::Section {
            start: span.addr() as u64,
            nr_pages,
            nr_committed: nr_pages,
            nr_resident: nr_resident as u64,
            node,
            kind: kind as u64,
            first_pageblock: 0,
            nr_pageblocks: 0,
        });
    }

    fn enter(&mut self, section: zonal_stats::Section) {
        match self.snapshot.sections.get_mut(self.snapshot.nr_sections as usize) {
            Some(slot) => {
                *slot = section;
                self.snapshot.nr_sections += 1;
            }
            None => self.snapshot.nr_sections_left_out += 1,
        }
    }

    fn metadata(&mut self, mm: &Mm) {
        let arrays = self.pages.window.lock().arrays();
        // SAFETY: the memory of the instance itself, which is only looked at.
        let own = unsafe { Span::new(core::ptr::from_ref(mm).addr(), size_of::<Mm>()) };
        let nr_pages = match self.ask_kernel {
            true => self.resident(arrays) + self.resident(own),
            false => (arrays.len() + own.len()) / PAGE_SIZE,
        };
        let fence = mm.fence().span();
        let nr_pages = nr_pages + fence.map_or(0, |fence| self.resident(fence));
        self.snapshot.process.meta_resident_bytes += (nr_pages * PAGE_SIZE) as u64;
    }

    /// Pages of a node's span that the kernel holds in memory, entered into the sums of the nodes
    /// on which it does.
    fn resident_for(&mut self, node: u64, span: Span) -> usize {
        if self.pages.machine.topology().is_one_node() || !self.ask_kernel {
            let found = self.resident(span);
            self.note_resident(node, node, found);
            return found;
        }
        let unit = self.pages.machine.page_size() / PAGE_SIZE;
        let mut on = [0_u32; MAX_NODES];
        let mut count = |node: Option<NodeId>| {
            if let Some(node) = node {
                on[node.index()] += 1;
            }
        };
        let machine = &self.pages.machine;
        let mut is_refused = false;
        let mut look = |part| is_refused |= machine.nodes_of(part, 1, &mut count).is_err();
        if is_long(span) {
            let scanned = machine.scan_resident(span, &mut look);
            is_refused |= scanned.is_err();
        } else {
            look(span);
        }
        // A kernel that does not say where still says whether.
        if is_refused {
            let found = self.resident(span);
            self.note_resident(node, node, found);
            return found;
        }
        let mut found = 0;
        for (there, &nr) in on.iter().enumerate().filter(|&(_, &nr)| nr > 0) {
            self.note_resident(node, there as u64, nr as usize * unit);
            found += nr as usize * unit;
        }
        found
    }

    fn note_resident(&mut self, home: u64, there: u64, nr_pages: usize) {
        let bytes = (nr_pages * PAGE_SIZE) as u64;
        if let Some(node) = self.snapshot.node_mut(there) {
            node.memory.resident_bytes += bytes;
        }
        if home != there
            && let Some(node) = self.snapshot.node_mut(home)
        {
            node.memory.misplaced_bytes += bytes;
        }
    }

    /// Pages of the span that the kernel holds in memory; 0 without asking. A kernel that does not
    /// answer is not asked again.
    fn resident(&mut self, span: Span) -> usize {
        if !self.ask_kernel {
            return 0;
        }
        let found = self.pages.nr_resident(span);
        self.ask_kernel = found.is_some();
        found.unwrap_or(0)
    }
}

/// What a run of pages is.
#[derive(Clone, Copy)]
enum What {
    Slab(SizeClass),
    Large,
    Pcp,
    Free,
    /// On its way from one to another.
    Other,
}

struct Run {
    what: What,
    left: usize,
}

impl Run {
    /// The run that begins at a page with this word.
    fn of(word: PageWord) -> Run {
        let order = |bits: u32| 1 << (bits & 0xf).min(10);
        match word.kind() {
            Kind::Slab => {
                let what = word.as_slab().map_or(What::Other, |(_, class)| What::Slab(class));
                Run { what, left: 1 }
            }
            Kind::Large => Run { what: What::Large, left: word.large_pages().max(1) },
            Kind::Pcp => Run { what: What::Pcp, left: (word.payload() as usize).max(1) },
            Kind::Buddy | Kind::Isolated => Run { what: What::Free, left: order(word.payload()) },
        }
    }
}
