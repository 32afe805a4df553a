//! Size classes of the slab layer.
//!
//! Steps of 16 bytes up to 256, then eight classes a doubling up to 2 KiB (waste at most 12.5 %),
//! then four a doubling up to 32 KiB, where each further class would cost more in partial slabs
//! than it saves. Every class is a multiple of the largest power of two that any size rounded into
//! it by alignment can have, so the class of a size that was rounded up to a power of two, a page at
//! most, is aligned to that: aligned requests need no path of their own.

use zonal_numa::PAGE_SIZE;

use crate::order::Order;

/// Number of size classes.
pub const NR_CLASSES: usize = 57;
/// The largest size that a class serves, in bytes.
pub const MAX_SMALL: usize = 32 << 10;
/// A class is named by the byte offset of its bin: `index << CLASS_SHIFT`.
pub const CLASS_SHIFT: u32 = 5;
/// In the low byte of a page word it is named by its step, `index << STEP_SHIFT`: so that a processor finds the bin
/// at the step times [`STEP_BYTES`], by one address.
pub(crate) const STEP_SHIFT: u32 = 2;
/// Bytes of a heap's bins for one in a step.
pub(crate) const STEP_BYTES: usize = 1 << (CLASS_SHIFT - STEP_SHIFT);
/// Steps that the byte has room for; those from [`NR_CLASSES`] on are no class's.
pub(crate) const NR_STEPS: usize = 1 << (u8::BITS - STEP_SHIFT);

const fn build_sizes() -> [u16; NR_CLASSES] {
    let mut sizes = [0; NR_CLASSES];
    sizes[0] = 8;
    let mut i = 1;
    let mut size = 16;
    while i < NR_CLASSES {
        sizes[i] = size;
        i += 1;
        size += if size < 256 {
            16
        } else if size < 2048 {
            prev_power_of_two(size) / 8
        } else {
            prev_power_of_two(size) / 4
        };
    }
    sizes
}

const fn prev_power_of_two(n: u16) -> u16 {
    1 << n.ilog2()
}

const SIZES: [u16; NR_CLASSES] = build_sizes();
const _: () = assert!(SIZES[NR_CLASSES - 1] as usize == MAX_SMALL);

const GRANULE: usize = 8;
const NR_GRANULES: usize = MAX_SMALL / GRANULE + 1;

const fn build_offsets() -> [u16; NR_GRANULES] {
    let mut table = [0; NR_GRANULES];
    let mut class = 0;
    let mut g = 0;
    while g < NR_GRANULES {
        while (SIZES[class] as usize) < g * GRANULE {
            class += 1;
        }
        table[g] = (class << CLASS_SHIFT) as u16;
        g += 1;
    }
    table
}

/// Size in granules -> class offset. Sizes up to 256 bytes share one cache line.
static OFFSETS: [u16; NR_GRANULES] = build_offsets();

/// The largest class whose slabs have 32 KiB.
const LAST_OF_SMALL_SLABS: u16 = 10 << 10;

const fn build_slicings() -> [Slicing; NR_STEPS] {
    const NONE: Slicing = Slicing { reciprocal: 0, end: 0, mask: 0, size: 0, nr_objects: 0 };
    let mut table = [NONE; NR_STEPS];
    let mut i = 0;
    while i < NR_CLASSES {
        let size = SIZES[i] as u32;
        let slab_bytes = (PAGE_SIZE * SizeClass(i as u8).slab_order().nr_pages()) as u32;
        table[i] = Slicing {
            reciprocal: (1u64 << 32).div_ceil(size as u64) as u32,
            end: slab_bytes / size * size,
            mask: slab_bytes - 1,
            size: SIZES[i],
            nr_objects: (slab_bytes / size) as u16,
        };
        i += 1;
    }
    table
}

/// A quarter of a cache line each, so that all about a class comes at once. No object starts in a slab of
/// those that are no class.
static SLICINGS: [Slicing; NR_STEPS] = build_slicings();

/// The sizes of requests that a class serves.
#[derive(Clone, Copy)]
#[repr(C)]
struct Served {
    least: usize,
    /// The largest has so many bytes more.
    span: usize,
}

/// Bytes of the table for one in a step.
const SERVED_BYTES: usize = size_of::<Served>() >> STEP_SHIFT;

/// By class.
static SERVED: [Served; NR_CLASSES] = {
    let mut table = [Served { least: 0, span: 0 }; NR_CLASSES];
    let mut least = 0;
    let mut i = 0;
    while i < NR_CLASSES {
        let size = SIZES[i] as usize;
        table[i] = Served { least, span: size - least };
        least = size + 1;
        i += 1;
    }
    table
};

/// One of the [`NR_CLASSES`] size classes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SizeClass(u8);

impl core::fmt::Debug for SizeClass {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "class:{}", self.size())
    }
}

impl SizeClass {
    /// The smallest class for `size` bytes, none above [`MAX_SMALL`].
    #[inline]
    pub fn of(size: usize) -> Option<SizeClass> {
        // SAFETY: not above it.
        let offset = (size <= MAX_SMALL).then(|| unsafe { Self::offset_of(size) })?;
        Some(SizeClass((offset >> CLASS_SHIFT) as u8))
    }

    /// The class offset for `size`.
    ///
    /// # Safety
    /// `size` is at most [`MAX_SMALL`].
    #[inline(always)]
    #[expect(
        clippy::manual_div_ceil,
        reason = "two instructions here, twice as many by `div_ceil`"
    )]
    pub(crate) unsafe fn offset_of(size: usize) -> u32 {
        debug_assert!(size <= MAX_SMALL);
        let granule = (size + (GRANULE - 1)) / GRANULE;
        // SAFETY: the caller's promise, so `granule < NR_GRANULES`.
        u32::from(unsafe { *OFFSETS.get_unchecked(granule) })
    }

    /// Whether a request of `size` bytes gets an object of the class with that step.
    ///
    /// # Safety
    /// `step` is that of a class.
    #[inline(always)]
    pub(crate) unsafe fn step_serves(step: usize, size: usize) -> bool {
        debug_assert!(
            Self::from_step(step as u32).is_some_and(|class| class.step() as usize == step)
        );
        // SAFETY: the caller's promise, and the table has an entry for each class.
        let served = unsafe { &*SERVED.as_ptr().byte_add(step * SERVED_BYTES) };
        size.wrapping_sub(served.least) <= served.span
    }

    /// The class with that index.
    #[inline]
    pub fn from_index(index: usize) -> Option<SizeClass> {
        (index < NR_CLASSES).then_some(SizeClass(index as u8))
    }

    /// The class of a page's word, if that is of a slab.
    #[inline]
    pub(crate) fn from_step(word: u32) -> Option<SizeClass> {
        Self::from_index((word >> STEP_SHIFT) as usize % NR_STEPS)
    }

    /// Byte offset of the bin of that class.
    #[inline]
    pub(crate) fn offset_at_step(word: u32) -> u32 {
        u32::from(word as u8) * STEP_BYTES as u32
    }

    /// All classes, smallest first.
    pub fn all() -> impl Iterator<Item = SizeClass> {
        (0..NR_CLASSES as u8).map(SizeClass)
    }

    /// Position in tables, below [`NR_CLASSES`].
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Byte offset of the class's bin.
    #[inline]
    pub fn offset(self) -> u32 {
        u32::from(self.0) << CLASS_SHIFT
    }

    /// As page words have it.
    #[inline]
    pub(crate) fn step(self) -> u32 {
        u32::from(self.0) << STEP_SHIFT
    }

    /// Bytes in an object.
    #[inline]
    pub fn size(self) -> usize {
        Slicing::of(self).size()
    }

    /// Order of the page run that makes a slab: 32 KiB where at least three objects fill seven
    /// eighths of it, else 64 KiB. A tail that holds no object is never touched.
    #[inline]
    pub const fn slab_order(self) -> Order {
        Order::from_bits(if SIZES[self.0 as usize] <= LAST_OF_SMALL_SLABS { 3 } else { 4 })
    }

    /// Bytes in an object of the class with that index, for tables.
    pub(crate) const fn size_at(index: usize) -> usize {
        SIZES[index] as usize
    }

    /// Objects in a slab.
    #[inline]
    pub fn objects(self) -> usize {
        Slicing::of(self).nr_objects()
    }

    /// Index of the object that starts `offset` bytes into a slab, none if no object starts there.
    #[inline]
    pub fn object_at(self, offset: usize) -> Option<usize> {
        Slicing::of(self).object_at(offset)
    }
}

/// How slabs of a class are cut. None lies across the border of a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(crate) struct Slicing {
    reciprocal: u32,
    /// Bytes in which objects start.
    end: u32,
    /// Of the bytes of a slab, which are a power of two.
    mask: u32,
    size: u16,
    nr_objects: u16,
}

const _: () = assert!(size_of::<Slicing>() == 16);

impl Slicing {
    #[inline]
    pub(crate) fn of(class: SizeClass) -> Slicing {
        SLICINGS[class.index()]
    }

    /// The same for what any word has at the place of a step.
    #[inline(always)]
    pub(crate) fn of_step(word: u32) -> &'static Slicing {
        &SLICINGS[(word >> STEP_SHIFT) as usize % NR_STEPS]
    }

    /// Bytes of an object.
    #[inline]
    pub(crate) fn size(self) -> usize {
        usize::from(self.size)
    }

    /// Where an address lies in its slab; slabs are aligned to their size.
    #[inline]
    pub(crate) fn offset_of(self, addr: usize) -> usize {
        addr & self.mask as usize
    }

    /// Whether two addresses lie in one slab, if one of them lies in a slab that is cut so.
    #[inline(always)]
    pub(crate) fn is_same_slab(self, one: usize, other: usize) -> bool {
        one ^ other <= self.mask as usize
    }

    /// Objects in a slab.
    #[inline]
    pub(crate) fn nr_objects(self) -> usize {
        usize::from(self.nr_objects)
    }

    /// As [`SizeClass::object_at`], for any offset.
    #[inline]
    pub(crate) fn object_at(self, offset: usize) -> Option<usize> {
        // The reciprocal is 2^32/size and less than one more, offsets are below 2^16. So the product
        // is the index in its upper half; the rest is below the reciprocal where an object starts,
        // and not below it elsewhere: see `reciprocal_is_exact` in the tests.
        let product = (offset as u64).wrapping_mul(u64::from(self.reciprocal));
        let is_start = offset < self.end as usize && (product as u32) < self.reciprocal;
        is_start.then_some((product >> u32::BITS) as usize)
    }

    /// Whether an object starts at that address of a slab.
    #[inline(always)]
    pub(crate) fn is_start(self, addr: usize) -> bool {
        self.object_at(self.offset_of(addr)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_served_by_its_class_and_by_no_other() {
        let sizes = (0..=MAX_SMALL + 1).chain([1 << 32, usize::MAX - 1, usize::MAX]);
        for size in sizes {
            // SAFETY: it is that of a class.
            let serves = |c: &SizeClass| unsafe { SizeClass::step_serves(c.step() as usize, size) };
            let served = SizeClass::all().filter(serves);
            assert!(served.eq(SizeClass::of(size)), "{size}");
        }
    }

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for size in 0..=MAX_SMALL {
            let class = SizeClass::of(size).unwrap();
            assert!(class.size() >= size);
            if let Some(smaller) = class.index().checked_sub(1).and_then(SizeClass::from_index) {
                assert!(smaller.size() < size.max(1), "{size} fits {smaller:?}");
            }
        }
        assert_eq!(SizeClass::of(MAX_SMALL + 1), None);
    }

    #[test]
    fn waste_stays_in_bounds() {
        for size in 129..=MAX_SMALL {
            let waste = SizeClass::of(size).unwrap().size() - size;
            let bound = if size <= 2048 { 8 } else { 4 };
            assert!(waste * bound < size + 16 * bound, "{size} wastes {waste}");
        }
    }

    #[test]
    fn rounding_a_size_to_its_alignment_gives_an_aligned_class() {
        for shift in 4..=12 {
            let align = 1usize << shift;
            for size in (1..=MAX_SMALL).step_by(7) {
                let rounded = size.next_multiple_of(align);
                if let Some(class) = SizeClass::of(rounded) {
                    assert_eq!(class.size() % align, 0, "{size} aligned to {align}");
                }
            }
        }
    }

    #[test]
    fn reciprocal_is_exact() {
        for class in SizeClass::all() {
            for offset in 0..PAGE_SIZE * class.slab_order().nr_pages() {
                let expected = (offset % class.size() == 0)
                    .then_some(offset / class.size())
                    .filter(|&i| i < class.objects());
                assert_eq!(class.object_at(offset), expected);
            }
        }
    }

    #[test]
    fn a_slab_is_well_filled() {
        for class in SizeClass::all() {
            let run = PAGE_SIZE * class.slab_order().nr_pages();
            assert!(class.objects() >= 2);
            assert!(class.objects() * class.size() * 4 >= run * 3, "{class:?}");
        }
    }
}
