//! Draining: what heaps hold free goes back to the zones.

use crate::class::SizeClass;
use crate::deadline::Deadline;
use crate::heap::{Entered, Heap, OwnHeap, Patience};
use crate::mm::Mm;
use crate::purge::PurgeHow;
use crate::refill::Drained;

impl Mm {
    /// Gives what threads hold back to the zones: messages, empty slabs, page caches, large runs; of threads
    /// that have ended also the bins. Returns the pages that went back.
    pub fn drain_all(&self, own: Option<OwnHeap>) -> usize {
        self.drain_all_until(own, Patience::Wait, Deadline::NEVER)
    }

    /// The same with so much patience, and as far as it goes until `deadline`.
    pub fn drain_all_until(
        &self,
        own: Option<OwnHeap>,
        patience: Patience,
        deadline: Deadline,
    ) -> usize {
        self.barn().drain(self);
        let mut pages = self.drain_dead(None, patience, deadline).drained;
        let mut drain = |entered: &mut Entered<'_>| {
            if !deadline.has_passed(self) {
                pages += entered.drain(deadline).nr_pages;
            }
        };
        self.visit_heaps(own, patience, &mut drain);
        // What the round sent to heaps that it had already visited, and who was in a hit just then.
        self.visit_heaps(own, patience, &mut drain);
        pages + self.drain_node_caches(deadline)
    }

    /// Empties the bins of all other threads that are in no call just now, as far as they do not begin one
    /// meanwhile. The objects are in their slabs then, or on their way to the heaps that have these.
    pub fn drain_bins(&self, own: Option<OwnHeap>) {
        self.visit_heaps_by(&Heap::begin_visit_closing, own, Patience::PassBy, |entered| {
            if entered.visitor_has_bins() {
                entered.flush_closed_bins(|| false);
            }
        });
    }

    /// Gives back what threads left for each other, unless it is over. Returns the pages.
    fn drain_node_caches(&self, deadline: Deadline) -> usize {
        let pages = self.pages();
        let in_time = pages.online().iter().take_while(|_| !deadline.has_passed(self));
        in_time.map(|node| pages.node_cache(node).drain(pages)).sum()
    }

    /// Gives the calling thread's caches back, bins too, and what threads left for each other, until
    /// `deadline`. Returns the pages that went back.
    pub fn drain_own(&self, own: OwnHeap, patience: Patience, deadline: Deadline) -> usize {
        let entered = own.enter_with(patience);
        let drained = entered.map_or(0, |mut entered| entered.drain_owned(deadline).nr_pages);
        drained + self.drain_node_caches(deadline)
    }

    /// Purges holes in the slabs of all heaps, in several visits where owners are busy. Returns
    /// the pages that went back.
    pub fn purge_holes(
        &self,
        own: Option<OwnHeap>,
        patience: Patience,
        how: PurgeHow,
        goal_pages: usize,
    ) -> usize {
        let mut pages = 0;
        self.visit_heaps(own, patience, |entered| {
            if pages < goal_pages && !how.deadline.has_passed(self) {
                pages += entered.purge_holes(how, goal_pages - pages).nr_pages;
            }
        });
        pages
    }

    /// Unmaps huge mappings that were kept unused for that long. Returns the bytes.
    pub fn age_huge(&self, age_ns: u64) -> usize {
        self.huge().age(self.pages(), self.pages().awake_ns(), age_ns)
    }

    /// Whether so many pages at least are free and resident, or mapped and kept for reuse.
    pub fn has_idle_pages(&self, nr_pages: usize) -> bool {
        let pages = self.pages();
        pages.nr_free_resident() + self.huge().cached_pages() >= nr_pages
    }

    /// Unmaps the huge mappings that are kept for reuse. Returns the bytes.
    pub fn drain_huge(&self) -> usize {
        self.drain_huge_until(Deadline::NEVER)
    }

    /// Unmaps about `goal_bytes` of them, the oldest first. Returns the bytes, by what the kernel had of them if it
    /// is to be asked and answers.
    pub fn trim_huge(&self, goal_bytes: usize, asks_kernel: bool) -> usize {
        self.huge().trim(self.pages(), goal_bytes, asks_kernel)
    }

    /// All of them as far as it goes until `deadline`.
    pub fn drain_huge_until(&self, deadline: Deadline) -> usize {
        self.huge().drain(self.pages(), || !deadline.has_passed(self))
    }
}

impl Entered<'_> {
    /// Empties everything, bins too, until `deadline`. Only for the owner, between two operations.
    pub(crate) fn drain_owned(&mut self, deadline: Deadline) -> Drained {
        let heap = self.heap();
        heap.inbox.unmark();
        SizeClass::all().for_each(|class| self.flush_bin(heap, class));
        self.drain(deadline)
    }

    /// Everything that does not need the owner: inbox, what is of other heaps, empty slabs, page caches. As far
    /// as that goes until the owner waits, or `deadline`.
    pub(crate) fn drain(&mut self, deadline: Deadline) -> Drained {
        let heap = self.heap();
        let mm = heap.mm();
        let owner = self.owner();
        let stop = || owner.waits() || deadline.has_passed(mm);
        let is_collected = self.collect(heap, stop) & self.send_reused(heap, stop);
        self.post_all(heap);
        self.settle_flight(heap);
        let slabs = self.release_empty_slabs(heap, stop);
        let pages = mm.pages();
        let large = self.try_large().map(|mut large| large.drain(pages));
        let has_missed = large.is_none() && heap.kept_pages() > 0;
        if has_missed {
            mm.vmstat().note_skipped();
        }
        Drained {
            nr_pages: slabs.nr_pages + large.unwrap_or(0) + self.pcp.drain(pages),
            is_whole: is_collected && slabs.is_whole && !has_missed,
        }
    }
}
