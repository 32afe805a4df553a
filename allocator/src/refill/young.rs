//! The first misses of a class in a heap, where there are many threads: served from slabs that all of them share.
//!
//! A thread that wants a few objects of each of many classes would touch a page, and make a slab, for each. So
//! it gets its first ones from the commons of its node ([`crate::commons`]), whole cache lines at a time, so
//! that those of several threads lie in one page and none in one line. If no slab there has any, it
//! makes one for the commons. What it goes on wanting it takes from slabs of its own, as any heap.
//!
//! To the commons such an object is one that is in use; to the thread it is another heap's of its group
//! ([`crate::remote::group`]): its bin takes it whenever it is freed, and from there it goes home in a message. So this
//! is for what bins share, and else nothing is young. That no line is shared holds as they are handed out first:
//! what bins hand on, they share as ever, and who goes on to want more may adopt the very slab.
//!
//! As with slabs that change hands, whoever takes something holds the lock of the pool and is inside the gates
//! of both heaps, and nobody waits for that: where one of them is busy, the thread makes its own slab. A new one is
//! ready before the lock is taken, but for its place on the list and the words of its pages. Commons are made once,
//! as a thread begins.
//!
//! A heap that another thread takes over stays as it is: what was young there is young no more.

use core::ptr::{self, NonNull};

use super::objects::random;
use crate::class::SizeClass;
use crate::heap::{Heap, Inner};
use crate::mm::Attempt;
use crate::slab::{Slab, per_lines};

/// Threads from which on they share: with less, what it saves is not worth the further heap.
pub(crate) const MIN_THREADS: usize = 4;
/// Misses of a class that are served so.
pub(super) const MISSES: u8 = 2;
/// What each of them takes, in bytes, if that are whole lines.
const MISS_BYTES: usize = 256;
/// Of larger objects two or three fill a page, which is less to share.
const MAX_SIZE: usize = 1 << 10;
/// Slots of the first array of such a bin, slot 0 included.
pub(super) const SLOTS: usize = 8;
/// Slabs of the commons that a miss looks at.
const LOOKS: usize = 8;
/// Messages of the commons that it opens: it holds the lock of the pool meanwhile.
const MOST_OPENED: usize = 2;

impl Inner {
    /// Whether objects of `class` shall come from the commons.
    pub(super) fn is_young(&self, heap: &Heap, class: SizeClass) -> bool {
        self.classes[class.index()].young_misses < MISSES
            && class.size() <= MAX_SIZE
            && heap.shares_with_threads(class)
            && heap.mm().pages().nr_threads() >= MIN_THREADS
    }

    /// Fills the bin of `class`, which is empty, with what a few misses take from the commons; whether there is
    /// something in it now.
    pub(super) fn take_young(&mut self, heap: &Heap, class: SizeClass, from: Attempt) -> bool {
        if from.node != heap.node() || !self.is_young(heap, class) {
            return false;
        }
        let mut objects = [ptr::null_mut(); SLOTS - 1];
        let rows = (MISS_BYTES / class.size() / per_lines(class)).max(1);
        let most = (rows * per_lines(class)).min(SLOTS - 1);
        // Also a miss in vain: who finds the commons busy does not ask for ever.
        self.classes[class.index()].young_misses += 1;
        let nr = self.lines_for(heap, class, from, &mut objects[SLOTS - 1 - most..]);
        let bin = heap.bin(class);
        // SAFETY: the bin is empty, and no array has fewer than `SLOTS` slots.
        unsafe {
            (*bin).top.copy_from_nonoverlapping(objects.as_ptr().add(SLOTS - 1 - nr), nr);
            (*bin).top = (*bin).top.add(nr);
        }
        nr != 0
    }

    /// Objects of the commons, whose slabs have some or get one more.
    #[inline(never)]
    fn lines_for(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
        out: &mut [*mut u8],
    ) -> usize {
        match ask_for_lines(heap, class, out, &mut None) {
            Some(0) => (),
            found_or_busy => return found_or_busy.unwrap_or(0),
        }
        let run = self.slab_run(heap, class, from).ok();
        let mut made = run.and_then(|run| self.make_slab(heap, class, run));
        if made.is_none() {
            return 0;
        }
        // Others may have made one meanwhile.
        let nr = ask_for_lines(heap, class, out, &mut made).unwrap_or(0);
        match made {
            Some(slab) => self.unmake_slab(heap, slab),
            None => heap.mm().note_taken(heap, from.node, class.slab_order().nr_pages()),
        }
        heap.sync_hot();
        nr
    }

    /// Whole lines of the first listed slab that has some.
    #[inline(never)]
    fn lines_of_listed(&mut self, heap: &Heap, class: SizeClass, out: &mut [*mut u8]) -> usize {
        let pages = heap.mm().pages();
        let mut next = self.classes[class.index()].partial.head;
        for _ in 0..LOOKS {
            // SAFETY: list members are live, and we are inside the gate.
            let Some(slab) = (unsafe { next.as_mut() }) else { break };
            next = slab.next;
            // Holes stay: to fill them may take long, for who holds the pool's lock.
            let was_empty = slab.is_empty();
            let nr = slab.take_lines(pages.map.addr_of(slab.head()), out);
            if nr != 0 {
                slab.touch(pages.generation());
                self.note_taken(slab, was_empty);
                if heap.mm().is_shuffling() {
                    // Short code for few objects.
                    let first = out.len() - nr;
                    out.swap(first, first + random(&mut self.seed, nr));
                }
                return nr;
            }
        }
        0
    }
}

/// Objects of slabs of the commons, to which the one that was `made` goes if there are none; how many, or none where
/// there are no commons or somebody is at work there.
#[inline(never)]
fn ask_for_lines(
    heap: &Heap,
    class: SizeClass,
    out: &mut [*mut u8],
    made: &mut Option<NonNull<Slab>>,
) -> Option<usize> {
    let registry = &heap.mm().registry;
    let mut found = None;
    registry.ask_commons(heap.node(), class, |commons| {
        let mut theirs = commons.try_enter_unnoted()?;
        let mut nr = theirs.lines_of_listed(commons, class, out);
        if nr == 0 {
            theirs.collect_some(commons, MOST_OPENED);
            nr = theirs.lines_of_listed(commons, class, out);
        }
        if nr == 0
            && let Some(slab) = made.take()
        {
            theirs.list_slab(commons, slab.as_ptr());
            // kswapd should come for what nobody takes of it.
            commons.note_use();
            registry.note_common(heap.node(), 1 << class.index());
            nr = theirs.lines_of_listed(commons, class, out);
        }
        found = Some(nr);
        // Others may find what has no whole lines.
        (nr != 0).then_some(true)
    });
    found
}
