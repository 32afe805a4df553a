//! Bins against slabs: refill when a bin is empty, spill when it is full.
//!
//! Both run inside the owner gate. A refill takes, in this order, what others have sent back,
//! free objects of partly used slabs, and a new slab. A spill returns the older half of the bin to
//! the slabs' bitmaps; the younger half is still warm in the cache.
//!
//! How deep a bin is follows the traffic: its array starts small and doubles when it overflows
//! between refills, or after a few refills in a row, bounded by bytes for the class and for the
//! heap.

use core::ptr::NonNull;

use zonal_numa::{PAGE_SHIFT, PAGE_SIZE};

use crate::bin::{Bin, HeapHot};
use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::{Entered, Heap, HeapId, Inner};
use crate::misuse::{BadKind, BadPointer};
use crate::mm::Attempt;
use crate::pfn::Pfn;
use crate::slab::Slab;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Migratetype, PageWord};

/// Slots of a bin's first array, slot 0 included.
const FIRST_SLOTS: usize = 32;
const MAX_SLOTS: usize = 1024;
/// Slots of the deepest bins of the largest classes, of heaps with a small share and a large one.
const MIN_SLOTS: [usize; 2] = [8, 32];
/// What all bins of all heaps together may hold, in bytes.
const ALL_BYTES: usize = 16 << 20;
/// What all bins of a heap together may hold, in bytes.
const HEAP_BYTES: usize = 4 << 20;
/// The part of that for one class.
const CLASS_PART: usize = 16;
/// Refills in a row after which a bin counts as too small.
const REFILLS_TO_GROW: u8 = 3;
/// Slabs of a class that stay although they are empty: one, and one of so many, as long as those of
/// all classes together hold no more than the bins may.
const EMPTY_SHARE: u32 = 16;

/// What the bins of one heap may hold, in bytes, when so many threads have one.
fn share_of_heap(nr_threads: usize) -> usize {
    (ALL_BYTES / nr_threads.max(1)).min(HEAP_BYTES)
}

fn max_slots(class: SizeClass, share: usize) -> usize {
    let least = MIN_SLOTS[usize::from(share == HEAP_BYTES)];
    let slots = (share / CLASS_PART / class.size()).clamp(least, MAX_SLOTS);
    slots.next_power_of_two().min(MAX_SLOTS)
}

impl Heap {
    /// Puts at least one object of `class` into its bin, for a request of `size` bytes. Owner only.
    pub(crate) fn refill(
        &self,
        class: SizeClass,
        size: usize,
        from: Attempt,
    ) -> Result<(), AllocError> {
        let mut inner = self.enter();
        inner.classes[class.index()].sample(size);
        inner.events.bin_refill += 1;
        self.sync_hot();
        inner.prepare_bin(self, class)?;
        inner.receive(self);
        if inner.has_in_bin(self, class) {
            return Ok(());
        }
        inner.take_from_slabs(self, class, from)
    }

    /// Makes room in the bin of `class`. Owner only.
    pub(crate) fn spill(&self, class: SizeClass) {
        self.mm().doorbell().ring();
        let mut inner = self.enter();
        inner.events.bin_spill += 1;
        inner.classes[class.index()].spilled = true;
        if inner.grow_bin(self, class) {
            return;
        }
        if inner.classes[class.index()].array.is_null() {
            return;
        }
        inner.spill_half(self, class);
    }

    /// Refreshes the heap's copy of what the page map covers. Owner only.
    pub(crate) fn sync_hot(&self) {
        let map = &self.mm().pages().map;
        let hot = self.hot();
        // First: the bases are those of what it covers.
        let covered = map.covered();
        // SAFETY: the owner's own fields, and no hit is under way.
        unsafe {
            (*hot).base = map.base();
            (*hot).words = map.words();
            (*hot).covered = covered;
        }
    }

    fn bin(&self, class: SizeClass) -> *mut Bin {
        // SAFETY: only the address is computed.
        unsafe { &raw mut (*self.hot()).bins[class.index()] }
    }
}

impl Inner {
    /// Gives the class an array if it has none, and a larger one when it has earned it.
    fn prepare_bin(&mut self, heap: &Heap, class: SizeClass) -> Result<(), AllocError> {
        let state = &mut self.classes[class.index()];
        state.refills = state.refills.saturating_add(1);
        if state.array.is_null() || state.spilled || state.refills > REFILLS_TO_GROW {
            self.grow_bin(heap, class);
        }
        if self.classes[class.index()].array.is_null() {
            return Err(AllocError::Exhausted { node: heap.node(), order: 0 });
        }
        Ok(())
    }

    /// Doubles the array of the class's bin (or makes the first one); false when it stays.
    fn grow_bin(&mut self, heap: &Heap, class: SizeClass) -> bool {
        let state = &self.classes[class.index()];
        let old = usize::from(state.slots);
        let share = share_of_heap(heap.mm().pages().nr_threads());
        let max = max_slots(class, share);
        let new = if old == 0 { FIRST_SLOTS.min(max) } else { old * 2 };
        let more_bytes = (new - old) * class.size();
        if new > max || (old != 0 && self.bin_bytes + more_bytes > share) {
            return false;
        }
        let mm = heap.mm();
        let Some(array) = mm.meta().alloc(mm.machine(), new * size_of::<*mut u8>()) else {
            return false;
        };
        let array = array.as_ptr().cast::<*mut u8>();
        let bin = heap.bin(class);
        let state = &mut self.classes[class.index()];
        // SAFETY: both arrays are this class's own; the bin's `top` points into the old one. The
        // store of `top` makes the new array the bin, and `limit` follows it.
        unsafe {
            array.write(core::ptr::null_mut());
            let used = if old == 0 { 1 } else { (*bin).top.offset_from_unsigned(state.array) };
            if old != 0 {
                array.add(1).copy_from_nonoverlapping(state.array.add(1), used - 1);
            }
            (*bin).top = array.add(used);
            (*bin).limit = array.add(new);
            if let Some(block) = NonNull::new(state.array.cast::<u8>()) {
                mm.meta().free(block, old * size_of::<*mut u8>());
            }
        }
        state.array = array;
        state.slots = new as u16;
        state.refills = 0;
        state.spilled = false;
        self.bin_bytes += more_bytes;
        true
    }

    /// Takes what others sent back into the bins, what finds no room there into the slabs. Owner
    /// only.
    fn receive(&mut self, heap: &Heap) {
        self.empty_inbox(heap, |inner, object| {
            // SAFETY: the caller owns the heap, and whoever sent the object gave it up.
            if unsafe { !HeapHot::push(heap.hot(), object) } {
                inner.put_stray(heap, object);
            }
        });
    }

    /// Takes what others sent back into the slabs.
    pub(crate) fn collect(&mut self, heap: &Heap) {
        self.empty_inbox(heap, |inner, object| inner.put_stray(heap, object));
    }

    fn empty_inbox(&mut self, heap: &Heap, mut put: impl FnMut(&mut Inner, *mut u8)) {
        let mut message = heap.inbox.take();
        while let Some(m) = NonNull::new(message) {
            // SAFETY: a message from the inbox is ours alone.
            let m = unsafe { &mut *m.as_ptr() };
            message = m.next;
            self.events.remote_free += u64::from(m.nr);
            m.objects[..m.nr as usize].iter().for_each(|&object| put(self, object));
            self.recycle(heap, NonNull::from(m));
        }
    }

    /// Puts an object back into its slab, whatever class that is of, or sends it on where the slab
    /// has changed hands.
    pub(crate) fn put_stray(&mut self, heap: &Heap, object: *mut u8) {
        let map = &heap.mm().pages().map;
        let word = map.pfn_of(object.addr()).map(|pfn| map.word_at(pfn));
        let slab = word.and_then(|word| {
            let (owner, at) = word.as_slab()?;
            Some((HeapId::new(owner)?, SizeClass::from_offset(at)?, word))
        });
        match slab {
            Some((owner, class, _)) if owner == heap.id() => self.put_object(heap, class, object),
            Some((_, class, word)) => {
                let object = NonNull::new(object);
                if let Some(object) = object.filter(|&object| !self.send(heap, object, class, word))
                {
                    heap.mm().defer(object);
                }
            }
            None => {
                // Its slab was released although it was in a message: it was freed twice.
                let bad = BadPointer::new(object.addr(), BadKind::DoubleFree);
                self.fault.get_or_insert(bad);
            }
        }
    }

    fn has_in_bin(&self, heap: &Heap, class: SizeClass) -> bool {
        // SAFETY: the owner's own bin; slot 0 below `top` always exists.
        unsafe { !(*(*heap.bin(class)).top.sub(1)).is_null() }
    }

    fn take_from_slabs(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
    ) -> Result<(), AllocError> {
        let bin = heap.bin(class);
        let map = &heap.mm().pages().map;
        let slots = usize::from(self.classes[class.index()].slots);
        let half = (slots / 2).max(1);
        let mut wanted = half;
        loop {
            let mut slab = self.first_chargeable(heap, class, from);
            if slab.is_null() {
                // Never build a new slab only to fill the bin.
                if wanted < half {
                    return Ok(());
                }
                if from.node == heap.node() && self.adopt_common(heap, class) {
                    continue;
                }
                slab = self.new_slab(heap, class, from)?;
            }
            // SAFETY: a slab on a partial list is live and has free objects; the bin's array has
            // `wanted` free slots above `top`, since it was empty and `wanted` is half of it.
            unsafe {
                let slab = &mut *slab;
                if slab.is_empty() {
                    self.count_empty(class, -1);
                }
                slab.touch(heap.mm().pages().generation());
                let out = core::slice::from_raw_parts_mut((*bin).top, wanted);
                let base = map.addr_of(slab.head());
                let got = out.len().min(slab.nr_free());
                // Slots are used up from the last one on.
                let turn = if heap.mm().is_shuffling() { random(&mut self.seed, got) } else { 0 };
                let (before, after) = out[..got].split_at_mut(got - turn);
                slab.take(base, before);
                slab.take(base, after);
                (*bin).top = (*bin).top.add(got);
                wanted -= got;
                if slab.nr_free() == 0 {
                    self.classes[class.index()].partial.remove(slab);
                }
            }
            if wanted == 0 {
                return Ok(());
            }
        }
    }

    /// The first partial slab of `class` that has no holes or whose holes the limits allow to fill;
    /// null if there is none.
    fn first_chargeable(&self, heap: &Heap, class: SizeClass, from: Attempt) -> *mut Slab {
        let mut slab = self.classes[class.index()].partial.head;
        // SAFETY: list members are live, and we are inside the gate.
        while let Some(s) = unsafe { slab.as_mut() } {
            if s.holes == 0 {
                return slab;
            }
            if heap.mm().pages().fill_holes(s.head(), s.holes, from.level) {
                s.holes = 0;
                return slab;
            }
            slab = s.next;
        }
        slab
    }

    /// A slab of `class` with all objects free, on the partial list.
    fn new_slab(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
    ) -> Result<*mut Slab, AllocError> {
        let mm = heap.mm();
        let pages = mm.pages();
        let order = class.slab_order();
        heap.read_policy();
        let run = if from.node == heap.node() {
            self.pcp.alloc(pages, order, from)?
        } else {
            let nr_pages = order.nr_pages();
            pages.alloc_run(from.node, nr_pages, order, Migratetype::Slab, from.level)?
        };
        let head = run.head();
        // SAFETY: the run is ours.
        let slab = unsafe {
            let nr_objects = mm.objects_in(class);
            Slab::create(&pages.map, mm.meta(), mm.machine(), (head, class), nr_objects)
        };
        let Some(slab) = slab else {
            self.pcp.free(pages, heap.node(), order, run);
            return Err(AllocError::Exhausted { node: heap.node(), order: 0 });
        };
        if mm.is_checked() {
            if !run.known_zero() {
                // SAFETY: the pages of the run, which is ours.
                unsafe { pages.map.addr_of(head).write_bytes(0, order.nr_pages() * PAGE_SIZE) };
            }
            mm.close_guard(mm.slab_guard(head, class));
        }
        let _ = run.into_head();
        mm.note_taken(heap, from.node, order.nr_pages());
        let word = PageWord::slab(heap.id().index() as u16, class.offset()).raw();
        for i in 0..order.nr_pages() {
            // Relaxed: another thread learns of the slab only with an object of it.
            pages.map.word(head.add(i)).store(word, Relaxed);
        }
        heap.sync_hot();
        let state = &mut self.classes[class.index()];
        // SAFETY: just made, on no list.
        unsafe { state.partial.push(slab.as_ptr()) };
        state.nr_slabs += 1;
        self.count_empty(class, 1);
        self.events.slab_alloc += 1;
        Ok(slab.as_ptr())
    }

    /// Returns the older half of the bin to the slabs.
    fn spill_half(&mut self, heap: &Heap, class: SizeClass) {
        let bin = heap.bin(class);
        let array = self.classes[class.index()].array;
        // SAFETY: `array..top` are the bin's slots; slot 0 is the null floor. The objects leave
        // the slots before they enter the bitmaps only in the view of others, who see `top` last.
        unsafe {
            let used = (*bin).top.offset_from_unsigned(array) - 1;
            let half = used.div_ceil(2);
            self.put_objects(heap, class, core::slice::from_raw_parts(array.add(1), half));
            array.add(1).copy_from(array.add(1 + half), used - half);
            (*bin).top = array.add(1 + used - half);
        }
    }

    /// Empties the bin of `class` into the slabs. Only when no owner can be on the hit path.
    pub(crate) fn flush_bin(&mut self, heap: &Heap, class: SizeClass) {
        if self.classes[class.index()].array.is_null() {
            return;
        }
        let bin = heap.bin(class);
        let array = self.classes[class.index()].array;
        // SAFETY: as in `spill_half`.
        unsafe {
            let used = (*bin).top.offset_from_unsigned(array) - 1;
            (*bin).top = array.add(1);
            self.put_objects(heap, class, core::slice::from_raw_parts(array.add(1), used));
        }
    }

    /// Puts one object back into its slab. A misuse is kept for the report.
    pub(crate) fn put_object(&mut self, heap: &Heap, class: SizeClass, object: *mut u8) {
        self.put_objects(heap, class, &[object]);
    }

    /// Puts objects back into their slabs. Neighbours in `objects` are mostly neighbours in memory,
    /// so a slab is looked up once for all that follow each other. A misuse is kept for the report,
    /// and the object passed over.
    pub(crate) fn put_objects(&mut self, heap: &Heap, class: SizeClass, mut objects: &[*mut u8]) {
        let map = &heap.mm().pages().map;
        let expected = PageWord::slab(heap.id().index() as u16, class.offset()).raw();
        while let Some(first) = objects.first() {
            let addr = first.addr();
            let pfn = Pfn::new(((addr - map.base()) >> PAGE_SHIFT) as u32);
            // Relaxed: pages of this heap's slabs change their word inside this gate only.
            if map.word(pfn).load(Relaxed) != expected {
                // The slab was released although this object was in a bin: it was freed twice.
                self.fault.get_or_insert(BadPointer::new(addr, BadKind::DoubleFree));
                objects = &objects[1..];
                continue;
            }
            let mut slab = Slab::of(map, pfn, class);
            // SAFETY: the word says a slab of this heap and class lies here; we are inside the gate.
            let slab = unsafe { slab.as_mut() };
            let (nr, bad) = slab.put(map.addr_of(slab.head()).addr(), objects);
            objects = &objects[nr..];
            if let Some(kind) = bad {
                let addr = objects[0].addr();
                self.fault.get_or_insert(BadPointer::new(addr, kind));
                objects = &objects[1..];
            }
            if nr > 0 {
                self.note_freed(heap, slab);
            }
        }
    }

    /// After objects of `slab` came back: puts it on the list, or gives it up when it is one empty
    /// slab too many.
    fn note_freed(&mut self, heap: &Heap, slab: &mut Slab) {
        slab.touch(heap.mm().pages().generation());
        let state = &mut self.classes[slab.class().index()];
        if !slab.listed {
            // SAFETY: it was full and so on no list.
            unsafe { state.partial.push(slab) };
        }
        if slab.is_empty() {
            let class = slab.class();
            self.count_empty(class, 1);
            let state = &self.classes[class.index()];
            let share = share_of_heap(heap.mm().pages().nr_threads());
            if state.nr_empty > 1 + state.nr_slabs / EMPTY_SHARE || self.empty_bytes > share {
                self.release_slab(heap, slab);
            }
        }
    }

    /// One slab more or less on the lists of which all objects are free.
    pub(crate) fn count_empty(&mut self, class: SizeClass, by: i32) {
        let nr_empty = &mut self.classes[class.index()].nr_empty;
        *nr_empty = nr_empty.wrapping_add_signed(by);
        let bytes = (class.slab_order().nr_pages() * PAGE_SIZE) as isize;
        self.empty_bytes = self.empty_bytes.wrapping_add_signed(by as isize * bytes);
    }

    /// Gives the pages of an empty, listed slab back to the page cache. Returns how many: none, and
    /// the slab stays, if the system does not open its guard page.
    pub(crate) fn release_slab(&mut self, heap: &Heap, slab: *mut Slab) -> usize {
        let mm = heap.mm();
        let pages = mm.pages();
        // SAFETY: the slab is live, listed and ours.
        unsafe {
            let class = (*slab).class();
            let head = (*slab).head();
            if mm.is_checked() && !mm.open_guard(mm.slab_guard(head, class)) {
                return 0;
            }
            let order = class.slab_order();
            let state = &mut self.classes[class.index()];
            state.partial.remove(slab);
            state.nr_slabs -= 1;
            self.count_empty(class, -1);
            let holes = (*slab).holes.count_ones() as usize;
            if holes > 0 {
                pages.drop_holes(head, holes);
            }
            (*slab).destroy(mm.meta());
            for i in 0..order.nr_pages() {
                // Relaxed: no live object names these pages any more.
                pages.map.word(head.add(i)).store(PageWord::NOTHING.raw(), Relaxed);
            }
            let run = pages.run_from_head(head, order.nr_pages());
            self.pcp.free(pages, heap.node(), order, run);
            self.events.slab_free += 1;
            order.nr_pages()
        }
    }

    /// Releases every empty slab; returns the pages given to the page cache.
    pub(crate) fn release_empty_slabs(&mut self, heap: &Heap) -> usize {
        let mut released = 0;
        for class in SizeClass::all() {
            let mut slab = self.classes[class.index()].partial.head;
            while let Some(s) = NonNull::new(slab) {
                // SAFETY: list members are live; the successor is read before the release.
                unsafe {
                    slab = s.as_ref().next;
                    if s.as_ref().is_empty() {
                        released += self.release_slab(heap, s.as_ptr());
                    }
                }
            }
        }
        released
    }
}

/// A random number below `end`, or 0: by how many places a batch is turned. So which of its objects
/// is handed out first, and which are neighbours of it that are still free, cannot be told. All but
/// one follow their neighbour, as the processor's caches and the kernel like it: a finer order cost
/// 5 to 15 %.
fn random(seed: &mut u64, end: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (((*seed >> u32::BITS) * end as u64) >> u32::BITS) as usize
}

impl Entered<'_> {
    /// Everything that does not need the owner: inbox, unsent messages, empty slabs, page caches.
    /// Returns the pages that went back to the zones.
    pub(crate) fn drain(&mut self) -> usize {
        let heap = self.heap();
        self.collect(heap);
        self.post_all(heap);
        self.release_empty_slabs(heap);
        let pages = heap.mm().pages();
        self.large.drain(pages) + self.pcp.drain(pages)
    }
}
