//! Looking at an instance as a whole: statistics and validation.

use core::ptr::NonNull;

use zonal_numa::{MAX_NODES, NodeId};

use crate::class::{NR_CLASSES, SizeClass};
use crate::error::Mismatch;
use crate::heap::{Entered, Heap};
use crate::mm::Mm;
use crate::pcp::PcpStats;
use crate::stats::{ClassStats, HeapStats, Stats};
use crate::sync::atomic::Ordering::Relaxed;

impl Mm {
    /// A snapshot of all figures. Heaps whose owner is busy for long are left out of the class
    /// figures and counted in `drain_skipped`. `own` is the calling thread's heap.
    pub fn stats(&self, own: Option<NonNull<Heap>>) -> Stats {
        let (meta_mapped, meta_used) = self.meta().usage();
        let mut stats = Stats {
            zones: [None; MAX_NODES],
            classes: [ClassStats::default(); NR_CLASSES],
            heaps: HeapStats::default(),
            pcp: PcpStats::default(),
            pcp_pages: 0,
            nr_heaps: self.registry.nr_heaps(),
            nr_dead_heaps: self.registry.nr_dead(),
            reclaim: self.vmstat().stats(),
            drain_skipped: 0,
            huge: self.huge().stats(),
            meta_mapped,
            meta_used,
        };
        for node in self.machine().topology().nodes_online().iter() {
            stats.zones[node.index()] = self.pages().zone_stats(node).map(|zone| (node, zone));
        }
        for class in SizeClass::all() {
            stats.classes[class.index()].size = class.size();
        }
        self.visit_heaps(own, |entered| entered.add_to(&mut stats));
        stats.drain_skipped = self.drain_skipped.load(Relaxed);
        stats
    }

    /// Recomputes the truth from the metadata and compares every counter with it. Other threads
    /// may go on; heaps whose owner is busy for long are left out.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self, own: Option<NonNull<Heap>>) -> Result<(), Mismatch> {
        let mut result = self.pages().validate();
        self.visit_heaps(own, |entered| {
            if result.is_ok() {
                result = entered.validate();
            }
        });
        result
    }

    /// The nodes in the order in which a request from `node` tries them.
    pub fn zonelist(&self, node: NodeId) -> &[NodeId] {
        self.machine().topology().zonelist(node)
    }
}

impl Entered<'_> {
    fn add_to(&mut self, stats: &mut Stats) {
        let heap = self.heap();
        stats.heaps.add(&self.stats);
        stats.pcp.pcp_refill += self.pcp.stats.pcp_refill;
        stats.pcp.pcp_spill += self.pcp.stats.pcp_spill;
        stats.pcp_pages += self.pcp.nr_pages();
        for class in SizeClass::all() {
            let state = &self.classes[class.index()];
            let sum = &mut stats.classes[class.index()];
            sum.nr_slabs += state.nr_slabs as usize;
            sum.nr_objects += state.nr_slabs as usize * class.objects();
            sum.nr_cached += heap.bin_len(class, state);
            let mut message = state.pending;
            while let Some(m) = NonNull::new(message) {
                // SAFETY: pending messages belong to the one inside the gate.
                let m = unsafe { m.as_ref() };
                sum.nr_cached += m.nr as usize;
                message = m.next;
            }
            let mut slab = state.partial.head;
            while let Some(s) = NonNull::new(slab) {
                // SAFETY: list members are live.
                let s = unsafe { s.as_ref() };
                sum.nr_free += s.nr_free();
                slab = s.next;
            }
        }
    }

    fn validate(&mut self) -> Result<(), Mismatch> {
        let mm = self.heap().mm();
        for class in SizeClass::all() {
            let state = &self.classes[class.index()];
            let (mut listed, mut empty) = (0, 0);
            let mut slab = state.partial.head;
            while let Some(s) = NonNull::new(slab) {
                // SAFETY: list members are live.
                let s = unsafe { s.as_ref() };
                let at = s.head();
                let bits: u32 = s.words().iter().map(|w| w.count_ones()).sum();
                Mismatch::check("slab: free objects", at, bits as usize, s.nr_free())?;
                Mismatch::check("slab: on a list", at, 1, usize::from(s.listed))?;
                let home = mm.slab_at(at, class) == NonNull::from(s);
                Mismatch::check("slab: header in place", at, 1, usize::from(home))?;
                let owner = mm.pages().map.word_at(at).as_slab().map_or(0, |(id, _)| id);
                let id = self.heap().id().index();
                Mismatch::check("slab: owner", at, id, usize::from(owner))?;
                listed += 1;
                empty += usize::from(s.is_empty());
                slab = s.next;
            }
            let at = crate::pfn::Pfn::NONE;
            Mismatch::check("class: empty slabs", at, empty, state.nr_empty as usize)?;
            if listed > state.nr_slabs as usize {
                Mismatch::check("class: slabs", at, listed, state.nr_slabs as usize)?;
            }
        }
        Ok(())
    }
}
