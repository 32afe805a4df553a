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

/// The bits of `word` where as many neighbours as `nr`, a power of two of 8 at most, begin and are free.
fn free_rows(word: u64, nr: usize) -> u64 {
    let mut free = word;
    for step in [1, 2, 4] {
        if step < nr {
            free &= free >> step;
        }
    }
    let row = u64::MAX >> (BITS - nr);
    // One bit in so many.
    free & (u64::MAX / row)
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
                // A row is shorter than a page.
                let [first, last] = [start, start + nr * size - 1].map(|at| at / PAGE_SIZE);
                if holes & (1 << first | 1 << last) != 0 {
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
        self.nr_used += nr as u16;
        nr
    }
}
