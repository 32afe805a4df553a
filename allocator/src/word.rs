//! The page word: one `u32` a page that tells what the page is.
//!
//! | kind       | bits 16..32     | bits 12..16 | bits 8..12     | bits 2..8     | bits 0..2 |
//! |------------|-----------------|-------------|----------------|---------------|-----------|
//! | nothing    | 0               | 0           | 0              | 0             | 0         |
//! | `Slab`     | heap id         | `Group`, at least 0x60      || class         | 0         |
//! | `Buddy`    | payload 10..26  | 1           | payload 6..10  | payload 0..6  | 0         |
//! | `Pcp`      | the same        | 2           |                |               | 0         |
//! | `Large`    | the same        | 3           |                |               | 0         |
//! | `Isolated` | the same        | 4           |                |               | 0         |
//! | `Large`    | slack           | 5           | number of pages               || 0         |
//!
//! The payload of a free block is its order, migratetype << 4, warm << 8; of a run in a page cache, and of a large one,
//! its number of pages. A large block that a thread may keep as it is freed has the bytes behind those that were asked
//! for beside it, so that this takes one load.
//!
//! Heap ids start at 1, so a slab page is never zero. Only slab pages carry a word on every page;
//! of other blocks and runs only the head has one. **`[W1]` A page that is neither a head nor a
//! slab page has word 0**: that is what makes a word met by chance trustworthy.
//!
//! A hit of `free` takes the low byte for the place of a bin, whatever the word is, and compares the low half with
//! what that bin takes. **`[W2]` The low byte of a word is a multiple of 4**, so that there is a bin; and no bin
//! takes what is not a slab's.

use crate::class::{NR_STEPS, STEP_SHIFT, SizeClass, Slicing};
use crate::heap::HeapId;
use crate::order::Order;
use crate::remote::group::Group;

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

/// What stands in bits 12..16 of a page word, but for slabs.
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

const GROUP_SHIFT: u32 = 8;
const KIND_SHIFT: u32 = 12;
/// In the place of a kind: `Large`, with its slack.
const KEEPABLE: u32 = 5;
/// Bits below the heap's number.
pub(crate) const HEAP_SHIFT: u32 = 16;
const _: () = assert!(NR_STEPS << STEP_SHIFT == 1 << GROUP_SHIFT);
const _: () = assert!(KEEPABLE < Group::FIRST >> (KIND_SHIFT - GROUP_SHIFT));
/// Bits of a payload. It has three parts: the lower one has the place of a class, the middle one lies between that
/// and the kind.
const PAYLOAD_BITS: u32 = 26;
const MIDDLE_SHIFT: u32 = GROUP_SHIFT - STEP_SHIFT;
const UPPER_SHIFT: u32 = MIDDLE_SHIFT + (KIND_SHIFT - GROUP_SHIFT);
const LOWER_MASK: u32 = (1 << MIDDLE_SHIFT) - 1;
const MIDDLE_MASK: u32 = (1 << (UPPER_SHIFT - MIDDLE_SHIFT)) - 1;
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

    /// A page of a slab of `class` that `owner` has, and whose objects bins of that group take.
    #[inline]
    pub fn slab(owner: HeapId, group: Group, class: SizeClass) -> PageWord {
        PageWord((owner.index() as u32) << HEAP_SHIFT | u32::from(Self::taken_by(group, class)))
    }

    /// The low half of words of pages whose objects bins of that class and group take.
    #[inline]
    pub(crate) fn taken_by(group: Group, class: SizeClass) -> u16 {
        u16::from(group.byte()) << GROUP_SHIFT | class.step() as u16
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

    /// The same of one that a thread may keep, of fewer than 1,024 pages, whose last `slack` bytes were not asked for.
    #[inline(always)]
    pub(crate) const fn keepable(nr_pages: usize, slack: u16) -> PageWord {
        debug_assert!(nr_pages >> UPPER_SHIFT == 0);
        let pages = (nr_pages as u32) << STEP_SHIFT;
        PageWord((slack as u32) << HEAP_SHIFT | KEEPABLE << KIND_SHIFT | pages)
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
        debug_assert!(payload >> PAYLOAD_BITS == 0);
        let upper = payload >> UPPER_SHIFT << HEAP_SHIFT;
        let middle = payload >> MIDDLE_SHIFT & MIDDLE_MASK;
        let lower = payload & LOWER_MASK;
        PageWord(upper | (kind as u32) << KIND_SHIFT | middle << GROUP_SHIFT | lower << STEP_SHIFT)
    }

    /// The kind; a value that nobody wrote counts as `Slab`, whose heap then does not exist.
    #[inline]
    pub const fn kind(self) -> Kind {
        match self.kind_bits() {
            1 => Kind::Buddy,
            2 => Kind::Pcp,
            3 | KEEPABLE => Kind::Large,
            4 => Kind::Isolated,
            _ => Kind::Slab,
        }
    }

    #[inline]
    const fn kind_bits(self) -> u32 {
        self.0 >> KIND_SHIFT & 0xf
    }

    /// Whether the page is neither a head nor part of a slab.
    #[inline]
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Whether the page belongs to a slab.
    #[inline(always)]
    pub(crate) fn is_slab(self) -> bool {
        // No other word has that there.
        self.0 as u16 >= (Group::FIRST << GROUP_SHIFT) as u16
    }

    /// Whether bins of all threads take objects of the page.
    #[inline(always)]
    pub(crate) fn is_shared(self) -> bool {
        (self.0 >> GROUP_SHIFT) as u8 == Group::SHARED.byte()
    }

    /// Owner and class, for a page of a slab.
    #[inline]
    pub fn as_slab(self) -> Option<(HeapId, SizeClass)> {
        if !self.is_slab() {
            return None;
        }
        let class = SizeClass::from_step(self.0)?;
        Some((HeapId::from_word(self.0)?, class))
    }

    /// How it is cut, if this is a page of a slab; of any other page, something.
    #[inline(always)]
    pub(crate) fn slicing(self) -> &'static Slicing {
        Slicing::of_step(self.0)
    }

    /// Whether this is a page of a slab with that class offset.
    #[inline(always)]
    pub(crate) fn has_class_offset(self, offset: u32) -> bool {
        self.is_slab() && SizeClass::offset_at_step(self.0) == offset
    }

    /// Pages of the live large run that a thread may keep whose head the page is: fewer than 1,024, and no less than
    /// that for anything else.
    #[inline(always)]
    pub(crate) fn keepable_pages(self) -> usize {
        usize::from((self.0 as u16).wrapping_sub((KEEPABLE << KIND_SHIFT) as u16) >> STEP_SHIFT)
    }

    /// The bytes of it that were not asked for.
    #[inline(always)]
    pub(crate) fn slack(self) -> usize {
        (self.0 >> HEAP_SHIFT) as usize
    }

    /// Pages of the live large run whose head the page is.
    #[inline]
    pub(crate) fn large_pages(self) -> usize {
        match self.keepable_pages() {
            nr_pages if nr_pages >> UPPER_SHIFT == 0 => nr_pages,
            _ => self.payload() as usize,
        }
    }

    /// What the kind has to say beside itself: 26 bits.
    #[inline]
    pub const fn payload(self) -> u32 {
        let middle = self.0 >> GROUP_SHIFT & MIDDLE_MASK;
        let lower = self.0 >> STEP_SHIFT & LOWER_MASK;
        self.0 >> HEAP_SHIFT << UPPER_SHIFT | middle << MIDDLE_SHIFT | lower
    }

    /// Order, migratetype and warmth, for the head of a free block.
    #[inline]
    pub(crate) const fn as_buddy(self) -> Option<(Order, Migratetype, bool)> {
        if self.kind_bits() != Kind::Buddy as u32 {
            return None;
        }
        Some((self.order(), self.migratetype(), self.payload() & WARM != 0))
    }

    /// Order and migratetype, for the head of an isolated block.
    #[inline]
    pub(crate) const fn as_isolated(self) -> Option<(Order, Migratetype)> {
        if self.kind_bits() != Kind::Isolated as u32 {
            return None;
        }
        Some((self.order(), self.migratetype()))
    }

    const fn order(self) -> Order {
        Order::from_bits(self.payload() & 0xf)
    }

    const fn migratetype(self) -> Migratetype {
        Migratetype::from_bits(self.payload() >> MIGRATETYPE_SHIFT & 0xf)
    }
}

#[cfg(test)]
mod tests {
    use zonal_numa::NodeId;

    use super::*;
    use crate::class::NR_CLASSES;
    use crate::remote::group::Sharing;

    const MANY_PAGES: usize = 1 << UPPER_SHIFT;

    fn own_group(owner: HeapId) -> Group {
        Group::of(Sharing::NEW, owner, NodeId::ZERO, SizeClass::from_index(0).unwrap())
    }

    #[test]
    fn only_pages_of_slabs_name_an_owner_and_a_class() {
        for owner in [1, 2, 0x1234, u16::MAX].map(|id| HeapId::new(id).unwrap()) {
            for group in [Group::SHARED, own_group(owner)] {
                for class in SizeClass::all() {
                    let word = PageWord::slab(owner, group, class);
                    assert_eq!(word.as_slab(), Some((owner, class)));
                    assert_eq!(word.kind(), Kind::Slab);
                    assert_eq!(word.raw() as u16, PageWord::taken_by(group, class));
                    assert!(word.has_class_offset(class.offset()));
                    assert!(word.keepable_pages() >= MANY_PAGES);
                }
                let word = PageWord::slab(owner, group, SizeClass::from_index(0).unwrap()).raw();
                let no_class = (NR_CLASSES as u32) << STEP_SHIFT;
                assert_eq!(PageWord(word | no_class).as_slab(), None);
            }
        }
    }

    #[test]
    fn no_other_page_is_taken_for_a_slab_nor_has_a_place_between_bins() {
        let payloads = (0..PAYLOAD_BITS).map(|bit| 1 << bit).chain([0, (1 << PAYLOAD_BITS) - 1]);
        for payload in payloads {
            for kind in [Kind::Buddy, Kind::Pcp, Kind::Large, Kind::Isolated] {
                let word = PageWord::with(kind, payload);
                assert_eq!((word.kind(), word.payload()), (kind, payload));
                assert!(word.keepable_pages() >= MANY_PAGES, "{kind:?} {payload:#x}");
                assert!(kind != Kind::Large || word.large_pages() == payload as usize);
                assert!(!word.is_slab() && word.as_slab().is_none() && !word.is_nothing());
                assert_eq!(word.raw() % (1 << STEP_SHIFT), 0, "[W2]");
                assert!(SizeClass::all().all(|class| !word.has_class_offset(class.offset())));
            }
        }
        for (nr_pages, slack) in [(1, 0), (64, 1), (20, 0x5fff), (MANY_PAGES - 1, u16::MAX)] {
            let word = PageWord::keepable(nr_pages, slack);
            assert_eq!((word.kind(), word.keepable_pages()), (Kind::Large, nr_pages));
            assert_eq!((word.large_pages(), word.slack()), (nr_pages, slack.into()));
            assert!(!word.is_slab() && word.as_slab().is_none());
            assert_eq!(word.raw() % (1 << STEP_SHIFT), 0, "[W2]");
        }
        assert_eq!(PageWord::NOTHING.as_slab(), None);
        assert!(PageWord::NOTHING.keepable_pages() >= MANY_PAGES);
        for class in SizeClass::all() {
            assert_eq!(PageWord(class.step()).as_slab(), None);
        }
    }
}
