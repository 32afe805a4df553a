//! Page frame numbers.

use core::fmt;

use crate::order::{Order, PAGEBLOCK_ORDER};

/// A page of the window, counted from its base.
///
/// 32 bits name every page of a 16 TiB window and make the links of the free lists small.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(u32);

impl Pfn {
    /// No page: the end of a list. The window is cut short so that no page has this number.
    pub const NONE: Pfn = Pfn(u32::MAX);

    /// The page with that number.
    #[inline]
    pub const fn new(number: u32) -> Pfn {
        Pfn(number)
    }

    /// The plain number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Position in the linear arrays.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether it names a page at all.
    #[inline]
    pub const fn is_some(self) -> bool {
        self.0 != Pfn::NONE.0
    }

    /// The page `nr_pages` further on.
    #[inline]
    pub const fn add(self, nr_pages: usize) -> Pfn {
        Pfn(self.0 + nr_pages as u32)
    }

    /// Index of the pageblock that holds it.
    #[inline]
    pub const fn pageblock(self) -> usize {
        (self.0 >> PAGEBLOCK_ORDER) as usize
    }

    /// Position inside its pageblock.
    #[inline]
    pub const fn in_pageblock(self) -> usize {
        (self.0 & ((1 << PAGEBLOCK_ORDER) - 1)) as usize
    }

    /// Head of the other half of the block of the next order.
    #[inline]
    pub(crate) const fn buddy(self, order: Order) -> Pfn {
        Pfn(self.0 ^ (1 << order.get()))
    }

    /// Whether a block of that order can start here.
    #[inline]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0 & ((1 << order.get()) - 1) == 0
    }

    /// The first page of the block of that order that holds this one.
    #[inline]
    pub(crate) const fn block(self, order: Order) -> Pfn {
        Pfn(self.0 >> order.get() << order.get())
    }

    /// The largest naturally aligned block that starts here and has at most `nr_pages` pages.
    #[inline]
    pub(crate) fn largest_block(self, nr_pages: usize) -> Order {
        let by_align = self.0.trailing_zeros();
        let by_size = nr_pages.ilog2();
        Order::from_bits(by_align.min(by_size).min(u32::from(Order::MAX.get())))
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_some() { write!(f, "pfn:{:#x}", self.0) } else { f.write_str("pfn:none") }
    }
}
