//! What of a slab can be purged: whether it is cold, which of its pages are free from end to end, and
//! which of them are holes already.

use zonal_numa::PAGE_SIZE;

use super::{BITS, Slab};

impl Slab {
    /// Whether no object came or went after `generation`. Stamps wrap after nine minutes, so that
    /// a slab that old may count as young for as long again.
    pub(crate) fn is_cold(&self, generation: u32) -> bool {
        (generation as u16).wrapping_sub(self.stamp).cast_signed() >= 0
    }

    /// The generation in which an object came or went last, `now` being the present one.
    pub(crate) fn used_in(&self, now: u32) -> u32 {
        now.wrapping_sub_signed(i32::from((now as u16).wrapping_sub(self.stamp).cast_signed()))
    }

    /// Enters pages, as a mask, that were purged; `holing` says how often the slab's section
    /// had been holed before that. Holes of an earlier time are among them, or among those to come.
    /// Returns how many are no holes by the accounts yet.
    pub(crate) fn add_holes(&mut self, mask: u16, holing: u8) -> usize {
        let new = mask & !self.holes;
        self.holes |= mask;
        self.holing = holing;
        new.count_ones() as usize
    }

    /// These pages, as a mask, stay. Returns how many were holes by the accounts.
    pub(crate) fn remove_holes(&mut self, mask: u16) -> usize {
        let known = mask & self.holes;
        self.holes &= !mask;
        known.count_ones() as usize
    }

    /// How often the section had been holed when these became holes.
    pub(crate) fn holing(&self) -> u8 {
        self.holing
    }

    /// Pages of the slab that no live object touches and that may still be resident, as a mask.
    pub(crate) fn purgeable_pages(&self) -> u16 {
        let mut mask = 0;
        for page in 0..Slab::pages(self.class) {
            if self.holes & (1 << page) == 0 && self.is_page_free(page) {
                mask |= 1 << page;
            }
        }
        mask
    }

    fn is_page_free(&self, page: usize) -> bool {
        let size = self.class.size();
        let first = page * PAGE_SIZE / size;
        let end = ((page + 1) * PAGE_SIZE).div_ceil(size).min(self.class.objects());
        first < end && self.are_free(first, end)
    }

    /// Whether all objects of `[first, end)` are free and in the slab.
    fn are_free(&self, first: usize, end: usize) -> bool {
        let words = self.words();
        let mut at = first;
        while at < end {
            let stop = end.min((at | (BITS - 1)) + 1);
            let mask = (u64::MAX >> (BITS - (stop - at))) << (at % BITS);
            if words[at / BITS] & mask != mask {
                return false;
            }
            at = stop;
        }
        true
    }
}
