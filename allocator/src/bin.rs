//! Bins and the hit path: what a `malloc` or `free` touches when nothing is missing.
//!
//! A bin is a stack of object pointers, one per size class. The object freed last is handed out
//! next, whichever slab it came from, and whichever heap of the same group ([`crate::group`]), so it
//! is still in the cache. A hit writes nothing into an object.
//!
//! Slot 0 of every array holds null: popping an empty bin reads it and misses, which saves a
//! comparison. Every change of a bin has one committing store, that of `top`: whoever looks at a
//! bin whose owner was stopped for ever (a forked child) finds either the state before or after.

#[cfg(target_arch = "x86_64")]
use core::arch::asm;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::compiler_fence;

use crate::class::{CLASS_SHIFT, MAX_SMALL, NR_STEPS, STEP_BYTES, SizeClass};
use crate::group::Group;
use crate::mark;
use crate::pfn::Pfn;
use crate::resize::fits;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::sync::program::AtomicU64 as MarkWord;
use crate::word::PageWord;
use zonal_numa::PAGE_SHIFT;

/// A stack of pointers to free objects of one class. Half a cache line: a hit needs no other.
#[derive(Debug)]
#[repr(C, align(32))]
pub(crate) struct Bin {
    /// One above the newest object.
    pub(crate) top: *mut *mut u8,
    /// One above the last slot.
    pub(crate) limit: *mut *mut u8,
    /// The low half of the words of pages whose objects it takes; 0, which no such page has, for none.
    takes: u16,
}

const _: () = assert!(size_of::<Bin>() == 1 << CLASS_SHIFT);

/// The null slot of all bins that have no array yet. Never written.
#[repr(transparent)]
struct Floor(*mut u8);
// SAFETY: it is never written.
unsafe impl Sync for Floor {}
static FLOOR: Floor = Floor(ptr::null_mut());

impl Bin {
    /// A bin without an array: always empty and always full.
    pub(crate) const EMPTY: Bin = {
        let floor = (&raw const FLOOR.0).cast_mut();
        // SAFETY: one past the single slot.
        let top = unsafe { floor.add(1) };
        Bin { top, limit: top, takes: 0 }
    };

    /// Whether there is a free slot.
    #[cfg(test)]
    pub(crate) fn has_room(&self) -> bool {
        self.top < self.limit
    }
}

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

/// The part of a heap that hits touch. First field of `Heap`.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct HeapHot {
    /// Start of the window that holds all sections.
    pub(crate) base: usize,
    /// Bytes of the window that have page words, as this heap last read it.
    pub(crate) covered: usize,
    /// Page words, indexed by page from `base`.
    pub(crate) words: *const AtomicU32,
    /// Where the owner's stack stood when it took the heap, while a call has it. Written by assembly of the
    /// caller's. From it the calls of signal handlers know that they must not take the heap, and whether the
    /// call that took it still runs. A visitor closes the bins by it: [`crate::mark`].
    frame: MarkWord,
    /// By step, so that there is one for any page word: those of no class take nothing.
    pub(crate) bins: [Bin; NR_STEPS],
}

// SAFETY: other threads reach a heap only through the owner gate or the atomics in it.
unsafe impl Sync for HeapHot {}

impl HeapHot {
    /// A heap on which every operation misses. A thread's state starts with its address, so that
    /// hits need no null check.
    #[expect(clippy::declare_interior_mutable_const, reason = "made into one static, above")]
    pub const EMPTY: HeapHot = HeapHot {
        base: 0,
        covered: 0,
        words: ptr::null(),
        frame: MarkWord::new(mark::ABSENT),
        bins: [Bin::EMPTY; NR_STEPS],
    };

    /// The same, for a thread that has a heap and whose hits shall miss. See
    /// [`crate::Heap::detour`].
    #[expect(clippy::declare_interior_mutable_const, reason = "as above")]
    pub(crate) const DETOUR: HeapHot =
        HeapHot { base: HeapHot::NOWHERE, frame: MarkWord::new(mark::FREE), ..HeapHot::EMPTY };

    /// Where the window of a detour begins, and no other.
    const NOWHERE: usize = 1;

    /// Whether this is a [`HeapHot::DETOUR`].
    ///
    /// # Safety
    /// `this` points to a `HeapHot`.
    #[inline]
    pub(crate) unsafe fn is_detour(this: *mut HeapHot) -> bool {
        // SAFETY: the caller's promise; that does not change.
        unsafe { (*this).base == HeapHot::NOWHERE }
    }

    /// [`HeapHot::frame`] of a heap that hits may mark.
    pub const FREE: u64 = mark::FREE;

    /// The same of one whose bins are closed, in no call.
    pub const CLOSED: u64 = mark::CLOSED;

    /// Where [`HeapHot::frame`] lies.
    pub const FRAME: usize = offset_of!(HeapHot, frame);

    /// The mark: the stack pointer of the call that has this heap, and bits beside it. The assembly of hits adds
    /// theirs to [`HeapHot::FREE`], if that is what they find, and ends by storing it.
    #[inline(always)]
    pub fn frame(&self) -> u64 {
        self.frame.load(Relaxed)
    }

    /// What of a [`HeapHot::frame`] is a place on the stack; none where that cannot be told, as hits that could
    /// not mark the heap were left before they had [taken back](HeapHot::take_back) what they added.
    #[inline]
    pub fn place_in(frame: u64) -> Option<usize> {
        let place = mark::place_in(frame);
        (!mark::is_sum(place)).then_some(place as usize & !7)
    }

    /// A hit that could not mark it takes back what it added, its stack pointer.
    #[inline]
    pub fn take_back(&self, place: usize) {
        mark::take_back(self.mark(), place as u64);
    }

    /// Changes the mark of the calling owner's own call, or of a heap that it has without any.
    #[inline(always)]
    pub fn set_frame(&self, frame: u64) {
        mark::set(self.mark(), frame);
    }

    /// Takes it for a call that stands at `place` from one that is gone and left this mark; false where it has
    /// another one by now.
    pub fn take_from(&self, gone: u64, place: usize) -> bool {
        mark::take_from(self.mark(), gone, place as u64)
    }

    /// Takes it for a call that stands at `place`, its bins closed or not; false where another call has it.
    pub fn take(&self, place: usize) -> bool {
        mark::take(self.mark(), place as u64)
    }

    /// Ends the call that has it.
    #[inline(always)]
    pub fn end(&self) {
        mark::end(self.mark());
    }

    /// Whether a call has it.
    pub fn is_taken(&self) -> bool {
        ![mark::FREE, mark::CLOSED].contains(&self.frame())
    }

    /// Whether hits miss until the owner has been inside the gate.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        mark::is_closed_in(self.frame())
    }

    /// The word of the mark.
    #[inline(always)]
    pub(crate) fn mark(&self) -> &AtomicU64 {
        #[cfg(not(zonal_loom))]
        return &self.frame;
        #[cfg(zonal_loom)]
        unreachable!("the heaps of models have no hits");
    }

    /// Takes an object of at least `size` bytes; null when it misses.
    ///
    /// # Safety
    /// `this` is `EMPTY` or a heap that the calling thread owns and has marked as taken.
    #[inline(always)]
    pub unsafe fn pop(this: *mut HeapHot, size: usize) -> *mut u8 {
        if size > MAX_SMALL {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise; the offset is that of a class.
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
        // SAFETY: `offset` is that of a class, so the bin lies in the heap. Slot 0 below `top`
        // always exists and holds null.
        unsafe {
            let bin = Self::bin_at(this, offset as usize);
            let slot = (*bin).top.sub(1);
            let object = *slot;
            if !object.is_null() {
                (*bin).top = slot;
            }
            object
        }
    }

    /// The word of the page of `object`; none where this heap knows of none.
    ///
    /// # Safety
    /// As for [`HeapHot::pop`].
    #[inline(always)]
    pub(crate) unsafe fn word_of(this: *mut HeapHot, object: *mut u8) -> Option<PageWord> {
        // SAFETY: the caller's promise; `words` has a word for every page below `covered`.
        unsafe {
            let offset = object.addr().wrapping_sub((*this).base);
            if offset >= (*this).covered {
                return None;
            }
            // The other side of `sync_hot`, which a signal handler may call at this point.
            compiler_fence(Acquire);
            let word = (*(*this).words.add(offset >> PAGE_SHIFT)).load(Relaxed);
            Some(PageWord::from_raw(word))
        }
    }

    /// The page that lies at `addr`, of which this heap knows the word.
    ///
    /// # Safety
    /// As for [`HeapHot::pop`].
    #[inline(always)]
    pub(crate) unsafe fn pfn_of(this: *mut HeapHot, addr: usize) -> Pfn {
        // SAFETY: the caller's promise.
        Pfn::new((addr.wrapping_sub(unsafe { (*this).base }) >> PAGE_SHIFT) as u32)
    }

    /// Bytes that `object` can hold, if it lies in a slab and one starts there; none where this heap
    /// knows of no word.
    ///
    /// # Safety
    /// `this` is `EMPTY`, a detour, or a heap that the calling thread owns.
    #[inline(always)]
    pub unsafe fn size_of(this: *mut HeapHot, object: *mut u8) -> Option<usize> {
        // SAFETY: the caller's promise; nothing that this reads is ever torn, so it needs no mark.
        let word = unsafe { Self::word_of(this, object)? };
        let slicing = word.slicing();
        let is_start = slicing.is_start(object.addr());
        (word.is_slab() && is_start).then_some(slicing.size())
    }

    /// Whether `object` may stay where it is for `size` bytes: as far as this heap knows, so no is no
    /// answer.
    ///
    /// # Safety
    /// As for [`HeapHot::size_of`].
    #[inline(always)]
    pub unsafe fn may_stay(this: *mut HeapHot, object: *mut u8, size: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe { Self::size_of(this, object).is_some_and(|usable| fits(size, usable)) }
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
                Self::put(bin, object);
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

    /// Whether `object` is the one that was freed last.
    ///
    /// # Safety
    /// As for [`HeapHot::pop`].
    pub(crate) unsafe fn is_newest(this: *mut HeapHot, class: SizeClass, object: *mut u8) -> bool {
        // SAFETY: slot 0 below `top` always exists.
        unsafe { *(*this).bins[class.index()].top.sub(1) == object }
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
                    Self::put(bin, object);
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
            let top = (*bin).top;
            // The object freed last, freed again, is the one double free that is cheap to see
            // here; the others meet their own bit at the next spill. Slot 0 is null and no object.
            if *top.sub(1) == object {
                return Err(Push::Unknown);
            }
            if top >= (*bin).limit {
                return Err(missed);
            }
            Ok(bin)
        }
    }

    /// Lays `object` on top of `bin`.
    ///
    /// # Safety
    /// The bin is of a heap that the calling thread owns and has marked as taken, and has room.
    #[inline(always)]
    unsafe fn put(bin: *mut Bin, object: *mut u8) {
        // SAFETY: a slot below `limit` is writable.
        unsafe {
            let top = (*bin).top;
            *top = object;
            (*bin).top = top.add(1);
        }
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
