//! Objects that are taken for another thread than the one that has the rest of the slab: whole cache lines.

use zonal_numa::PAGE_SIZE;

use super::{BITS, Slab};
use crate::class::SizeClass;

const LINE: usize = 64;

/// Neighbours of `class` that fill whole lines, as few as do: a power of two, of which each begins at a multiple.
pub(crate) fn per_lines(class: SizeClass) -> usize {
    let part_of_line = class.size().trailing_zeros().min(LINE.trailing_zeros());
    LINE >> part_of_line
}

/// The bits of `word` where as many neighbours as `nr`, a power of two, begin and are free.
fn free_rows(word: u64, nr: usize) -> u64 {
    let (mut free, mut step, mut starts) = (word, 1, u64::MAX);
    while step < nr {
        free &= free >> step;
        step *= 2;
        // Every second of those before: 1, 01, 0001.
        starts &= u64::MAX / ((1 << step) - 1);
    }
    free & starts
}

impl Slab {
    /// Takes free objects that fill whole lines and lie in no hole, lowest address last, as many as `out` has room for.
    /// Returns how many; they fill the end of `out`.
    pub(crate) fn take_lines(&mut self, base: *mut u8, out: &mut [*mut u8]) -> usize {
        let size = self.class.size();
        let nr = per_lines(self.class);
        let row = u64::MAX >> (BITS - nr);
        let first = usize::from(self.hint);
        let holes = self.holes;
        let mut slots = out.len();
        for (i, word) in self.words_mut().iter_mut().enumerate().skip(first) {
            let mut rows = free_rows(*word, nr);
            while rows != 0 && slots >= nr {
                let bit = rows.trailing_zeros() as usize;
                rows &= rows - 1;
                let start = (i * BITS + bit) * size;
                let pages = start / PAGE_SIZE..=(start + nr * size - 1) / PAGE_SIZE;
                if holes != 0 && pages.into_iter().any(|page| holes & 1 << page != 0) {
                    continue;
                }
                *word &= !(row << bit);
                for object in i * BITS + bit..i * BITS + bit + nr {
                    slots -= 1;
                    out[slots] = base.wrapping_add(object * size);
                }
            }
            if slots < nr {
                break;
            }
        }
        let nr = out.len() - slots;
        self.nr_free -= nr as u16;
        nr
    }
}
