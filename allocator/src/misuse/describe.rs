//! What is known about an address, for the report of a misuse: without locks and without changes, since
//! the process ends, perhaps with locks of ours held by the very thread that asks.

use core::fmt;
use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use crate::class::SizeClass;
use crate::mm::Mm;
use crate::pfn::Pfn;
use crate::slab::Slab;

/// What stands at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Outside of all sections: a block that was mapped by itself, or nothing of ours.
    Outside,
    /// In an object of a slab.
    Small {
        /// Bytes of the object.
        size: usize,
        /// Bytes from its start.
        offset: usize,
        /// Its last known state.
        state: State,
    },
    /// In a slab, behind its last object.
    Tail,
    /// In a run of pages in use.
    Large {
        /// Bytes of the run.
        size: usize,
        /// Bytes from its start.
        offset: usize,
    },
    /// In pages that are free.
    Free,
}

/// What is known about an object of a slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Free, in its slab.
    Free,
    /// In use, or in a bin.
    Out,
    /// Cleared by a free, and not handed out since.
    Cleared,
}

impl Mm {
    /// What stands at `addr`. Other threads may change it meanwhile.
    pub fn place_of(&self, addr: usize) -> Place {
        let map = &self.pages().map;
        let Some(pfn) = map.pfn_of(addr) else {
            let fenced = self.fence().place_of(addr);
            return fenced.map_or(Place::Outside, |(size, offset, is_free)| {
                let state = if is_free { State::Cleared } else { State::Out };
                Place::Small { size, offset, state }
            });
        };
        if let Some((_, class)) = map.word_at(pfn).as_slab() {
            return self.place_in_slab(addr, pfn, class);
        }
        let Some((head, nr_pages)) = map.live_run_at(pfn) else { return Place::Free };
        Place::Large { size: nr_pages * PAGE_SIZE, offset: addr - map.addr_of(head).addr() }
    }

    fn place_in_slab(&self, addr: usize, pfn: Pfn, class: SizeClass) -> Place {
        let map = &self.pages().map;
        let in_slab = Slab::offset_of(map, pfn, class, addr);
        let (index, offset) = (in_slab / class.size(), in_slab % class.size());
        if index >= self.objects_in(class) {
            return Place::Tail;
        }
        let object = NonNull::new(map.addr_of(pfn).with_addr(addr - offset));
        // SAFETY: the page's word says that there is a slab, whose header is never unmapped.
        let state = if unsafe { Slab::of(map, pfn, class).as_ref() }.has(index) {
            State::Free
        } else if object.is_some_and(|object| self.is_cleared(object)) {
            State::Cleared
        } else {
            State::Out
        };
        Place::Small { size: class.size(), offset, state }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |f: &mut fmt::Formatter<'_>, offset| match offset {
            0 => f.write_str("at "),
            offset => write!(f, "{offset} bytes into "),
        };
        match *self {
            Place::Outside => f.write_str("outside of all sections"),
            Place::Small { size, offset, state } => {
                at(f, offset)?;
                write!(f, "an object of {size} bytes, {state}")
            }
            Place::Tail => f.write_str("behind the last object of a slab"),
            Place::Large { size, offset } => {
                at(f, offset)?;
                write!(f, "a run of {size} bytes, in use")
            }
            Place::Free => f.write_str("in free pages"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Free => "last known as free in its slab",
            State::Out => "last known as in use or in a bin",
            State::Cleared => "last known as freed",
        })
    }
}
