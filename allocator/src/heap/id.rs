//! The number of a heap, and where page words carry it.

use crate::word::HEAP_SHIFT;

/// Number of a heap, 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct HeapId(u16);

impl HeapId {
    /// The lowest number.
    pub(crate) const FIRST: HeapId = HeapId(1);

    /// None for 0, which means "no heap" in page words.
    pub fn new(id: u16) -> Option<HeapId> {
        (id != 0).then_some(HeapId(id))
    }

    /// The owner that a slab page's word names.
    #[inline]
    pub fn from_word(word: u32) -> Option<HeapId> {
        Self::new((word >> HEAP_SHIFT) as u16)
    }

    /// A word that names it as the owner, and no class.
    pub(crate) fn as_word(self) -> u32 {
        u32::from(self.0) << HEAP_SHIFT
    }

    /// Position in the registry's table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
