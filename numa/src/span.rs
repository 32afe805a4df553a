//! Ranges of address space.

use core::fmt;

/// A range of address space that its holder rules: whole OS pages.
///
/// The calls that take one change the mapping under it without further proof,
/// so making one from bare numbers is the unsafe step; parts of a span are
/// free to take.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    addr: usize,
    len: usize,
}

impl Span {
    /// The empty span.
    pub const EMPTY: Span = Span { addr: 0, len: 0 };

    /// The `len` bytes from `addr`.
    ///
    /// # Safety
    /// The holder must be free to unmap, protect and empty this range: nothing
    /// that others use may lie in it. `addr + len` must not overflow.
    #[expect(unsafe_code, reason = "the range is the caller's claim")]
    pub const unsafe fn new(addr: usize, len: usize) -> Span {
        Span { addr, len }
    }

    /// For the mapping calls, which know the range from the kernel.
    pub(crate) const fn mapped(addr: usize, len: usize) -> Span {
        Span { addr, len }
    }

    /// The first address.
    pub const fn addr(self) -> usize {
        self.addr
    }

    /// The size in bytes.
    pub const fn len(self) -> usize {
        self.len
    }

    /// The first address after the span.
    pub const fn end(self) -> usize {
        self.addr + self.len
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether the address lies in the span.
    pub const fn contains(self, addr: usize) -> bool {
        addr.wrapping_sub(self.addr) < self.len
    }

    /// The first `at` bytes and the rest. `at` beyond the end gives an empty rest.
    #[must_use]
    pub const fn split_at(self, at: usize) -> (Span, Span) {
        let at = if at < self.len { at } else { self.len };
        (Span { addr: self.addr, len: at }, Span { addr: self.addr + at, len: self.len - at })
    }

    /// `len` bytes from `offset` on, if the span reaches that far.
    #[must_use]
    pub const fn part(self, offset: usize, len: usize) -> Option<Span> {
        if offset <= self.len && len <= self.len - offset {
            Some(Span { addr: self.addr + offset, len })
        } else {
            None
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({:#x}+{:#x})", self.addr, self.len)
    }
}
