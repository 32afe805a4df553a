//! Transparent huge pages: which memory gets them, and what becomes of them.
//!
//! Each section of the window is of huge pages or of small ones, which [`Thp`] and the zone's
//! `find` decide. Large blocks get huge ones where blocks turn out to be used whole: [`density`].
//! To purge single pages, a section is *holed*: [`holing`]. What was holed by mistake becomes
//! whole again: [`collapse`].

mod collapse;
mod density;
mod holing;

pub(crate) use density::Density;

/// When new pageblocks come from sections of huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thp {
    /// Once the heap of the node is large and dense.
    #[default]
    Auto,
    /// From the first page.
    Always,
    /// Not at all.
    Never,
}
