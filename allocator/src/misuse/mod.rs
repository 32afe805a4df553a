//! Misuse: what a wrong pointer turned out to be, and what finds it.
//!
//! [`check`] tries what lies in bins against the bitmaps, [`fence`] has a few small objects apart, [`checked`] has
//! all blocks with a seal, and [`guard`] closes the pages behind them. [`describe`] says what stands at an address.
//! What a hit and a slow path meet anyway they tell themselves.

mod check;
pub(crate) mod checked;
mod describe;
pub(crate) mod fence;
pub(crate) mod guard;

pub use self::describe::Place;

/// A pointer that is no live block of ours, handed to `free` or one of its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPointer {
    /// The address as it was given.
    pub addr: usize,
    /// What is wrong with it.
    pub kind: BadKind,
}

/// The kinds of misuse that the core tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKind {
    /// Not in any memory of ours.
    Foreign,
    /// In memory of ours, but no object starts there.
    Interior,
    /// The object is free already.
    DoubleFree,
    /// In free memory: never handed out, or freed long ago.
    NotAllocated,
    /// The program wrote behind the end of the block (or before the start of the next).
    Overrun,
    /// The program wrote to the block after it had freed it.
    UsedAfterFree,
    /// The program gave a size that the block does not have.
    WrongSize,
    /// The program ran into the page behind the block.
    Guard,
    /// The program followed a pointer in freed memory.
    FromFreed,
}

impl BadKind {
    /// A few words for the message.
    pub fn describe(self) -> &'static str {
        match self {
            BadKind::Foreign => "pointer is not from zonal",
            BadKind::Interior => "pointer into the middle of a block",
            BadKind::DoubleFree => "block is already free (double free)",
            BadKind::NotAllocated => "pointer into free memory (double free?)",
            BadKind::Overrun => "block was written past its end",
            BadKind::WrongSize => "block has another size",
            BadKind::Guard => "the program ran past the end of a block",
            BadKind::FromFreed => "the program followed a pointer out of freed memory",
            BadKind::UsedAfterFree => "block was written to after it was freed",
        }
    }
}

impl BadPointer {
    pub(crate) fn new(addr: usize, kind: BadKind) -> BadPointer {
        BadPointer { addr, kind }
    }
}
