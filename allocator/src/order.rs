//! Block sizes of the buddy core.

use core::fmt;

use zonal_numa::PAGE_SIZE;

/// Pages in a pageblock, one huge page of 2 MiB.
pub const PAGEBLOCK_PAGES: usize = 1 << PAGEBLOCK_ORDER;
/// The same in bytes.
pub(crate) const PAGEBLOCK_BYTES: usize = PAGEBLOCK_PAGES * PAGE_SIZE;
/// Order of a pageblock.
pub const PAGEBLOCK_ORDER: u8 = 9;
/// Number of orders, 0 to [`Order::MAX`].
pub const NR_ORDERS: usize = 11;

/// A block of `2^order` pages, aligned to its size; at most [`Order::MAX`] by construction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Order(u8);

impl Order {
    /// One page.
    pub const ZERO: Order = Order(0);
    /// One pageblock.
    pub const PAGEBLOCK: Order = Order(PAGEBLOCK_ORDER);
    /// Two pageblocks, the largest block.
    pub const MAX: Order = Order(NR_ORDERS as u8 - 1);

    /// That order, if there is such a block.
    #[inline]
    pub const fn new(order: u8) -> Option<Order> {
        if order <= Order::MAX.0 { Some(Order(order)) } else { None }
    }

    /// The smallest order whose block holds `nr_pages` pages.
    #[inline]
    pub const fn holding(nr_pages: usize) -> Option<Order> {
        if nr_pages == 0 || nr_pages > Order::MAX.nr_pages() {
            return None;
        }
        Some(Order(nr_pages.next_power_of_two().trailing_zeros() as u8))
    }

    /// From a field of a page word, which never holds more than [`Order::MAX`].
    #[inline]
    pub(crate) const fn from_bits(bits: u32) -> Order {
        debug_assert!(bits <= Order::MAX.0 as u32);
        Order(bits as u8)
    }

    /// The plain number.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Position in tables.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Pages in a block.
    #[inline]
    pub const fn nr_pages(self) -> usize {
        1 << self.0
    }

    /// The order below, none under zero.
    #[inline]
    pub(crate) const fn halved(self) -> Option<Order> {
        if self.0 == 0 { None } else { Some(Order(self.0 - 1)) }
    }

    /// The order above, none over the largest.
    #[inline]
    pub(crate) const fn doubled(self) -> Option<Order> {
        Order::new(self.0 + 1)
    }

    /// This order and all larger ones, ascending.
    pub(crate) fn and_up(self) -> impl DoubleEndedIterator<Item = Order> {
        (self.0..=Order::MAX.0).map(Order)
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order:{}", self.0)
    }
}
