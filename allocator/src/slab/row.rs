//! Objects that come back in a row: side by side in memory, as a list, a tree or a vector frees them.
//! Their bits are set a word at a time.

use super::{AT_ONCE, BITS};
use crate::class::Slicing;

/// Whether `objects` may begin with a row: the third and the last of so many lie where they would.
#[inline(always)]
pub(super) fn begins(objects: &[*mut u8], slicing: Slicing) -> bool {
    objects.len() >= AT_ONCE && {
        let from_first = |nr: usize| objects[nr].addr().wrapping_sub(objects[0].addr());
        let last = from_first(AT_ONCE - 1);
        let span = (AT_ONCE - 1) * slicing.size();
        (last == span || last == span.wrapping_neg())
            && from_first(2).wrapping_mul(AT_ONCE - 1) == last.wrapping_mul(2)
    }
}

/// Puts back the objects at the front of `objects` that lie side by side, upward or downward, in the slab
/// whose first byte is at `base`. Returns how many: none if there is but one, if one of them was freed twice,
/// or if the first is no object of the slab.
///
/// # Safety
/// `words` is the bitmap of a slab that is cut so.
#[inline(never)]
pub(super) unsafe fn put(
    words: *mut u64,
    slicing: Slicing,
    base: usize,
    objects: &[*mut u8],
) -> usize {
    let [first, second, ..] = objects else { return 0 };
    let Some(index) = slicing.object_at(first.addr().wrapping_sub(base)) else { return 0 };
    let is_up = second > first;
    let (step, room) = if is_up {
        (slicing.size(), slicing.nr_objects() - index)
    } else {
        (slicing.size().wrapping_neg(), index + 1)
    };
    let run = length(&objects[..objects.len().min(room)], step);
    if run < 2 {
        return 0;
    }
    let lowest = if is_up { index } else { index + 1 - run };
    // The bits of the run in each word that it reaches into.
    let pieces = |put: &mut dyn FnMut(&mut u64, u64) -> bool| {
        let (mut from, end) = (lowest, lowest + run);
        while from < end {
            let bit = from % BITS;
            let nr = (BITS - bit).min(end - from);
            // SAFETY: the caller's promise; the run lies within the slab.
            let word = unsafe { &mut *words.add(from / BITS) };
            if !put(word, (u64::MAX >> (BITS - nr)) << bit) {
                return false;
            }
            from += nr;
        }
        true
    };
    if !pieces(&mut |word, mask| *word & mask == 0) {
        return 0;
    }
    pieces(&mut |word, mask| {
        *word |= mask;
        true
    });
    run
}

/// How many of `objects` lie `step` bytes after the one before.
fn length(objects: &[*mut u8], step: usize) -> usize {
    let Some(first) = objects.first() else { return 0 };
    let mut expected = first.addr();
    let mut run = 0;
    // Eight at a time: most runs are long.
    for eight in objects.chunks_exact(8) {
        let mut off = 0;
        for (i, object) in eight.iter().enumerate() {
            off |= object.addr() ^ expected.wrapping_add(step.wrapping_mul(i));
        }
        if off != 0 {
            break;
        }
        expected = expected.wrapping_add(step.wrapping_mul(8));
        run += 8;
    }
    while run < objects.len() && objects[run].addr() == expected {
        expected = expected.wrapping_add(step);
        run += 1;
    }
    run
}
