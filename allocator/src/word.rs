//! The page word: one `u32` a page that tells what the page is.
//!
//! | kind       | bits 26..32 | bits 10..26 | bits 0..10                              |
//! |------------|-------------|-------------|-----------------------------------------|
//! | nothing    | 0           | 0           | 0                                       |
//! | `Slab`     | 0           | heap id     | class * 16                              |
//! | `Buddy`    | 1           | 0           | order, migratetype << 4, warm << 8      |
//! | `Pcp`      | 2           | number of pages (26 bits)                            ||
//! | `Large`    | 3           | payload of the owner of the kind (26 bits)           ||
//! | `Isolated` | 4           | 0           | order, migratetype << 4                 |
//!
//! Heap ids start at 1, so a slab page is never zero. Only slab pages carry a word on every page;
//! of other blocks and runs only the head has one. **`[W1]` A page that is neither a head nor a
//! slab page has word 0**: that is what makes a word met by chance trustworthy.

use crate::class::{CLASS_LIMIT, SizeClass, Slicing};
use crate::heap::HeapId;
use crate::order::Order;

/// Number of migratetypes.
pub const NR_MIGRATETYPES: usize = 3;

/// What a pageblock is used for, so that short-lived and long-lived runs do not mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Migratetype {
    /// Slabs of small objects.
    Slab = 0,
    /// Runs of pages handed out as one object.
    Large = 1,
    /// A small reserve for requests that can neither wait nor reclaim.
    HighAtomic = 2,
}

impl Migratetype {
    /// All of them.
    pub const ALL: [Migratetype; NR_MIGRATETYPES] =
        [Migratetype::Slab, Migratetype::Large, Migratetype::HighAtomic];

    /// Position in tables.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What a fresh pageblock is used for when a request of this type asks for it: the reserve
    /// is chosen, never grown into.
    pub(crate) const fn for_pageblock(self) -> Migratetype {
        match self {
            Migratetype::HighAtomic => Migratetype::Slab,
            mt => mt,
        }
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u32) -> Migratetype {
        match bits {
            0 => Migratetype::Slab,
            1 => Migratetype::Large,
            _ => Migratetype::HighAtomic,
        }
    }
}

/// What stands in bits 26..32 of a page word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Part of a slab, or nothing at all when the whole word is zero.
    Slab = 0,
    /// Head of a free block.
    Buddy = 1,
    /// Head of a run in a page cache.
    Pcp = 2,
    /// Head of a live large run.
    Large = 3,
    /// Head of a free block taken out for purging.
    Isolated = 4,
}

const KIND_SHIFT: u32 = 26;
/// Bits below the heap's number, for the class.
pub(crate) const HEAP_SHIFT: u32 = 10;
const _: () = assert!(CLASS_LIMIT <= 1 << HEAP_SHIFT);
const PAYLOAD_MASK: u32 = (1 << KIND_SHIFT) - 1;
const MIGRATETYPE_SHIFT: u32 = 4;
const WARM: u32 = 1 << 8;

/// A copy of a page word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct PageWord(u32);

impl PageWord {
    /// Nothing here.
    pub const NOTHING: PageWord = PageWord(0);

    /// From the stored value.
    #[inline]
    pub const fn from_raw(raw: u32) -> PageWord {
        PageWord(raw)
    }

    /// The value to store.
    #[inline]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// A page of a slab of `class` that `owner` has.
    #[inline]
    pub fn slab(owner: HeapId, class: SizeClass) -> PageWord {
        PageWord(owner.tag() as u32 | class.offset())
    }

    /// Head of a run in a page cache.
    #[inline]
    pub const fn pcp(payload: u32) -> PageWord {
        Self::with(Kind::Pcp, payload)
    }

    /// Head of a live large run.
    #[inline]
    pub const fn large(payload: u32) -> PageWord {
        Self::with(Kind::Large, payload)
    }

    #[inline]
    pub(crate) const fn buddy(order: Order, mt: Migratetype, warm: bool) -> PageWord {
        let payload = order.get() as u32 | (mt as u32) << MIGRATETYPE_SHIFT;
        Self::with(Kind::Buddy, if warm { payload | WARM } else { payload })
    }

    #[inline]
    pub(crate) const fn isolated(order: Order, mt: Migratetype) -> PageWord {
        Self::with(Kind::Isolated, order.get() as u32 | (mt as u32) << MIGRATETYPE_SHIFT)
    }

    #[inline]
    const fn with(kind: Kind, payload: u32) -> PageWord {
        debug_assert!(payload <= PAYLOAD_MASK);
        PageWord((kind as u32) << KIND_SHIFT | payload)
    }

    /// The kind; a value that nobody wrote counts as `Slab`, whose heap then does not exist.
    #[inline]
    pub const fn kind(self) -> Kind {
        match self.0 >> KIND_SHIFT {
            1 => Kind::Buddy,
            2 => Kind::Pcp,
            3 => Kind::Large,
            4 => Kind::Isolated,
            _ => Kind::Slab,
        }
    }

    /// Whether the page is neither a head nor part of a slab.
    #[inline]
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Whether the page belongs to a slab.
    #[inline(always)]
    pub(crate) fn is_slab(self) -> bool {
        // One comparison for the kind and for an owner there is.
        (1 << HEAP_SHIFT..1 << KIND_SHIFT).contains(&self.0)
    }

    /// Owner and class, for a page of a slab.
    #[inline]
    pub fn as_slab(self) -> Option<(HeapId, SizeClass)> {
        if !self.is_slab() {
            return None;
        }
        let class = SizeClass::from_offset(self.0 & ((1 << HEAP_SHIFT) - 1))?;
        Some((HeapId::from_word(self.0)?, class))
    }

    /// How it is cut, if this is a page of a slab; of any other page, something.
    #[inline(always)]
    pub(crate) fn slicing(self) -> &'static Slicing {
        Slicing::of_offset(self.0)
    }

    /// Whether a page of a slab has that class offset.
    #[inline(always)]
    pub(crate) fn has_class_offset(self, offset: u32) -> bool {
        self.0 & ((1 << HEAP_SHIFT) - 1) == offset
    }

    /// The 26 bits below the kind.
    #[inline]
    pub const fn payload(self) -> u32 {
        self.0 & PAYLOAD_MASK
    }

    /// Order, migratetype and warmth, for the head of a free block.
    #[inline]
    pub(crate) const fn as_buddy(self) -> Option<(Order, Migratetype, bool)> {
        if self.0 >> KIND_SHIFT != Kind::Buddy as u32 {
            return None;
        }
        Some((self.order(), self.migratetype(), self.0 & WARM != 0))
    }

    /// Order and migratetype, for the head of an isolated block.
    #[inline]
    pub(crate) const fn as_isolated(self) -> Option<(Order, Migratetype)> {
        if self.0 >> KIND_SHIFT != Kind::Isolated as u32 {
            return None;
        }
        Some((self.order(), self.migratetype()))
    }

    const fn order(self) -> Order {
        Order::from_bits(self.0 & 0xf)
    }

    const fn migratetype(self) -> Migratetype {
        Migratetype::from_bits(self.0 >> MIGRATETYPE_SHIFT & 0xf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_slabs_name_an_owner_and_a_class() {
        for owner in [1, 2, 0x1234, u16::MAX].map(|id| HeapId::new(id).unwrap()) {
            for class in SizeClass::all() {
                assert_eq!(PageWord::slab(owner, class).as_slab(), Some((owner, class)));
                // As a hit sees it.
                assert_eq!(
                    u64::from(PageWord::slab(owner, class).raw()) ^ owner.tag(),
                    u64::from(class.offset())
                );
            }
            assert_eq!(PageWord(owner.tag() as u32 | CLASS_LIMIT).as_slab(), None);
        }
        for class in SizeClass::all() {
            assert_eq!(PageWord(class.offset()).as_slab(), None);
        }
        assert_eq!(PageWord::pcp(1 << HEAP_SHIFT).as_slab(), None);
        assert_eq!(PageWord::large(1 << HEAP_SHIFT).as_slab(), None);
    }
}
