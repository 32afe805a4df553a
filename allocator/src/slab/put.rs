//! Objects that come back into a slab: alone, or as many as lie in it one after the other.

use super::{BITS, INLINE_WORDS, Slab, row};
use crate::class::Slicing;
use crate::misuse::BadKind;

impl Slab {
    /// Where the bitmap of a slab that is cut so stands.
    #[inline(always)]
    fn bitmap(&mut self, slicing: Slicing) -> *mut u64 {
        // SAFETY: as in `words_mut`.
        unsafe {
            if slicing.nr_objects() > INLINE_WORDS * BITS {
                self.bitmap.external
            } else {
                self.bitmap.inline.as_mut_ptr()
            }
        }
    }

    /// Puts back the object `offset` bytes into this slab.
    ///
    /// # Errors
    /// The misuse that it is; nothing is changed then.
    #[inline(always)]
    pub(crate) fn put_one(&mut self, slicing: Slicing, offset: usize) -> Result<(), BadKind> {
        let index = slicing.object_at(offset).ok_or(BadKind::Interior)?;
        // SAFETY: the bitmap has a bit for every index of an object.
        if !unsafe { set_free(self.bitmap(slicing), index) } {
            return Err(BadKind::DoubleFree);
        }
        self.hint = self.hint.min((index / BITS) as u8);
        self.nr_free += 1;
        Ok(())
    }

    /// Puts back objects from the front of `objects` as long as they lie in this slab, whose first
    /// byte is at `base`. Returns how many it took, and the misuse that stopped it, if one did.
    #[inline(always)]
    pub(crate) fn put(
        &mut self,
        slicing: Slicing,
        base: usize,
        objects: &[*mut u8],
    ) -> (usize, Option<BadKind>) {
        let words = self.bitmap(slicing);
        let mut hint = usize::from(self.hint);
        let mut bad = None;
        let mut nr = 0;
        while nr < objects.len() {
            let rest = &objects[nr..];
            if row::begins(rest, slicing) {
                // SAFETY: the bitmap has a bit for every index of an object.
                let (run, lowest) = unsafe { row::put(words, slicing, base, rest) };
                if run > 0 {
                    hint = hint.min(lowest / BITS);
                    nr += run;
                    continue;
                }
            }
            // No look for rows among these, nor a call, nor a test for the end but at the end: the processor guesses
            // each branch right, and all stays in registers.
            // SAFETY: as above.
            let (put, stop) = unsafe {
                match rest.first_chunk::<{ row::SHORTEST }>() {
                    Some(eight) => put_singly(words, slicing, base, eight, &mut hint),
                    None => put_singly(words, slicing, base, rest, &mut hint),
                }
            };
            nr += put;
            if let Err(kind) = stop {
                bad = kind;
                break;
            }
        }
        self.hint = hint as u8;
        self.nr_free += nr as u16;
        (nr, bad)
    }
}

/// Sets the bits of `objects` as long as they lie in the slab whose first byte is at `base`, and lowers `hint`.
/// Returns how many, and what stopped it: a misuse, or none where the slab ends.
///
/// # Safety
/// `words` is the bitmap of a slab that is cut so.
#[inline(always)]
unsafe fn put_singly(
    words: *mut u64,
    slicing: Slicing,
    base: usize,
    objects: &[*mut u8],
    hint: &mut usize,
) -> (usize, Result<(), Option<BadKind>>) {
    for (nr, object) in objects.iter().enumerate() {
        let offset = object.addr().wrapping_sub(base);
        let Some(index) = slicing.object_at(offset) else {
            let is_inside = offset == slicing.offset_of(offset);
            return (nr, Err(is_inside.then_some(BadKind::Interior)));
        };
        // SAFETY: the bitmap has a bit for every index of an object.
        if !unsafe { set_free(words, index) } {
            return (nr, Err(Some(BadKind::DoubleFree)));
        }
        *hint = (*hint).min(index / BITS);
    }
    (objects.len(), Ok(()))
}

/// Sets the bit of an object; whether it was not free before.
///
/// # Safety
/// `words` is a bitmap that has a bit with that index.
#[inline(always)]
unsafe fn set_free(words: *mut u64, index: usize) -> bool {
    // SAFETY: the caller's promise.
    let place = unsafe { &mut *words.add(index / BITS) };
    let word = *place | 1 << (index % BITS);
    let was_used = word != *place;
    *place = word;
    was_used
}
