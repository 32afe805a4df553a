//! Objects of other heaps that a heap hands out again, while the process is crowded ([`crate::remote::flight`]).
//!
//! ```text
//!   free of another heap's object --> message ---- posted ----> its owner
//!                                        |                         ^
//!             crowded, and a slab        v                         |
//!             was to be made --------> stacks --- crowded no more, or drained
//!                                        |
//!                                        v
//!                           a request that would make a slab
//! ```
//!
//! To its owner such an object is one that is still handed out: nobody is told. Its slab and the words of its
//! pages stay as they are, and when it is freed, it goes the way of all objects of that heap. It does not
//! pass through a bin: a request that finds nothing in its bin, nothing that others sent back and no partly used
//! slab gets it directly.
//!
//! The stacks are made of messages, so nothing is written into free memory. They are behind the gate as unsent
//! messages are, and what they hold is bounded: for the heap, and for each class, or the classes that come back
//! more than they are wanted would leave no room for the others. The one that is wanted has room for all that
//! is unsent.
//!
//! Where heaps share no objects ([`crate::remote::group`]), a free of such an object is no hit, so a heap does not go
//! on with a few: it makes its slab unless a look at what is unsent finds about half as many as a slab has, and it
//! looks again only when some of it has come or gone.
//!
//! | word          | writers                | readers | carries                       |
//! |---------------|------------------------|---------|-------------------------------|
//! | `Heap.reuses` | who is inside the gate | owner   | nothing: stacks may be filled |

mod stacks;

use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::class::{MAX_SMALL, SizeClass, Slicing};
use crate::heap::{Heap, HeapId, Inner};
use crate::mm::Attempt;
use crate::pfn::Pfn;
use crate::remote::Message;
use crate::remote::outbox::SLOTS;
use crate::sync::atomic::Ordering::Relaxed;

use self::stacks::share_of_stacks;

pub(crate) use self::stacks::Reuse;

/// Whole cache lines only: the neighbours of smaller objects are in the hands of their owner's thread.
const LINE: usize = 64;
/// Objects that are enough to make no slab: half of one, within these bounds.
const ENOUGH: [usize; 2] = [4, 16];
/// What has to come or go before what is unsent is looked at again.
const LOOK_BYTES: usize = 16 << 10;
/// Messages that one request sends home.
const MOST_SENT: u32 = 4;

impl Heap {
    /// Another heap's object for a request of `size` bytes that missed, where it needs nothing but a look at
    /// what comes first. To the fences it is no miss. Makes no system call.
    ///
    /// # Safety
    /// The calling thread owns this heap.
    #[inline]
    pub unsafe fn try_reuse(&self, size: usize) -> Option<NonNull<u8>> {
        // Relaxed: a hint.
        if !self.reuses.load(Relaxed) || size > MAX_SMALL {
            return None;
        }
        let class = SizeClass::of(size)?;
        if self.mm().fence().wants(class) || !self.mm().is_one_node() {
            return None;
        }
        self.reuse_again_if(class, |inner| !inner.gives_back_spares(class))
    }

    /// The same on the slow path, for pages `from` some node. Owner only.
    pub(crate) fn reuse_again(&self, class: SizeClass, from: Attempt) -> Option<NonNull<u8>> {
        if !self.reuses.load(Relaxed) || from.node != self.node() {
            return None;
        }
        self.reuse_again_if(class, |_| true)
    }

    #[inline]
    fn reuse_again_if(
        &self,
        class: SizeClass,
        may: impl FnOnce(&Inner) -> bool,
    ) -> Option<NonNull<u8>> {
        let mut inner = self.try_enter_unnoted()?;
        let has_own = !inner.classes[class.index()].partial.head.is_null()
            || !inner.received.is_null()
            || !self.inbox.is_empty();
        if has_own || !may(&inner) {
            return None;
        }
        self.note_use();
        inner.reuse(self, class)
    }
}

impl Inner {
    /// Another heap's object of `class`, for a request that would make a slab.
    pub(crate) fn take_reused(&mut self, heap: &Heap, class: SizeClass) -> Option<NonNull<u8>> {
        let mm = heap.mm();
        if !is_whole_lines(class) || heap.is_pinned() || mm.is_checked() {
            return None;
        }
        if let Some(object) = self.reuse(heap, class) {
            return Some(object);
        }
        self.reuse.is_crowded = mm.is_crowded();
        if !self.reuse.is_crowded {
            let left = Cell::new(MOST_SENT);
            self.send_reused(heap, || left.replace(left.get().saturating_sub(1)) == 0);
            return None;
        }
        if self.outbox.bytes.abs_diff(self.reuse.looked_at) < LOOK_BYTES {
            return None;
        }
        // As it is before: what was kept and comes back is no news.
        self.reuse.looked_at = self.outbox.bytes;
        for slot in 0..SLOTS {
            let Some(message) = NonNull::new(*self.outbox.slot_at(slot)) else { continue };
            self.keep_of(heap, message, Some(class));
            // SAFETY: open messages belong to this heap.
            if unsafe { message.as_ref().nr == 0 } {
                *self.outbox.slot_at(slot) = ptr::null_mut();
                self.recycle(heap, message);
            }
        }
        let enough = (class.objects() / 2).clamp(ENOUGH[0], ENOUGH[1]);
        if self.reuse.nr_of(class) < enough {
            return None;
        }
        self.reuse(heap, class)
    }

    /// Takes what this heap may use from a message that is to be posted, while the process is crowded. Whether
    /// nothing is left in it.
    pub(crate) fn keep_some(&mut self, heap: &Heap, message: NonNull<Message>) -> bool {
        if self.reuse.is_crowded {
            self.reuse.is_crowded = heap.mm().is_crowded();
        }
        if self.reuse.is_crowded {
            self.keep_of(heap, message, None);
        }
        // SAFETY: the message is this heap's.
        unsafe { message.as_ref().nr == 0 }
    }

    /// Moves objects of an unsent message to the stacks: those of the `wanted` class, and of others what they
    /// have room for.
    fn keep_of(&mut self, heap: &Heap, message: NonNull<Message>, wanted: Option<SizeClass>) {
        let mm = heap.mm();
        // SAFETY: the message is this heap's.
        let m = unsafe { &mut *message.as_ptr() };
        let owner = HeapId::from_word(m.word).and_then(|id| mm.heap(id));
        if owner.is_none_or(Heap::is_pinned) {
            return;
        }
        let share = share_of_stacks(mm.pages());
        let (mut nr_left, mut kept) = (0, 0);
        for i in 0..m.nr as usize {
            let object = m.objects[i];
            match self.class_to_keep(heap, object, m.word) {
                Some(class)
                    if (wanted == Some(class) || self.has_room(class, share))
                        && self.push_reused(heap, class, object) =>
                {
                    kept += class.size();
                }
                _ => {
                    m.objects[nr_left] = object;
                    nr_left += 1;
                }
            }
        }
        m.nr = nr_left as u32;
        // After a double free an object may be of another class than when it was added.
        let left = if nr_left == 0 { 0 } else { m.bytes.saturating_sub(kept as u32) };
        self.outbox.bytes -= (m.bytes - left) as usize;
        m.bytes = left;
    }

    /// The class of `object`, if it is one of the heap with that word, this heap hands such objects out and it
    /// lies where its own would.
    fn class_to_keep(&self, heap: &Heap, object: *mut u8, word: u32) -> Option<SizeClass> {
        let (pfn, now, class) = object_at(heap, object)?;
        if HeapId::from_word(now) != HeapId::from_word(word) {
            return None;
        }
        let is_used = !self.classes[class.index()].array.is_null();
        let is_near = heap.mm().pages().node_of(pfn) == heap.node();
        (is_used && is_near && is_whole_lines(class)).then_some(class)
    }
}

fn is_whole_lines(class: SizeClass) -> bool {
    class.size().is_multiple_of(LINE)
}

/// The page, its word and its class, of an address where an object begins.
#[inline]
fn object_at(heap: &Heap, object: *mut u8) -> Option<(Pfn, u32, SizeClass)> {
    let map = &heap.mm().pages().map;
    let pfn = map.pfn_of(object.addr())?;
    let word = map.word_at(pfn);
    let (_, class) = word.as_slab()?;
    let slicing = Slicing::of(class);
    slicing.object_at(slicing.offset_of(object.addr()))?;
    Some((pfn, word.raw(), class))
}
