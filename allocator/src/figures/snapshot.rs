//! Looking at an instance as a whole: figures and validation.
//!
//! Counters stand beside what they count and are summed when somebody asks; the hit path counts
//! nothing. A snapshot costs a visit to every heap. What lies where, and what of it the kernel
//! holds in memory, takes a walk over all pages: [`Mm::survey`].

use core::ptr::NonNull;

use zonal_numa::{NodeId, PAGE_SIZE};
use zonal_stats::{Figures, Snapshot};

use crate::charge::UNLIMITED;
use crate::class::SizeClass;
use crate::error::Mismatch;
use crate::heap::{Entered, HeapId, OwnHeap, Patience};
use crate::mm::Mm;
use crate::order::PAGEBLOCK_PAGES;
use crate::pages::Level;
use crate::slab::Slab;

const _: () = assert!(crate::class::NR_CLASSES <= zonal_stats::MAX_CLASSES);
const _: () = assert!(zonal_numa::MAX_NODES == zonal_stats::MAX_NODES);
const _: () = assert!(crate::order::NR_ORDERS == zonal_stats::NR_ORDERS);
const _: () = assert!(crate::word::NR_MIGRATETYPES == zonal_stats::NR_MIGRATETYPES);
const _: () = assert!(PAGE_SIZE as u64 == zonal_stats::PAGE_SIZE);

impl Mm {
    /// Writes the figures of this moment into `snapshot`, over older ones. Heaps whose owner is
    /// busy for long are left out and counted in `drain_skipped`. `own` is the calling thread's
    /// heap, which is left out, too, while somebody is there, where there is no `patience`.
    pub fn snapshot(&self, own: Option<OwnHeap>, patience: Patience, snapshot: &mut Snapshot) {
        let pages = self.pages();
        snapshot.taken_ns = self.machine().now_ns();
        self.process_figures(snapshot);
        let online = pages.online().iter().filter_map(|node| pages.zone_stats(node));
        let usable = pages.allowed();
        snapshot.nr_nodes = 0;
        for (slot, node) in snapshot.nodes.iter_mut().zip(online) {
            *slot = node;
            let id = NodeId::from_index(node.id as usize);
            slot.zone.usable = u64::from(id.is_some_and(|id| usable.contains(id)));
            if let Some(id) = id {
                self.age_figures(id, &mut slot.zone);
            }
            snapshot.nr_nodes += 1;
        }
        snapshot.nr_classes = 0;
        for (slot, class) in snapshot.classes.iter_mut().zip(SizeClass::all()) {
            *slot = zonal_stats::Class {
                size: class.size() as u64,
                slab_pages: class.slab_order().nr_pages() as u64,
                ..zonal_stats::Class::default()
            };
            snapshot.nr_classes += 1;
        }
        snapshot.heap_events = zonal_stats::HeapEvents::default();
        self.visit_heaps(own, patience, |entered| entered.add_to(snapshot));
        for class in SizeClass::all() {
            let nr = self.barn().nr_of(class) as u64;
            snapshot.classes[class.index()].nr_cached += nr;
            // Where there are several nodes, nothing lies there.
            snapshot.nodes[0].memory.cached_bytes += nr * class.size() as u64;
        }
        for node in pages.online().iter() {
            if let Some(slot) = snapshot.node_mut(node.index() as u64) {
                slot.pcp.count += pages.node_cache(node).nr_pages() as u64;
            }
        }
        // After the heaps, which have added what they counted by themselves.
        snapshot.process.in_flight_bytes = self.flight().bytes() as u64;
        snapshot.process_events = self.vmstat().stats();
        for lock in self.locks() {
            lock.waits().add_to(&mut snapshot.process_events);
        }
        self.huge_figures(snapshot);
    }

    /// Splits what is free and resident into what is cold and what is not, as rounds do now.
    fn age_figures(&self, node: NodeId, zone: &mut zonal_stats::Zone) {
        let pages = self.pages();
        let Some(age) = self.vmstat().cold_age() else { return };
        let border = Some(pages.generation().wrapping_sub(age.max(1)));
        let nr_pageblocks = zone.nr_managed as usize / PAGEBLOCK_PAGES;
        let [nr_cold] = pages.nr_inactive(node, nr_pageblocks, [border]);
        zone.nr_inactive = zone.nr_free_resident.min(nr_cold as u64);
        zone.nr_active = zone.nr_free_resident - zone.nr_inactive;
    }

    fn process_figures(&self, snapshot: &mut Snapshot) {
        let pages = self.pages();
        let marks = pages.watermarks();
        let arrays = pages.window.lock().arrays();
        snapshot.map_start = arrays.addr() as u64;
        let [mapped, used, touched] = self.meta().usage();
        let index = self.huge().index_bytes();
        let [cold_age_ns, min_ttl_ns] = self.vmstat().ages_ns();
        let bound = |pages| if pages == UNLIMITED { 0 } else { pages as u64 };
        snapshot.process = zonal_stats::Process {
            nr_charged: pages.charged() as u64,
            limit: bound(pages.limit()),
            soft_limit: bound(pages.soft_cap().pages),
            cap: bound(pages.cap().pages),
            kswapd_failures: u64::from(self.doorbell().nr_failures()),
            min: marks.min as u64,
            low: marks.low as u64,
            high: marks.high as u64,
            boost: pages.boost(Level::Process) as u64,
            cold_age_ns,
            min_ttl_ns,
            nr_heaps: self.registry.nr_heaps() as u64,
            nr_dead_heaps: self.registry.nr_dead() as u64,
            nr_huge_blocks: 0,
            meta_mapped_bytes: (mapped + size_of::<Mm>() + index) as u64,
            meta_used_bytes: used as u64,
            map_mapped_bytes: arrays.len() as u64,
            meta_resident_bytes: (touched + index) as u64,
            fenced_bytes: self.fence().live_bytes() as u64,
            in_flight_bytes: 0,
        };
    }

    fn huge_figures(&self, snapshot: &mut Snapshot) {
        self.huge().for_each(|span, node, is_live| {
            snapshot.process.nr_huge_blocks += u64::from(is_live);
            if let Some(node) = snapshot.node_mut(node.index() as u64) {
                let memory = &mut node.memory;
                let bytes = if is_live {
                    &mut memory.used_huge_bytes
                } else {
                    &mut memory.huge_cached_bytes
                };
                *bytes += span.len() as u64;
            }
        });
    }

    /// Recomputes the truth from the metadata and compares every counter with it. Other threads
    /// may go on; heaps whose owner is busy for long are left out.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self, own: Option<OwnHeap>) -> Result<(), Mismatch> {
        let mut result = self.pages().validate();
        self.visit_heaps(own, Patience::Wait, |entered| {
            if result.is_ok() {
                result = entered.validate();
            }
        });
        result
    }
}

impl Entered<'_> {
    fn add_to(&mut self, snapshot: &mut Snapshot) {
        let heap = self.heap();
        let mm = heap.mm();
        let pages = mm.pages();
        snapshot.heap_events.add(&self.events);
        snapshot.heap_events.add(&self.pcp.events);
        if let Some(node) = snapshot.node_mut(heap.node().index() as u64) {
            node.numastat.remote_frees += self.events.remote_free;
        }
        self.settle_flight(heap);
        for message in self.open_messages() {
            let owner = HeapId::from_word(message.word).and_then(|id| mm.heap(id));
            let node = owner.map(|owner| owner.node().index() as u64);
            if let Some(node) = node.and_then(|node| snapshot.node_mut(node)) {
                node.memory.cached_bytes += u64::from(message.bytes);
            }
        }
        // In bins, in messages that are not opened, and on stacks for reuse.
        let mut cached_bytes = (self.received_bytes + self.reuse.bytes()) as u64;
        for class in SizeClass::all() {
            let state = &self.classes[class.index()];
            let nr_cached = heap.bin_len(class, state);
            cached_bytes += (nr_cached * class.size()) as u64;
            let sum = &mut snapshot.classes[class.index()];
            sum.nr_slabs += u64::from(state.nr_slabs);
            sum.nr_objects += u64::from(state.nr_slabs) * mm.objects_in(class) as u64;
            sum.nr_cached += nr_cached as u64;
            sum.sampled += u64::from(state.sampled);
            sum.sampled_bytes += state.sampled_bytes;
            let mut slab = state.partial.head;
            while let Some(s) = NonNull::new(slab) {
                // SAFETY: list members are live.
                let s = unsafe { s.as_ref() };
                let sum = &mut snapshot.classes[class.index()];
                sum.nr_partial += 1;
                sum.nr_free += s.nr_free() as u64;
                let node = pages.node_of(s.head()).index() as u64;
                if let Some(node) = snapshot.node_mut(node) {
                    node.memory.slab_free_bytes += (s.nr_free() * class.size()) as u64;
                }
                slab = s.next;
            }
        }
        if let Some(node) = snapshot.node_mut(heap.node().index() as u64) {
            // Nearly all of them: objects of other nodes are few, and are not looked up.
            node.memory.cached_bytes += cached_bytes;
            node.pcp.add(&self.pcp.stats(pages));
            node.pcp.count += heap.kept_pages() as u64;
        }
    }

    fn validate(&mut self) -> Result<(), Mismatch> {
        let mm = self.heap().mm();
        let mut empty_bytes = 0;
        for class in SizeClass::all() {
            let state = &self.classes[class.index()];
            let (mut listed, mut empty) = (0, 0);
            let place = self.walk.place().filter(|(_, index)| *index == class.index());
            let mut is_place_listed = place.is_none();
            let mut slab = state.partial.head;
            while let Some(s) = NonNull::new(slab) {
                // SAFETY: list members are live.
                let s = unsafe { s.as_ref() };
                let at = s.head();
                let bits: u32 = s.words().iter().map(|w| w.count_ones()).sum();
                Mismatch::check("slab: free objects", at, bits as usize, s.nr_free())?;
                Mismatch::check("slab: on a list", at, 1, usize::from(s.listed))?;
                let home = Slab::of(&mm.pages().map, at, class) == NonNull::from(s);
                Mismatch::check("slab: header in place", at, 1, usize::from(home))?;
                let owner = mm.pages().map.word_at(at).as_slab().map_or(0, |(id, _)| id.index());
                let id = self.heap().id().index();
                Mismatch::check("slab: owner", at, id, owner)?;
                listed += 1;
                empty += usize::from(s.is_empty());
                is_place_listed |= place.is_some_and(|(slab, _)| slab == NonNull::from(s));
                slab = s.next;
            }
            let at = crate::pfn::Pfn::NONE;
            Mismatch::check("class: empty slabs", at, empty, state.nr_empty as usize)?;
            Mismatch::check("class: place of the walk", at, 1, usize::from(is_place_listed))?;
            empty_bytes += empty * class.slab_order().nr_pages() * PAGE_SIZE;
            if listed > state.nr_slabs as usize {
                Mismatch::check("class: slabs", at, listed, state.nr_slabs as usize)?;
            }
        }
        let at = crate::pfn::Pfn::NONE;
        Mismatch::check("heap: bytes of empty slabs", at, empty_bytes, self.empty_bytes)?;
        self.validate_received()?;
        self.validate_open()?;
        self.validate_stacks()
    }
}
