//! What others have freed: taken from the inbox into the bins and slabs, or sent on.

use core::ptr::NonNull;

use super::depth::share_of_heap;
use crate::class::SizeClass;
use crate::error::Mismatch;
use crate::heap::{Heap, Inner};
use crate::hot::HeapHot;
use crate::misuse::{BadKind, BadPointer};
use crate::pfn::Pfn;
use crate::remote::Message;
use crate::word::PageWord;

impl Inner {
    /// Takes what others sent back into the bins, what finds no room there into the slabs: until there
    /// is something for `class`. The other messages wait for later misses, so that their objects need
    /// not pass through the bitmaps, as long as they hold no more than the bins may. Owner only.
    pub(super) fn receive(&mut self, heap: &Heap, class: SizeClass) {
        heap.inbox.unmark();
        // Also while older messages wait: what was posted meanwhile is warmer.
        self.take_inbox(heap);
        let share = share_of_heap(heap.mm().pages());
        let is_checked = heap.mm().is_checked();
        let put = |inner: &mut Inner, object| {
            // Checked blocks of others go home, also where both heaps have the same group by number.
            let is_kept = !is_checked || heap.owns(object);
            // SAFETY: the caller owns the heap, and whoever sent the object gave it up.
            if !is_kept || unsafe { !HeapHot::push(heap.hot(), object) } {
                inner.put_stray(heap, object);
            }
        };
        while self.received_bytes > share || !self.has_in_bin(heap, class) {
            if !self.open_received(heap, put) {
                self.take_inbox(heap);
                if self.received.is_null() {
                    return;
                }
            }
        }
    }

    /// Takes what others sent back into the slabs, until it shall `stop`; whether that was all.
    pub(crate) fn collect(&mut self, heap: &Heap, stop: impl FnMut() -> bool) -> bool {
        self.collect_down_to(heap, 0, stop)
    }

    /// The same for an owner that may be at work: what it would take at its next misses stays, if it
    /// had any since this was asked last.
    pub(crate) fn collect_surplus(&mut self, heap: &Heap, stop: impl Fn() -> bool) {
        let refills = self.events.bin_refill;
        let had_none = core::mem::replace(&mut self.refills_seen, refills) == refills;
        let share = share_of_heap(heap.mm().pages());
        self.collect_down_to(heap, if had_none { 0 } else { share }, stop);
    }

    fn collect_down_to(
        &mut self,
        heap: &Heap,
        bytes: usize,
        mut stop: impl FnMut() -> bool,
    ) -> bool {
        self.take_inbox(heap);
        let put = |inner: &mut Inner, object| inner.put_stray(heap, object);
        while self.received_bytes > bytes && self.open_received(heap, put) {
            if stop() {
                return false;
            }
        }
        true
    }

    /// Puts what others posted before what waits: it is the warmest.
    fn take_inbox(&mut self, heap: &Heap) {
        let first = heap.inbox.take();
        let (mut last, mut posted) = (first, 0);
        // SAFETY: messages from the inbox are ours alone.
        while let Some(message) = unsafe { last.as_mut() } {
            self.received_bytes += message.bytes as usize;
            if message.word != Message::TO_ITSELF {
                posted += message.bytes as isize;
            }
            if message.next.is_null() {
                message.next = core::mem::replace(&mut self.received, first);
                self.count_flight(heap, -posted);
                return;
            }
            last = message.next;
        }
    }

    /// Compares what is counted of messages that wait with these.
    pub(crate) fn validate_received(&self) -> Result<(), Mismatch> {
        let (mut bytes, mut next) = (0, self.received);
        // SAFETY: as above.
        while let Some(message) = unsafe { next.as_ref() } {
            bytes += message.bytes as usize;
            next = message.next;
        }
        Mismatch::check("heap: received bytes", Pfn::NONE, bytes, self.received_bytes)
    }

    /// Gives the objects of the first message that waits to `put`; false if there is none.
    fn open_received(&mut self, heap: &Heap, mut put: impl FnMut(&mut Inner, *mut u8)) -> bool {
        // SAFETY: as above.
        let Some(message) = (unsafe { self.received.as_mut() }) else { return false };
        self.received = message.next;
        self.received_bytes -= message.bytes as usize;
        // What the owner put aside came from no other thread.
        if message.word != Message::TO_ITSELF {
            self.events.remote_free += u64::from(message.nr);
        }
        message.objects[..message.nr as usize].iter().for_each(|&object| put(self, object));
        self.recycle(heap, NonNull::from(message));
        true
    }

    /// Puts an object back into its slab, whatever class that is of, or sends it on where the slab
    /// has changed hands.
    pub(crate) fn put_stray(&mut self, heap: &Heap, object: *mut u8) {
        let map = &heap.mm().pages().map;
        let word = map.pfn_of(object.addr()).map(|pfn| map.word_at(pfn));
        match word.and_then(|word| Some((word, word.as_slab()?))) {
            Some((_, (owner, class))) if owner == heap.id() => {
                self.put_object(heap, class, object);
            }
            Some((word, (_, class))) => self.send_or_defer(heap, object, class, word),
            None => {
                // Its slab was released although it was in a message: it was freed twice.
                let bad = BadPointer::new(object.addr(), BadKind::DoubleFree);
                self.fault.get_or_insert(bad);
            }
        }
    }

    /// An object from the bin of `class` whose page says that it is none of this heap's: it goes home if
    /// its slab is another heap's. If that is gone, or cut otherwise by now, it was freed twice.
    #[inline(never)]
    pub(crate) fn put_foreign(&mut self, heap: &Heap, class: SizeClass, object: *mut u8) {
        match heap.foreign_word(class, object) {
            Some(word) => self.send_or_defer(heap, object, class, word),
            None => self.note_bad(object.addr(), BadKind::DoubleFree),
        }
    }

    /// Where no object starts, that is told here: the heap that freed it, or has its bin now, is nearer to the
    /// mistake than the owner.
    fn send_or_defer(&mut self, heap: &Heap, object: *mut u8, class: SizeClass, word: PageWord) {
        if !word.slicing().is_start(object.addr()) {
            return self.note_bad(object.addr(), BadKind::Interior);
        }
        let object = NonNull::new(object);
        if let Some(object) = object.filter(|&object| !self.send(heap, object, class, word)) {
            heap.defer(object);
        }
    }
}

impl Heap {
    /// Whether the page of `object` says that it is of a slab of this heap.
    fn owns(&self, object: *mut u8) -> bool {
        let map = &self.mm().pages().map;
        let slab = map.pfn_of(object.addr()).and_then(|pfn| map.word_at(pfn).as_slab());
        slab.is_some_and(|(owner, _)| owner == self.id())
    }

    /// The word of the page of an object from the bin of `class`, if another heap owns it. Checked blocks
    /// of others never come there.
    pub(crate) fn foreign_word(&self, class: SizeClass, object: *mut u8) -> Option<PageWord> {
        let map = &self.mm().pages().map;
        let word = map.word_at(map.pfn_of(object.addr())?);
        let (owner, now) = word.as_slab()?;
        (owner != self.id() && now == class && !self.mm().is_checked()).then_some(word)
    }
}
