//! Slabs: page runs cut into objects of one class, with their free objects in a bitmap.
//!
//! The header stands out of line, in the cold words of the slab's first eight pages: 64 bytes, one
//! cache line, found from any address in the slab by masking its page number. A bit is set for
//! each object that is free *and in the slab*; objects in bins (whoever's), messages or user hands have their
//! bit clear. So refilling, spilling and looking for holes read no object, there is no link to
//! encode or corrupt, and a bit already set when an object comes back is a double free.
//!
//! # Synchronisation
//!
//! Every field belongs to whoever is inside the gate of the heap that the header names.

mod holes;
mod lines;
mod list;
mod put;
mod row;
#[cfg(test)]
mod tests;

use core::ptr::{self, NonNull};

use zonal_numa::Machine;

use crate::class::SizeClass;
use crate::meta::Meta;
use crate::pagemap::PageMap;
use crate::pfn::Pfn;

pub(crate) use self::lines::per_lines;
pub(crate) use self::list::SlabList;

const INLINE_WORDS: usize = 4;
const BITS: usize = u64::BITS as usize;
/// Objects that come back of which it is looked at once how they lie. Trees leave pairs and threes side by side, for
/// which a look of their own costs more than it saves.
pub(crate) const AT_ONCE: usize = 8;

/// The header of a slab.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slab {
    pub(crate) next: *mut Slab,
    pub(crate) prev: *mut Slab,
    head: Pfn,
    class: SizeClass,
    /// On the partial list of its class.
    pub(crate) listed: bool,
    /// Objects that are handed out, or in bins and messages.
    nr_used: u16,
    /// No word before this one has a free bit. Where objects come back is not worth a look at each, so that sets it to
    /// 0: who looks for free ones passes over empty words quickly.
    hint: u8,
    /// How often the section had been holed when the holes were made, modulo 256.
    holing: u8,
    /// Pages that were purged and not used since, one bit each.
    pub(crate) holes: u16,
    /// Low bits of the generation in which objects last came or went.
    stamp: u16,
    /// Objects that are handed out: the others lie in a guard page.
    nr_objects: u16,
    bitmap: Bitmap,
}

const _: () = assert!(size_of::<Slab>() == 64);

/// Four words here, or a pointer to more in metadata.
#[repr(C)]
union Bitmap {
    inline: [u64; INLINE_WORDS],
    external: *mut u64,
}

impl core::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Bitmap")
    }
}

fn bitmap_words(class: SizeClass) -> usize {
    class.objects().div_ceil(BITS)
}

impl Slab {
    /// Where the header of the slab around `pfn` stands.
    #[inline]
    pub(crate) fn of(map: &PageMap, pfn: Pfn, class: SizeClass) -> NonNull<Slab> {
        let head = pfn.block(class.slab_order());
        map.cold_area(head).cast()
    }

    /// How many bytes into its slab of `class` an address is that lies in the page `pfn`.
    #[inline]
    pub(crate) fn offset_of(map: &PageMap, pfn: Pfn, class: SizeClass, addr: usize) -> usize {
        addr - map.addr_of(pfn.block(class.slab_order())).addr()
    }

    /// Makes the header for a run of `class.slab_order()` that starts at `head`, of which the first
    /// `nr_objects` objects are handed out, all free.
    /// None when there is no metadata for the bitmap; nothing is changed then.
    ///
    /// # Safety
    /// The run belongs to the caller.
    pub(crate) unsafe fn create(
        map: &PageMap,
        meta: &Meta,
        machine: &Machine,
        (head, class): (Pfn, SizeClass),
        nr_objects: usize,
    ) -> Option<NonNull<Slab>> {
        let words = bitmap_words(class);
        let mut bitmap = Bitmap { inline: [0; INLINE_WORDS] };
        if words > INLINE_WORDS {
            bitmap.external = meta.alloc(machine, words * size_of::<u64>())?.as_ptr().cast();
        }
        let slab = map.cold_area(head).cast::<Slab>();
        // SAFETY: the cold words of an owned run of at least eight pages are the owner's, 64 bytes
        // aligned to 64, because the run is aligned to eight pages.
        unsafe {
            slab.write(Slab {
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
                head,
                class,
                listed: false,
                nr_used: 0,
                hint: 0,
                holing: 0,
                holes: 0,
                stamp: 0,
                nr_objects: nr_objects as u16,
                bitmap,
            });
            let slab = &mut *slab.as_ptr();
            for (i, word) in slab.words_mut().iter_mut().enumerate() {
                let bits = nr_objects.saturating_sub(i * BITS).min(BITS);
                *word = u64::MAX.checked_shr((BITS - bits) as u32).unwrap_or(0);
            }
        }
        Some(slab)
    }

    /// Gives the bitmap back; the run is the caller's again.
    pub(crate) fn destroy(&mut self, meta: &Meta) {
        let words = bitmap_words(self.class);
        if words > INLINE_WORDS {
            // SAFETY: `create` made the external bitmap of this size for this slab alone.
            unsafe {
                if let Some(block) = NonNull::new(self.bitmap.external.cast::<u8>()) {
                    meta.free(block, words * size_of::<u64>());
                }
            }
        }
        self.bitmap = Bitmap { inline: [0; INLINE_WORDS] };
    }

    /// Pages of a slab of `class`.
    pub(crate) fn pages(class: SizeClass) -> usize {
        class.slab_order().nr_pages()
    }

    pub(crate) fn head(&self) -> Pfn {
        self.head
    }

    pub(crate) fn class(&self) -> SizeClass {
        self.class
    }

    pub(crate) fn nr_free(&self) -> usize {
        usize::from(self.nr_objects - self.nr_used)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nr_used == 0
    }

    /// Whether the lists have to know that objects came back: the slab was full before, or is empty now.
    #[inline(always)]
    pub(crate) fn is_to_list(&self) -> bool {
        !self.listed || self.is_empty()
    }

    fn words_mut(&mut self) -> &mut [u64] {
        let words = bitmap_words(self.class);
        // SAFETY: the class decides which arm is in use, for the whole life of the slab; the
        // external bitmap has that many words.
        unsafe {
            if words > INLINE_WORDS {
                core::slice::from_raw_parts_mut(self.bitmap.external, words)
            } else {
                &mut self.bitmap.inline[..words]
            }
        }
    }

    /// The words of the bitmap.
    pub(crate) fn words(&self) -> &[u64] {
        let words = bitmap_words(self.class);
        // SAFETY: as in `words_mut`.
        unsafe {
            if words > INLINE_WORDS {
                core::slice::from_raw_parts(self.bitmap.external, words)
            } else {
                &self.bitmap.inline[..words]
            }
        }
    }

    /// Takes up to `out.len()` free objects, lowest address last, so that a stack hands out
    /// ascending addresses and untouched pages are touched one after the other.
    /// Returns how many; they fill the front of `out`.
    pub(crate) fn take(&mut self, base: *mut u8, out: &mut [*mut u8]) -> usize {
        let nr = out.len().min(self.nr_free());
        let size = self.class.size();
        let mut w = usize::from(self.hint);
        let words = self.words_mut();
        let mut out = &mut out[..nr];
        while !out.is_empty() {
            let first = base.wrapping_add(w * BITS * size);
            if words[w] == u64::MAX && out.len() >= BITS {
                // All of a word, as in a new slab.
                let (rest, last) = out.split_at_mut(out.len() - BITS);
                let mut object = first;
                for slot in last.iter_mut().rev() {
                    *slot = object;
                    object = object.wrapping_add(size);
                }
                words[w] = 0;
                out = rest;
            } else {
                let mut bits = words[w];
                let mut slots = out.iter_mut().rev();
                while bits != 0
                    && let Some(slot) = slots.next()
                {
                    *slot = first.wrapping_add(bits.trailing_zeros() as usize * size);
                    bits &= bits - 1;
                }
                words[w] = bits;
                let left = slots.len();
                out = &mut out[..left];
            }
            w += usize::from(!out.is_empty());
        }
        self.hint = w as u8;
        self.nr_used += nr as u16;
        nr
    }

    /// Whether the object with that index is free and in the slab.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.words()[index / BITS] & (1 << (index % BITS)) != 0
    }

    /// Notes that objects come or go now.
    #[inline]
    pub(crate) fn touch(&mut self, generation: u32) {
        self.stamp = generation as u16;
    }
}
