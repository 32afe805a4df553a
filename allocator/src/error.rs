//! What can go wrong, as values.

use zonal_numa::NodeId;

use crate::pfn::Pfn;

/// Why no memory came. Nothing was changed: the whole operation can be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocError {
    /// The node has no block of that order, cannot grow, or has no headroom for it.
    Exhausted {
        /// The node asked.
        node: NodeId,
        /// Order of the block that would have helped.
        order: u8,
    },
    /// No amount of reclaim makes room for that size.
    TooLarge,
    /// The alignment is no power of two, or beyond what is offered.
    BadAlign,
}

/// A counter or a link that contradicts the metadata it stands for: found by `validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which rule is broken.
    pub what: &'static str,
    /// Where: the page, or one that there is not when the rule is about a whole zone.
    pub pfn: Pfn,
    /// What the metadata says.
    pub expected: usize,
    /// What the counter says.
    pub found: usize,
}

impl Mismatch {
    /// `Ok` when both figures agree.
    ///
    /// # Errors
    /// Itself, with both of them.
    pub fn check(
        what: &'static str,
        pfn: Pfn,
        expected: usize,
        found: usize,
    ) -> Result<(), Mismatch> {
        if expected == found { Ok(()) } else { Err(Mismatch { what, pfn, expected, found }) }
    }
}
