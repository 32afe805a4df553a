//! What leaves a full bin for an empty one of another thread, by way of the [barn](crate::remote::barn).
//!
//! | who             | where it misses                    | what it does                                       |
//! |-----------------|------------------------------------|----------------------------------------------------|
//! | frees another's | its bin, which takes such objects, | leaves a batch of its newest ones, or half of them |
//! | object          | is full                            | if it takes some out as well; where there is no    |
//! |                 |                                    | place, they go home                                |
//! | wants an object | its bin is empty, and nothing came | takes a batch, before it looks at slabs            |
//! |                 | home                               |                                                    |
//!
//! Both have a short way, which makes no system call, and a long one. Of a class that a thread only frees it has no bin
//! until the long way makes one, for one batch. Not beside many threads: there such objects go home, one by one as they
//! are freed. In bins by class they would leave the caches before they are used again, and with what others hand out
//! of them, slabs of their owners would fill with free ones while those others make new ones.

use core::ptr::NonNull;

use super::depth::share_of_heap;
use crate::class::SizeClass;
use crate::heap::{Heap, Inner};
use crate::hot::HeapHot;
use crate::remote::Message;
use crate::remote::barn::batch_of;
use crate::word::PageWord;

/// Slots that the bin of a class that the thread only frees has at least, slot 0 included.
const LEAST_SLOTS: usize = 8;
/// The largest objects of such a class, in bytes, and the most threads beside which there are such bins.
const MAX_SIZE: usize = 512;
const FEW_THREADS: usize = 8;
/// One refill in so many goes the long way, where bins deepen.
const REFILLS_TO_DEEPEN: u8 = 16;
/// Messages that who has no spare one asks for at a time.
const SPARE: usize = 4;

/// Slots of the bin of a class that the thread only frees.
fn slots_of(class: SizeClass) -> usize {
    (batch_of(class) + 1).max(LEAST_SLOTS)
}

impl Heap {
    /// An object for a request of `size` bytes that missed, from what another thread left. To the fences it is no miss.
    /// Makes no system call.
    ///
    /// # Safety
    /// The calling thread owns this heap, and has its bins.
    #[inline]
    pub unsafe fn try_left(&self, size: usize) -> Option<NonNull<u8>> {
        let class = SizeClass::of(size)?;
        let mm = self.mm();
        if !mm.barn().has(class) || mm.fence().wants(class) {
            return None;
        }
        // SAFETY: the caller's promise.
        unsafe { self.take_left_at_once(class, size) }
    }

    /// # Safety
    /// As for [`Heap::try_left`].
    #[inline(never)]
    unsafe fn take_left_at_once(&self, class: SizeClass, size: usize) -> Option<NonNull<u8>> {
        let mut inner = self.try_enter_unnoted()?;
        let has_own = !inner.received.is_null() || !self.inbox.is_empty();
        let state = &mut inner.classes[class.index()];
        state.refills = state.refills.wrapping_add(1);
        let is_long = state.refills.is_multiple_of(REFILLS_TO_DEEPEN);
        if has_own || is_long || !inner.take_left(self, class) {
            return None;
        }
        inner.classes[class.index()].sample(size);
        inner.events.bin_refill += 1;
        self.note_use();
        // SAFETY: the caller's promise.
        NonNull::new(unsafe { HeapHot::pop_class(self.hot(), class) })
    }

    /// Takes an object of another heap into its bin, which is full, and makes room there for it, where that is simple;
    /// or into an open message, where the bin shall have no array. False, and nothing done, where it is not. Makes no
    /// system call.
    ///
    /// # Safety
    /// As for [`Heap::free`], and the caller has the bins.
    #[inline(never)]
    pub(crate) unsafe fn push_full_at_once(&self, object: *mut u8, word: PageWord) -> bool {
        let Some((owner, class)) = word.as_slab() else { return false };
        let Some(mut inner) = self.try_enter_unnoted() else { return false };
        if inner.classes[class.index()].array.is_null() {
            return !inner.may_deepen(self, class) && inner.add_to_open(self, object, word);
        }
        if owner == self.id() || !word.slicing().is_start(object.addr()) {
            return false;
        }
        // Who is inside may.
        inner.open_bins();
        let nr = inner.nr_to_leave(self, class);
        let has_room =
            nr > 0 && (inner.leave_newest(self, class, nr) || inner.send_by_open(self, class, nr));
        if !has_room {
            return false;
        }
        inner.classes[class.index()].left = true;
        self.note_use();
        // SAFETY: the caller's promise; the bins are the call's.
        unsafe { HeapHot::push(self.hot(), object) }
    }

    /// The same where that takes more; false, and nothing done, while a visitor is in the heap or for want of memory.
    /// Owner only, who has the bins.
    pub(crate) fn push_full(&self, object: NonNull<u8>, class: SizeClass) -> bool {
        let has_room = self.try_enter().is_some_and(|mut inner| inner.make_room(self, class));
        // SAFETY: the caller owns the heap and gave the object away.
        has_room && unsafe { HeapHot::push(self.hot(), object.as_ptr()) }
    }

    /// Whether objects of pages with that word are such as bins of all threads take, and its own, which has an array or
    /// may get one. Owner only.
    #[inline]
    pub(crate) fn bin_shares(&self, word: PageWord) -> bool {
        // SAFETY: the caller owns the heap.
        let bin = unsafe { HeapHot::bin_at_word(self.hot(), word) };
        word.is_shared()
            && bin.takes == word.raw() as u16
            && (bin.has_array() || self.may_get_bin(word.slicing().size()))
    }

    /// Whether a class of so many bytes, of which the thread only frees, may get a bin.
    #[inline]
    fn may_get_bin(&self, size: usize) -> bool {
        size <= MAX_SIZE && self.mm().pages().nr_threads() <= FEW_THREADS
    }
}

impl Inner {
    /// Fills the bin of `class`, which is empty, with what another thread left; false if there is nothing. Owner only.
    pub(super) fn take_left(&mut self, heap: &Heap, class: SizeClass) -> bool {
        let mm = heap.mm();
        // Memory of a node by name is no other's.
        let may_take = !self.classes[class.index()].array.is_null() && !heap.is_pinned();
        if !may_take || !mm.barn().has(class) {
            return false;
        }
        let generation = mm.pages().generation();
        let found = mm.barn().stall(class).take(generation, || self.take_spare());
        let mut message = match found {
            Ok(message) => message,
            Err(spare) => {
                self.recycle_some(heap, spare);
                return false;
            }
        };
        let bin = heap.bin(class);
        // SAFETY: the message is ours, as the bin is, which has slots up to `limit`.
        unsafe {
            let m = message.as_mut();
            let room = (*bin).limit.offset_from_unsigned((*bin).top);
            let nr = room.min(m.nr as usize);
            let rest = m.nr as usize - nr;
            (*bin).top.copy_from_nonoverlapping(m.objects.as_ptr().add(rest), nr);
            (*bin).top = (*bin).top.add(nr);
            self.events.remote_free += nr as u64;
            m.nr = rest as u32;
            m.bytes = (rest * class.size()) as u32;
        }
        self.classes[class.index()].left = false;
        self.give_rest(heap, class, message);
        true
    }

    /// What has no room in a small bin stays for others, or goes home.
    #[inline]
    fn give_rest(&mut self, heap: &Heap, class: SizeClass, message: NonNull<Message>) {
        let mm = heap.mm();
        // SAFETY: the message is ours.
        let m = unsafe { message.as_ref() };
        let mut empty = message.as_ptr();
        if m.nr != 0 {
            match mm.barn().stall(class).put(message, mm.pages().generation()) {
                Some(other) => empty = other,
                None => self.put_objects(heap, class, &m.objects[..m.nr as usize]),
            }
        }
        self.recycle_some(heap, empty);
    }

    /// How many of the newest objects leave a full bin: half of them if the bin was refilled since some left it, else
    /// as many as are in it; a batch at most.
    fn nr_to_leave(&self, heap: &Heap, class: SizeClass) -> usize {
        let state = &self.classes[class.index()];
        let len = heap.bin_len(class, state);
        let most = if state.left { len } else { len.div_ceil(2) };
        most.min(batch_of(class))
    }

    /// Whether the bin of a class, which is full of what the thread frees, gets more slots.
    pub(crate) fn may_deepen(&self, heap: &Heap, class: SizeClass) -> bool {
        let (slots, wanted) = (usize::from(self.classes[class.index()].slots), slots_of(class));
        slots < wanted
            && (slots > 0 || heap.may_get_bin(class.size()))
            && self.bin_bytes + (wanted - slots) * class.size()
                <= share_of_heap(heap.mm().pages()) / 2
    }

    /// Makes room in the bin of `class` for objects of other heaps; whether there is some. May ask the system. Owner
    /// only.
    pub(crate) fn make_room(&mut self, heap: &Heap, class: SizeClass) -> bool {
        if self.may_deepen(heap, class) && self.resize_bin(heap, class, slots_of(class)) {
            return true;
        }
        let nr = self.nr_to_leave(heap, class);
        if nr == 0 {
            return false;
        }
        self.stock_spare(heap);
        if !self.leave_newest(heap, class, nr) {
            heap.mm().doorbell().ring();
            self.flush_newest(heap, class, nr);
        }
        self.classes[class.index()].left = true;
        true
    }

    /// Leaves the newest `nr` objects of the bin to other threads, if there is a spare message for them and a place.
    fn leave_newest(&mut self, heap: &Heap, class: SizeClass, nr: usize) -> bool {
        let Some(mut message) = NonNull::new(self.take_spare()) else { return false };
        let mm = heap.mm();
        let bin = heap.bin(class);
        // SAFETY: a spare message is ours, and the bin has as many objects.
        let first = unsafe {
            Message::open(message, Message::TO_ITSELF);
            let first = (*bin).top.sub(nr);
            let m = message.as_mut();
            m.objects.as_mut_ptr().copy_from_nonoverlapping(first, nr);
            m.nr = nr as u32;
            m.bytes = (nr * class.size()) as u32;
            first
        };
        let empty = mm.barn().stall(class).put(message, mm.pages().generation());
        self.recycle_some(heap, empty.unwrap_or(message.as_ptr()));
        if empty.is_none() {
            return false;
        }
        // SAFETY: the bin's own slots.
        unsafe { (*bin).top = first };
        self.events.remote_post += 1;
        // If this thread sleeps from now on, somebody has to look after them.
        mm.doorbell().ring();
        true
    }

    /// Puts some of the newest `nr` objects, at least one, into messages to their owners that are open and have room;
    /// false where the newest finds none.
    fn send_by_open(&mut self, heap: &Heap, class: SizeClass, nr: usize) -> bool {
        let map = &heap.mm().pages().map;
        let bin = heap.bin(class);
        let mut nr_sent = 0;
        while nr_sent < nr {
            // SAFETY: the bin has as many objects.
            let object = unsafe { *(*bin).top.sub(1) };
            let word = map.pfn_of(object.addr()).map(|pfn| map.word_at(pfn));
            if !word.is_some_and(|word| self.add_to_open(heap, object, word)) {
                break;
            }
            // SAFETY: as above.
            unsafe { (*bin).top = (*bin).top.sub(1) };
            nr_sent += 1;
        }
        nr_sent != 0
    }

    /// Gets some spare messages, if there are none.
    fn stock_spare(&mut self, heap: &Heap) {
        if !self.outbox.spare.is_null() {
            return;
        }
        let mm = heap.mm();
        for _ in 0..SPARE {
            let Some(message) = mm.meta().alloc(mm.machine(), size_of::<Message>()) else { return };
            self.recycle(heap, message.cast());
        }
    }

    fn recycle_some(&mut self, heap: &Heap, message: *mut Message) {
        if let Some(message) = NonNull::new(message) {
            self.recycle(heap, message);
        }
    }
}
