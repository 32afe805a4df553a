//! Rings of places in an array, by links that stand beside what is in it.

use core::mem::MaybeUninit;

/// Rings of places. A slot for each value of the index, so that none has to be compared.
#[derive(Debug)]
pub(crate) struct Rings([MaybeUninit<Link>; 1 << u8::BITS]);

/// The neighbours of a place in its ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) older: u8,
    pub(crate) newer: u8,
}

impl Rings {
    /// The link of a place in a ring, or of a ring's end.
    #[inline]
    pub(crate) fn link(&mut self, at: u8) -> &mut Link {
        // SAFETY: written by `close` or `add`.
        unsafe { self.0[usize::from(at)].assume_init_mut() }
    }

    /// Makes a ring of nothing but its end.
    #[inline]
    pub(crate) fn close(&mut self, end: u8) {
        self.0[usize::from(end)].write(Link { older: end, newer: end });
    }

    /// Adds a place as the newest.
    #[inline]
    pub(crate) fn add(&mut self, end: u8, place: u8) {
        let newest = self.link(end).older;
        self.0[usize::from(place)].write(Link { older: newest, newer: end });
        self.link(newest).newer = place;
        self.link(end).older = place;
    }

    /// Takes a place out; whether its ring is empty now.
    #[inline]
    pub(crate) fn remove(&mut self, place: u8) -> bool {
        let Link { older, newer } = *self.link(place);
        self.link(older).newer = newer;
        self.link(newer).older = older;
        older == newer
    }
}
