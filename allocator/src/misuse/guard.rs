//! Guard pages of checked blocks: the last page of each large block and of each slab, closed to all.
//!
//! A program that runs past the end of a large block faults at once. One that runs past a small
//! object breaks the seals of its neighbours and faults at the end of the slab, so that no overflow
//! in a row leaves the slab, upward or (into the guard of what lies before) downward.
//!
//! A guard cuts a range of pages of the kernel's into three, and a process may have 65,530 ranges
//! (`vm.max_map_count`), in which its libraries, files and threads must find room, too. So no more
//! than [`MAX_GUARDS`] pages are closed; what comes beyond goes without, its last page unused.

use zonal_numa::{PAGE_SHIFT, PAGE_SIZE, Span};

use crate::class::SizeClass;
use crate::misuse::Place;
use crate::mm::Mm;
use crate::pfn::Pfn;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// How many pages are closed at most: of the kernel's ranges they take three in eight.
const MAX_GUARDS: u32 = 12 << 10;

/// The live blocks and slabs that end in a guard page, or would if there were not so many.
#[derive(Debug)]
pub(crate) struct Guards {
    nr: AtomicU32,
}

impl Guards {
    pub(crate) fn new() -> Guards {
        Guards { nr: AtomicU32::new(0) }
    }
}

impl Mm {
    /// Bytes at the end of a checked large block that are not to be touched.
    pub(crate) fn guard_bytes(&self) -> usize {
        self.machine().page_size()
    }

    /// Whether slabs end in guard pages. A page of the system can only be closed where it is one of ours.
    fn has_guards(&self) -> bool {
        self.is_checked() && self.guard_bytes() == PAGE_SIZE
    }

    /// Objects of a slab that are handed out: those that lie before its guard page.
    pub(crate) fn objects_in(&self, class: SizeClass) -> usize {
        if !self.has_guards() {
            return class.objects();
        }
        let nr_pages = class.slab_order().nr_pages();
        class.objects().min((nr_pages - 1) * PAGE_SIZE / class.size())
    }

    /// [`SizeClass::object_at`], of those objects.
    pub(crate) fn object_at(&self, class: SizeClass, offset: usize) -> Option<usize> {
        class.object_at(offset).filter(|&index| index < self.objects_in(class))
    }

    /// Closes the guard page at `addr`, the last one of a block or slab of the caller's.
    pub(crate) fn close_guard(&self, addr: usize) {
        // Relaxed, as below: a count that stands alone. Never more are closed than it says.
        if self.has_guards() && self.guards().nr.fetch_add(1, Relaxed) < MAX_GUARDS {
            // If the system has no more ranges of pages, the block goes without.
            let _ = self.machine().protect_none(guard_span(addr));
        }
    }

    /// Opens it again, whether it was closed or not. False if the system did not: the pages are not
    /// to be used again.
    pub(crate) fn open_guard(&self, addr: usize) -> bool {
        if self.has_guards() {
            if self.machine().commit(guard_span(addr)).is_err() {
                return false;
            }
            self.guards().nr.fetch_sub(1, Relaxed);
        }
        true
    }

    /// Where the guard page of the slab at `head` is.
    pub(crate) fn slab_guard(&self, head: Pfn, class: SizeClass) -> usize {
        let nr_pages = class.slab_order().nr_pages();
        self.pages().map.addr_of(head.add(nr_pages - 1)).addr()
    }

    /// Whether a guard page lies at `addr`: for a handler of the fault that somebody had there.
    /// Without changes, and without waiting for a lock that the thread may hold.
    pub fn is_guard(&self, addr: usize) -> bool {
        if !self.has_guards() {
            return false;
        }
        let page = addr >> PAGE_SHIFT << PAGE_SHIFT;
        match self.place_of(addr) {
            Place::Large { size, offset } => offset + PAGE_SIZE >= size,
            Place::Tail => {
                let map = &self.pages().map;
                let word = map.pfn_of(addr).map(|pfn| (pfn, map.word_at(pfn)));
                word.and_then(|(pfn, word)| {
                    let (_, class) = word.as_slab()?;
                    Some(self.slab_guard(pfn.block(class.slab_order()), class))
                }) == Some(page)
            }
            Place::Outside => self.is_guard_of_huge(page),
            Place::Small { .. } | Place::Free => false,
        }
    }

    fn is_guard_of_huge(&self, page: usize) -> bool {
        let mut found = false;
        if !self.huge().is_locked() {
            self.huge().for_each(|span, _, is_live| {
                found |= is_live && page + PAGE_SIZE == span.end();
            });
        }
        found
    }

    /// Whether a program that went to `addr` took the way there out of a freed block: see
    /// `checked/`.
    pub fn is_from_freed(&self, addr: usize) -> bool {
        const REACH: u64 = 64 << 10;
        self.is_checked() && (addr as u64).wrapping_sub(self.key()).wrapping_add(REACH) < 2 * REACH
    }
}

fn guard_span(addr: usize) -> Span {
    // SAFETY: the last page of a block or slab that is the caller's.
    unsafe { Span::new(addr, PAGE_SIZE) }
}
