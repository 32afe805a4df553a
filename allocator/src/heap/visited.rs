//! What the owner does while a visitor is in its heap: it waits for nobody.
//!
//! A visitor is quick, unless the kernel takes its processor away: then it is gone for as long as
//! other threads run. The bins are the owner's all the time, unless it slept and they were closed
//! ([`crate::mark`]); what misses them goes on as follows.
//!
//! | the owner                    | without its heap                                            |
//! |------------------------------|-------------------------------------------------------------|
//! | wants a small object         | takes it from another heap of the pool, or a new one,       |
//! |                              | borrowed for that; it waits only before the program would   |
//! |                              | be told that there is no memory                             |
//! | frees one, its own or not    | puts it into a message to itself ([`crate::remote`])        |
//! | takes or frees a run         | asks the zone, past the runs that it keeps                  |
//! | extends a run                | only where none that it keeps is in the way                 |
//! | clears a checked object      | lets it out of quarantine at once                           |
//! | finds a misuse               | notes it outside                                            |
//! | empties its caches           | leaves them to the visitor and the next one                 |
//! | ends                         | leaves the heap as it is, for kswapd or its next owner      |
//!
//! An object of a borrowed heap is like one that another thread gave away: when it is freed, it lies
//! in the bin of who frees it, or goes to that heap's inbox. A heap is borrowed for one request, so there
//! are no more of them than threads are at such a request at one time, and the same serve again and
//! again. It goes back as it is: who drains the heaps of ended threads takes what it holds. (A jump out of a
//! signal handler waits for the end of that, or a heap would be nobody's: `ffi/src/jump`. By other ways than
//! `longjmp` it is lost.)

use core::ptr::NonNull;

use super::Heap;
use crate::class::SizeClass;
use crate::error::AllocError;
use crate::hot::HeapHot;
use crate::misuse::BadPointer;
use crate::mm::{Attempt, Block};
use crate::refill::Refilled;
use crate::remote::Message;
use crate::watermark::WatermarkLevel;

impl Heap {
    /// An object of `class` while a visitor is in the heap. Owner only.
    #[cold]
    pub(crate) fn alloc_beside(
        &self,
        class: SizeClass,
        size_and_align: (usize, usize),
        from: Attempt,
    ) -> Result<Block, AllocError> {
        self.hurry();
        match self.alloc_elsewhere(class, size_and_align, from) {
            // Before the program is told that there is no memory, what is free here has to serve.
            Err(AllocError::Exhausted { .. }) if from.level == WatermarkLevel::Reserve => {
                self.alloc_after_visit(class, size_and_align.0, from)
            }
            done => done,
        }
    }

    /// An object of `class` from a heap that nobody has. Owner only.
    fn alloc_elsewhere(
        &self,
        class: SizeClass,
        size_and_align: (usize, usize),
        from: Attempt,
    ) -> Result<Block, AllocError> {
        let mm = self.mm();
        loop {
            let block = mm.with_another(self, |other| {
                let block = other.alloc_class(class, size_and_align, from);
                if let Some(bad) = other.take_fault() {
                    self.note_fault(bad);
                }
                block
            });
            // None: a visitor came there, too.
            if let Some(block) = block?? {
                mm.vmstat().note_visited_alloc();
                return Ok(block);
            }
        }
    }

    /// An object of `class` as soon as the visitor has left. Owner only.
    fn alloc_after_visit(
        &self,
        class: SizeClass,
        size: usize,
        from: Attempt,
    ) -> Result<Block, AllocError> {
        let entered = self.enter();
        entered.open_bins();
        if let Refilled::Object(start) = self.fill_bin(entered, class, size, from)? {
            return Ok(Block { start, known_zero: false });
        }
        // SAFETY: the caller owns the heap.
        let object = NonNull::new(unsafe { HeapHot::pop_class(self.hot(), class) });
        let start = object.ok_or(AllocError::Exhausted { node: self.node(), order: 0 })?;
        Ok(Block { start, known_zero: false })
    }

    /// Keeps a freed object, of whatever heap, for the next one inside the gate; false, and nothing
    /// done, when there is no memory for that. Owner only.
    #[cold]
    pub(crate) fn put_aside(&self, object: NonNull<u8>, class: SizeClass) -> bool {
        self.hurry();
        let mm = self.mm();
        // If this thread sleeps from now on, somebody has to come for it.
        mm.doorbell().ring();
        let open = || {
            let place = mm.meta().alloc(mm.machine(), size_of::<Message>())?.cast::<Message>();
            // SAFETY: a fresh block of that size.
            unsafe { Message::open(place, Message::TO_ITSELF) };
            Some(place)
        };
        let is_put = self.inbox.put_aside(object, class, open);
        if is_put {
            mm.vmstat().note_visited_free();
        }
        is_put
    }

    /// Keeps a misuse until [`Heap::take_fault`]. Owner only.
    #[cold]
    pub(crate) fn note_fault(&self, bad: BadPointer) {
        let noted = &self.owner.noted;
        noted.set(noted.get().or(Some(bad)));
    }

    /// The misuse that a slow path came upon, once. Owner only.
    #[inline]
    pub fn take_fault(&self) -> Option<BadPointer> {
        // A look is no use: calls that open their bins end with it.
        self.owner.noted.take().or_else(|| self.try_enter_unnoted()?.fault.take())
    }
}
