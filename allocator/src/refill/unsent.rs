//! What a heap freed for others and has not sent yet: it serves before new memory does.
//!
//! An object in an open message ([`crate::outbox`]) is known to nobody but the heap that holds it: for its
//! owner it is in use, as it was in the program's hands. So a miss that would have to build a slab moves such
//! objects into the heap's bins, of whatever classes have room there, and they are handed out like any other.
//! Where many threads free each other's objects and allocate as many, an object would otherwise wait until
//! its owner runs, and its freer take new memory meanwhile. No word of a protocol changes.
//!
//! Each such object misses when it is freed again, and goes into a message again; so a heap takes some only
//! while its new slabs lie in memory that was not used before. What the zone has left over costs less.
//!
//! What holds:
//!
//! * An object of another heap lies in a bin only while its slab counts it as in use. Whoever empties a
//!   bin into the slabs sends it on ([`Inner::put_foreign`]), whoever checks bins at rest has it sent before.
//! * Only memory of the heap's node is taken, and only by heaps that promise no more than that.
//! * A bin is filled to its half, as from slabs: what is freed next finds room.
//! * What no bin has room for stays in its message, for its owner.

use crate::bin::HeapHot;
use crate::class::SizeClass;
use crate::heap::{Heap, Inner};
use crate::misuse::BadKind;
use crate::mm::Attempt;
use crate::outbox::SLOTS;
use crate::pfn::Pfn;

/// Objects in open messages that a miss looks at: less than a new slab costs.
const LOOKS: usize = 256;
/// Bytes of the smallest objects that are taken: a line of the processor's caches. Of smaller ones the
/// owner's thread may have another in the same line, and both would write to it (passive false sharing).
const MIN_BYTES: usize = 64;

impl Inner {
    /// Moves objects that wait to be sent into bins that have room; whether there is one of `class` then.
    /// Owner only.
    pub(super) fn take_unsent(&mut self, heap: &Heap, class: SizeClass, from: Attempt) -> bool {
        if self.outbox.bytes == 0
            || !self.is_growing
            || class.size() < MIN_BYTES
            || from.node != heap.node()
            || !heap.may_take_of_others()
        {
            return false;
        }
        let mut nr_seen = 0;
        for _ in 0..SLOTS {
            let slot = self.outbox.next_slot();
            nr_seen += self.take_from_message(heap, slot);
            if nr_seen >= LOOKS {
                break;
            }
        }
        self.has_in_bin(heap, class)
    }

    /// The same from the open message in `slot`; how many objects it held.
    fn take_from_message(&mut self, heap: &Heap, slot: usize) -> usize {
        // SAFETY: open messages belong to this heap, and we are inside its gate.
        let Some(message) = (unsafe { self.outbox.message(slot).as_mut() }) else { return 0 };
        let map = &heap.mm().pages().map;
        let nr = message.nr as usize;
        let (mut nr_left, mut bytes) = (0, 0);
        for i in 0..nr {
            let object = message.objects[i];
            let slab = map.pfn_of(object.addr()).and_then(|pfn| {
                let (_, class) = map.word_at(pfn).as_slab()?;
                Some((pfn, class))
            });
            match slab {
                Some((pfn, class)) if self.may_take(heap, pfn, class) => {
                    self.put_into_bin(heap, class, object);
                    bytes += class.size();
                }
                // If there is no slab any more, its owner comes upon that, too.
                _ => {
                    message.objects[nr_left] = object;
                    nr_left += 1;
                }
            }
        }
        self.events.remote_reuse += (nr - nr_left) as u64;
        // What was freed twice may have changed its size meanwhile.
        let bytes = bytes.min(message.bytes as usize);
        message.nr = nr_left as u32;
        message.bytes -= bytes as u32;
        self.outbox.bytes -= bytes;
        nr
    }

    /// Whether an object of `class` in the page `pfn` serves the heap, and its bin has room.
    fn may_take(&self, heap: &Heap, pfn: Pfn, class: SizeClass) -> bool {
        let mm = heap.mm();
        let state = &self.classes[class.index()];
        class.size() >= MIN_BYTES
            && heap.bin_len(class, state) < usize::from(state.slots / 2)
            && (mm.is_one_node() || mm.pages().node_of(pfn) == heap.node())
    }

    /// Lays an object of another heap into its bin, which has room.
    fn put_into_bin(&mut self, heap: &Heap, class: SizeClass, object: *mut u8) {
        // SAFETY: the caller owns the heap; whoever freed the object gave it up.
        unsafe {
            if HeapHot::is_newest(heap.hot(), class, object) {
                self.note_bad(object.addr(), BadKind::DoubleFree);
            } else {
                HeapHot::put_class(heap.hot(), class, object);
            }
        }
    }

    /// Takes what belongs to other heaps out of the bins and into messages. Only when no owner can be on
    /// the hit path.
    pub(crate) fn send_home(&mut self, heap: &Heap) {
        for class in SizeClass::all() {
            let state = &self.classes[class.index()];
            let (array, nr) = (state.array, heap.bin_len(class, state));
            let mut nr_left = 0;
            for i in 1..=nr {
                // SAFETY: the bin has that many objects above slot 0.
                let object = unsafe { *array.add(i) };
                if heap.word_of_another(class, object).is_some() {
                    self.put_foreign(heap, class, object);
                } else {
                    nr_left += 1;
                    // SAFETY: as above.
                    unsafe { *array.add(nr_left) = object };
                }
            }
            if nr_left < nr {
                // SAFETY: as above.
                unsafe { (*heap.bin(class)).top = array.add(1 + nr_left) };
            }
        }
    }
}
