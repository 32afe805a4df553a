//! Objects taken from bins and put back: the work of a hit, and no more.

#[cfg(target_arch = "x86_64")]
use core::arch::asm;
use core::ptr;

use zonal_numa::PAGE_SHIFT;

use super::HeapHot;
use crate::bin::Bin;
use crate::class::{MAX_SMALL, STEP_BYTES, SizeClass};
use crate::remote::group::Group;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::PageWord;

/// What became of a push.
#[derive(Clone, Copy, Debug)]
pub enum Push {
    /// The object is in its bin.
    Done,
    /// It missed.
    Missed(Found),
    /// It missed, and the page was not looked at, or has no word that the heap knows of; or the object
    /// is the one that was freed last, a double free.
    Unknown,
}

/// The word of a page as a push saw it.
#[derive(Clone, Copy, Debug)]
pub struct Found(PageWord);

impl Found {
    #[inline(always)]
    pub(crate) fn word(self) -> PageWord {
        self.0
    }
}

impl HeapHot {
    /// Takes an object of at least `size` bytes; null when it misses.
    ///
    /// # Safety
    /// `this` is `EMPTY` or a heap that the calling thread owns and has marked as taken.
    #[inline(always)]
    pub unsafe fn pop(this: *mut HeapHot, size: usize) -> *mut u8 {
        if size > MAX_SMALL {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise; not above that, and the offset is that of a class.
        unsafe { Self::pop_at(this, SizeClass::offset_of(size)) }
    }

    /// Takes an object of `class`; null when it misses.
    ///
    /// # Safety
    /// As for [`HeapHot::pop`].
    #[inline(always)]
    pub unsafe fn pop_class(this: *mut HeapHot, class: SizeClass) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { Self::pop_at(this, class.offset()) }
    }

    #[inline(always)]
    unsafe fn pop_at(this: *mut HeapHot, offset: u32) -> *mut u8 {
        // SAFETY: the caller's promise; `offset` is that of a class, so the bin lies in the heap.
        unsafe { Bin::pop(Self::bin_at(this, offset as usize)) }
    }

    /// Puts back an object of this heap's group; false when it misses: not a slab page of such a heap,
    /// or the bin is full.
    ///
    /// # Safety
    /// As for [`HeapHot::pop`]; `object` is any address, but if it is a live object it must not be used
    /// any more.
    #[inline(always)]
    pub unsafe fn push(this: *mut HeapHot, object: *mut u8) -> bool {
        // SAFETY: the caller's promise.
        unsafe { matches!(Self::try_push(this, object), Push::Done) }
    }

    /// [`HeapHot::push`], which tells what it found.
    ///
    /// # Safety
    /// As for [`HeapHot::push`].
    #[inline(always)]
    pub unsafe fn try_push(this: *mut HeapHot, object: *mut u8) -> Push {
        // SAFETY: the caller's promise.
        unsafe { Self::push_if(this, object, |_| true) }
    }

    /// The same for an object that the program says has `size` bytes; it misses too if `size`
    /// belongs to another class.
    ///
    /// # Safety
    /// As for [`HeapHot::push`].
    #[inline(always)]
    pub unsafe fn push_sized(this: *mut HeapHot, object: *mut u8, size: usize) -> Push {
        // SAFETY: the caller's promise; what is asked about is the step of a class.
        unsafe { Self::push_if(this, object, |step| SizeClass::step_serves(step, size)) }
    }

    #[inline(always)]
    unsafe fn push_if(
        this: *mut HeapHot,
        object: *mut u8,
        is_right: impl FnOnce(usize) -> bool,
    ) -> Push {
        // SAFETY: the caller's promise.
        unsafe {
            match Self::room_for(this, object, is_right) {
                Ok(bin) => {
                    Bin::put(bin, object);
                    Push::Done
                }
                Err(missed) => missed,
            }
        }
    }

    /// The bin of `object`, which has room for it; what a push comes to where there is none.
    ///
    /// # Safety
    /// As for [`HeapHot::push`].
    #[inline(always)]
    unsafe fn room_for(
        this: *mut HeapHot,
        object: *mut u8,
        is_right: impl FnOnce(usize) -> bool,
    ) -> Result<*mut Bin, Push> {
        // SAFETY: the caller's promise. `words` has a word for every page below `covered`. By `[W2]` its low
        // byte is the step of a bin; where that takes what the low half says, of a class.
        unsafe {
            let offset = object.addr().wrapping_sub((*this).base);
            if offset >= (*this).covered {
                return Err(Push::Unknown);
            }
            // Relaxed: who has a live object of a slab sees the word that its page got before, or one of a
            // later owner; any other word only has to differ.
            let word = (*(*this).words.add(offset >> PAGE_SHIFT)).load(Relaxed);
            let missed = Push::Missed(Found(PageWord::from_raw(word)));
            let step = usize::from(word as u8);
            let bin = Self::bin_at_step(this, step);
            if (*bin).takes != word as u16 || !is_right(step) {
                return Err(missed);
            }
            // The object freed last, freed again, is the one double free that is cheap to see
            // here; the others meet their own bit at the next spill. Slot 0 is null and no object.
            if Bin::newest(bin) == object {
                return Err(Push::Unknown);
            }
            if (*bin).top >= (*bin).limit {
                return Err(missed);
            }
            Ok(bin)
        }
    }

    /// Moves `object` to one of at least `size` bytes, if both bins hit; null, and nothing changed, if not.
    ///
    /// # Safety
    /// As for [`HeapHot::push`], if the answer is not null.
    #[inline(always)]
    pub unsafe fn try_move(this: *mut HeapHot, object: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise. Both objects are live and distinct, and have that many bytes; a
        // bin has no less room after a pop.
        unsafe {
            let Some(usable) = Self::size_of(this, object) else { return ptr::null_mut() };
            // First: what is of another heap, or has no room in its bin, is copied by the long way once.
            let Ok(bin) = Self::room_for(this, object, |_| true) else { return ptr::null_mut() };
            let new = Self::pop(this, size);
            if !new.is_null() {
                new.copy_from_nonoverlapping(object, size.min(usable));
                Bin::put(bin, object);
            }
            new
        }
    }

    /// Says which group's objects the bin of each class takes.
    ///
    /// # Safety
    /// The caller is alone with `this`.
    pub(crate) unsafe fn take_groups(this: *mut HeapHot, group: impl Fn(SizeClass) -> Group) {
        for class in SizeClass::all() {
            let takes = PageWord::taken_by(group(class), class);
            // SAFETY: the caller's promise.
            unsafe { (*this).bins[class.index()].takes = takes };
        }
    }

    /// The bin at the place that a word names, whatever page that is of.
    ///
    /// # Safety
    /// The calling thread owns `this`, and has its bins or only looks at what `takes` and `has_array` say.
    #[inline]
    pub(crate) unsafe fn bin_at_word<'a>(this: *mut HeapHot, word: PageWord) -> &'a Bin {
        // SAFETY: by `[W2]` the low byte is the step of a bin.
        unsafe { &*Self::bin_at_step(this, usize::from(word.raw() as u8)) }
    }

    /// Whether `object` is the one that was freed last.
    ///
    /// # Safety
    /// As for [`HeapHot::pop`].
    pub(crate) unsafe fn is_newest(this: *mut HeapHot, class: SizeClass, object: *mut u8) -> bool {
        // SAFETY: the caller's promise.
        unsafe { Bin::newest(&raw mut (*this).bins[class.index()]) == object }
    }

    /// The bin at `offset`, its address in one register.
    ///
    /// The next hit on the bin reads the `top` that this one writes. Processors hand such a word
    /// over at once where both addresses are a register and a constant (memory renaming); with an
    /// index it takes 5 to 8 cycles, the longest chain there is in a row of hits. A compiler prefers
    /// the index, which is one instruction less.
    ///
    /// # Safety
    /// `offset` is that of a bin.
    #[inline(always)]
    unsafe fn bin_at(this: *mut HeapHot, offset: usize) -> *mut Bin {
        // SAFETY: the bin lies in the heap.
        unsafe { Self::bin_in_steps::<1>(this, offset) }
    }

    /// The same for the bin of a step.
    ///
    /// # Safety
    /// `step` is a multiple of 4.
    #[inline(always)]
    unsafe fn bin_at_step(this: *mut HeapHot, step: usize) -> *mut Bin {
        // SAFETY: there is a bin for each step.
        unsafe { Self::bin_in_steps::<STEP_BYTES>(this, step) }
    }

    /// The bin that lies so many times `BYTES` behind the first one.
    ///
    /// # Safety
    /// There is one.
    #[inline(always)]
    unsafe fn bin_in_steps<const BYTES: usize>(this: *mut HeapHot, nr: usize) -> *mut Bin {
        #[cfg(target_arch = "x86_64")]
        let moved = {
            let moved: *mut HeapHot;
            // SAFETY: an addition and nothing else.
            unsafe {
                asm!(
                    "lea {moved}, [{this} + {bytes} * {nr}]",
                    this = in(reg) this,
                    bytes = const BYTES,
                    nr = in(reg) nr,
                    moved = lateout(reg) moved,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            moved
        };
        #[cfg(not(target_arch = "x86_64"))]
        let moved = this.wrapping_byte_add(nr * BYTES);
        // SAFETY: the caller's promise.
        unsafe { (&raw mut (*moved).bins).cast() }
    }
}
