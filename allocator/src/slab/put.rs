//! Objects that come back into a slab: alone, or as many as lie in it one after the other.

use super::{AT_ONCE, BITS, INLINE_WORDS, Slab, row};
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
        self.hint = 0;
        self.nr_used -= 1;
        Ok(())
    }

    /// Puts back objects from the front of `objects` as long as they lie in this slab, whose first byte is at `base`,
    /// and are no misuse. Returns how many.
    #[inline(always)]
    pub(crate) fn put(&mut self, slicing: Slicing, base: usize, objects: &[*mut u8]) -> usize {
        let words = self.bitmap(slicing);
        let mut nr = 0;
        while nr < objects.len() {
            let rest = &objects[nr..];
            if row::begins(rest, slicing) {
                // SAFETY: the bitmap has a bit for every index of an object.
                let run = unsafe { row::put(words, slicing, base, rest) };
                if run > 0 {
                    nr += run;
                    continue;
                }
            }
            // No look for rows among these, nor a call, nor a test for the end but at the end: the processor guesses
            // each branch right, and all stays in registers.
            let few = rest.first_chunk::<AT_ONCE>();
            // SAFETY: as above.
            let put = unsafe {
                match few {
                    Some(few) => put_singly(words, slicing, base, few),
                    None => put_singly(words, slicing, base, rest),
                }
            };
            nr += put;
            if put < few.map_or(rest.len(), |few| few.len()) {
                break;
            }
        }
        self.hint = 0;
        self.nr_used -= nr as u16;
        nr
    }
}

/// Sets the bits of `objects` as long as they lie in the slab whose first byte is at `base`, and are no misuse. Returns
/// how many.
///
/// # Safety
/// `words` is the bitmap of a slab that is cut so.
#[inline(always)]
unsafe fn put_singly(words: *mut u64, slicing: Slicing, base: usize, objects: &[*mut u8]) -> usize {
    for (nr, object) in objects.iter().enumerate() {
        let Some(index) = slicing.object_at(object.addr().wrapping_sub(base)) else {
            return nr;
        };
        // SAFETY: the bitmap has a bit for every index of an object.
        if !unsafe { set_free(words, index) } {
            return nr;
        }
    }
    objects.len()
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
