//! The first misses of a class in a heap, where there are many threads: served from slabs that all of them share.
//!
//! A thread that wants a few objects of each of many classes would touch a page, and make a slab, for each. So
//! it gets its first ones from the commons of its node ([`crate::commons`]), whole cache lines at a time, for
//! which the neighbours of several threads lie in one page and none in one line. If no slab there has any, it
//! makes one for the commons. What it goes on wanting it takes from slabs of its own, as any heap.
//!
//! To the commons such an object is one that is in use; to the thread it is another heap's of its group
//! ([`crate::group`]): its bin takes it whenever it is freed, and from there it goes home in a message. So this
//! is for what bins share, and else nothing is young.
//!
//! As with slabs that change hands, whoever takes something holds the lock of the pool and is inside the gates
//! of both heaps, and nobody waits for that: where one of them is busy, the thread makes its own slab. The pages
//! of a new one are there before the lock is taken. Commons are made as a thread begins.

use core::ptr;

use super::objects::random;
use crate::class::SizeClass;
use crate::heap::{Heap, Inner};
use crate::mm::Attempt;
use crate::slab::per_lines;

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
        let out = &mut objects[SLOTS - 1 - most..];
        let nr = match self.lines_of_commons(heap, class, from, out) {
            0 => self.lines_of_new(heap, class, from, out),
            nr => nr,
        };
        let bin = heap.bin(class);
        // SAFETY: the bin is empty, and no array has fewer than `SLOTS` slots.
        unsafe {
            (*bin).top.copy_from_nonoverlapping(objects.as_ptr().add(SLOTS - 1 - nr), nr);
            (*bin).top = (*bin).top.add(nr);
        }
        self.classes[class.index()].young_misses += u8::from(nr != 0);
        nr != 0
    }

    /// Objects of a slab that is there.
    fn lines_of_commons(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
        out: &mut [*mut u8],
    ) -> usize {
        let registry = &heap.mm().registry;
        if !registry.has_common(heap.node(), class) {
            return 0;
        }
        let mut nr = 0;
        registry.ask_commons(heap.node(), class, |commons| {
            // No use of the commons that a keeper should come for.
            let mut theirs = commons.try_look_in()?;
            theirs.collect_some(commons);
            nr = theirs.lines_of_listed(commons, class, from, out);
            // Others may find what has no whole lines.
            (nr != 0).then_some(true)
        });
        nr
    }

    /// Objects of a slab that is made for the commons.
    fn lines_of_new(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
        out: &mut [*mut u8],
    ) -> usize {
        let mm = heap.mm();
        let Ok(run) = self.slab_run(heap, class, from) else { return 0 };
        let (mut run, mut nr) = (Some(run), 0);
        mm.registry.ask_commons(heap.node(), class, |commons| {
            let mut theirs = commons.try_look_in()?;
            run = theirs.cut_run(commons, class, run.take()?).err();
            if run.is_none() {
                mm.registry.note_common(heap.node(), 1 << class.index());
                nr = theirs.lines_of_listed(commons, class, from, out);
            }
            run.is_none().then_some(true)
        });
        heap.sync_hot();
        let order = class.slab_order();
        match run {
            // For a slab of its own.
            Some(run) => self.pcp.free(mm.pages(), heap.node(), order, run),
            None => mm.note_taken(heap, from.node, order.nr_pages()),
        }
        nr
    }

    /// Whole lines of the first listed slab that has some.
    fn lines_of_listed(
        &mut self,
        heap: &Heap,
        class: SizeClass,
        from: Attempt,
        out: &mut [*mut u8],
    ) -> usize {
        let pages = heap.mm().pages();
        let mut next = self.classes[class.index()].partial.head;
        for _ in 0..LOOKS {
            // SAFETY: list members are live, and we are inside the gate.
            let Some(slab) = (unsafe { next.as_mut() }) else { break };
            next = slab.next;
            if !slab.may_be_used(pages, from.level) {
                continue;
            }
            let was_empty = slab.is_empty();
            let nr = slab.take_lines(pages.map.addr_of(slab.head()), out);
            if nr != 0 {
                slab.touch(pages.generation());
                self.note_taken(slab, was_empty);
                if heap.mm().is_shuffling() {
                    let end = out.len();
                    out[end - nr..].rotate_left(random(&mut self.seed, nr));
                }
                return nr;
            }
        }
        0
    }
}
