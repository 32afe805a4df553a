//! The stacks: objects of other heaps by class, in messages that are linked, the newest first.

use core::ptr::{self, NonNull};

use super::object_at;
use crate::class::{NR_CLASSES, SizeClass};
use crate::error::Mismatch;
use crate::heap::{Heap, Inner};
use crate::misuse::BadKind;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::remote::outbox::MAX_SPARE;
use crate::remote::{MESSAGE_OBJECTS, Message};
use crate::sync::atomic::Ordering::Relaxed;

/// What all stacks of all heaps together may hold, in bytes, those of one heap, and the part of that for one
/// class.
const ALL_BYTES: usize = 64 << 20;
const HEAP_BYTES: usize = 2 << 20;
const CLASS_PART: usize = 16;

/// Objects of other heaps, by class.
#[derive(Debug)]
pub(crate) struct Reuse {
    /// The newest message of each stack, which is not empty; null for an empty stack.
    stacks: [*mut Message; NR_CLASSES],
    /// Objects of each stack.
    nr: [u32; NR_CLASSES],
    /// Bytes of all these objects.
    bytes: usize,
    /// A slab was to be made when the process was crowded, and it was so whenever this heap looked since.
    pub(crate) is_crowded: bool,
    /// Bytes that were unsent after the last look at them.
    pub(super) looked_at: usize,
}

impl Reuse {
    pub(crate) const NEW: Reuse = Reuse {
        stacks: [ptr::null_mut(); NR_CLASSES],
        nr: [0; NR_CLASSES],
        bytes: 0,
        is_crowded: false,
        looked_at: 0,
    };

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Objects of one class.
    pub(super) fn nr_of(&self, class: SizeClass) -> usize {
        self.nr[class.index()] as usize
    }
}

/// What one thread may have on its stacks, in bytes.
pub(super) fn share_of_stacks(pages: &Pages) -> usize {
    pages.share_of(ALL_BYTES).min(HEAP_BYTES)
}

impl Inner {
    /// Whether taking the next object would empty a message that is one too many.
    pub(super) fn gives_back_spares(&self, class: SizeClass) -> bool {
        // SAFETY: messages of the stacks are this heap's.
        let top = unsafe { self.reuse.stacks[class.index()].as_ref() };
        self.outbox.nr_spare >= MAX_SPARE && top.is_some_and(|top| top.nr == 1)
    }

    /// Whether there is room for one more, with so many bytes for all.
    pub(super) fn has_room(&self, class: SizeClass, share: usize) -> bool {
        let bytes = (self.reuse.nr_of(class) + 1) * class.size();
        bytes <= share / CLASS_PART && self.reuse.bytes + class.size() <= share
    }

    /// Puts an object on its stack, unless it is found there: then it was freed twice. False, and nothing done,
    /// where there is no memory for a message.
    pub(super) fn push_reused(&mut self, heap: &Heap, class: SizeClass, object: *mut u8) -> bool {
        let mut top = self.reuse.stacks[class.index()];
        // SAFETY: messages of the stacks are this heap's.
        if unsafe { top.as_ref() }.is_some_and(|top| top.has(object)) {
            self.note_bad(object.addr(), BadKind::DoubleFree);
            return true;
        }
        // SAFETY: messages of the stacks are this heap's.
        let has_room = unsafe { top.as_ref() }.is_some_and(|top| !top.is_filled());
        if !has_room {
            let Some(message) = self.new_message(heap) else { return false };
            // SAFETY: a spare message is ours.
            unsafe {
                Message::open(message, Message::TO_ITSELF);
                (*message.as_ptr()).next = top;
            }
            top = message.as_ptr();
            self.reuse.stacks[class.index()] = top;
        }
        // SAFETY: as above, and it is not full.
        let m = unsafe { &mut *top };
        m.add(object, class.size());
        self.reuse.nr[class.index()] += 1;
        self.reuse.bytes += class.size();
        heap.reuses.store(true, Relaxed);
        true
    }

    fn pop_reused(&mut self, heap: &Heap, class: SizeClass) -> Option<*mut u8> {
        let top = NonNull::new(self.reuse.stacks[class.index()])?;
        // SAFETY: messages of the stacks are this heap's.
        let m = unsafe { &mut *top.as_ptr() };
        m.nr -= 1;
        m.bytes -= class.size() as u32;
        let object = m.objects[m.nr as usize];
        if m.nr == 0 {
            self.reuse.stacks[class.index()] = m.next;
            self.recycle(heap, top);
        }
        self.reuse.nr[class.index()] -= 1;
        self.reuse.bytes -= class.size();
        if self.reuse.bytes == 0 {
            heap.reuses.store(false, Relaxed);
        }
        Some(object)
    }

    /// Hands out the newest object of a stack.
    pub(super) fn reuse(&mut self, heap: &Heap, class: SizeClass) -> Option<NonNull<u8>> {
        loop {
            let object = self.pop_reused(heap, class)?;
            if object_at(heap, object).is_some_and(|(_, _, now)| now == class) {
                self.events.remote_reuse += 1;
                return NonNull::new(object);
            }
            // Its slab was released meanwhile: it was freed twice.
            self.note_bad(object.addr(), BadKind::DoubleFree);
        }
    }

    /// Puts all of them into messages to their owners, until it shall `stop`; whether that was all.
    pub(crate) fn send_reused(&mut self, heap: &Heap, stop: impl Fn() -> bool) -> bool {
        self.reuse.is_crowded = false;
        for class in SizeClass::all() {
            if self.reuse.bytes == 0 {
                break;
            }
            while self.reuse.nr_of(class) > 0 {
                if stop() {
                    return false;
                }
                for _ in 0..MESSAGE_OBJECTS {
                    let Some(object) = self.pop_reused(heap, class) else { break };
                    self.put_stray(heap, object);
                }
            }
        }
        true
    }

    /// Compares what is counted of the stacks with the messages that they are made of.
    pub(crate) fn validate_stacks(&self) -> Result<(), Mismatch> {
        let mut bytes = 0;
        for class in SizeClass::all() {
            let (mut nr, mut next) = (0, self.reuse.stacks[class.index()]);
            // SAFETY: messages of the stacks are this heap's.
            while let Some(message) = unsafe { next.as_ref() } {
                let is_empty = usize::from(message.nr == 0);
                Mismatch::check("heap: empty messages on stacks", Pfn::NONE, 0, is_empty)?;
                let bytes = message.nr as usize * class.size();
                Mismatch::check(
                    "heap: bytes of a stack",
                    Pfn::NONE,
                    bytes,
                    message.bytes as usize,
                )?;
                nr += message.nr as usize;
                next = message.next;
            }
            Mismatch::check("class: objects of others", Pfn::NONE, nr, self.reuse.nr_of(class))?;
            bytes += nr * class.size();
        }
        Mismatch::check("heap: bytes of others", Pfn::NONE, bytes, self.reuse.bytes)
    }
}
