//! The thread's words on x86-64: the thread pointer is the base of segment `fs`.

use core::arch::asm;

use zonal_allocator::{HeapHot, Mark};

use super::{Block, ZONAL_THREAD_0_1_0};

impl Block {
    /// The calling thread's block, as an offset from the thread pointer.
    #[inline(always)]
    pub(crate) fn get() -> Block {
        let offset;
        // SAFETY: loads a constant that the dynamic linker wrote before any code of ours ran.
        unsafe {
            asm!(
                "mov {offset}, qword ptr [rip + {block}@GOTTPOFF]",
                offset = out(reg) offset,
                block = sym ZONAL_THREAD_0_1_0,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Block(offset)
    }

    #[inline(always)]
    pub(super) fn load<const AT: usize>(self) -> usize {
        let value;
        // SAFETY: the block is 16 bytes, `AT` is 0 or 8, and only this thread writes to it.
        unsafe {
            asm!(
                "mov {value}, qword ptr fs:[{offset} + {at}]",
                value = out(reg) value,
                offset = in(reg) self.0,
                at = const AT,
                options(readonly, nostack, preserves_flags),
            );
        }
        value
    }

    #[inline(always)]
    pub(super) fn store<const AT: usize>(self, value: usize) {
        // SAFETY: as for `load`.
        unsafe {
            asm!(
                "mov qword ptr fs:[{offset} + {at}], {value}",
                value = in(reg) value,
                offset = in(reg) self.0,
                at = const AT,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Address of the empty heap, computed here and not beforehand on the way of every hit.
#[inline(always)]
pub(crate) fn nothing() -> *mut HeapHot {
    let heap;
    // SAFETY: loads an address.
    unsafe {
        asm!(
            "lea {heap}, [rip + {empty}]",
            heap = out(reg) heap,
            empty = sym super::EMPTY,
            options(nomem, nostack, preserves_flags),
        );
    }
    heap
}

/// Ends an operation that took `heap` as it is in `current`.
#[inline(always)]
pub(crate) fn unmark(heap: *mut HeapHot) {
    // SAFETY: writes the one field that is there for it.
    unsafe {
        asm!(
            "mov qword ptr [{heap} + {at}], {free}",
            heap = in(reg) heap,
            at = const HeapHot::MARK,
            free = const Mark::FREE.bits().cast_signed(),
            options(nostack, preserves_flags),
        );
    }
}

/// Takes `heap` unless a call has it, or its bins are closed: from here on a signal handler on this thread
/// cannot. (The assembly orders the mark before the operation: it is a barrier for the compiler, and a
/// thread sees its own stores in order.) A handler that comes before the mark gives the heap back before it
/// ends. One instruction, without a lock, so that a visitor can close the bins: `allocator/src/mark/`.
#[inline(always)]
pub(crate) fn try_mark(heap: *mut HeapHot) -> bool {
    let place = stack();
    // SAFETY: writes the one field that is there for it, of the empty heap, or of one of this thread's; they
    // are never unmapped.
    unsafe {
        asm!(
            "add qword ptr [{heap} + {at}], {place}",
            "jnc {taken}",
            heap = in(reg) heap,
            at = const HeapHot::MARK,
            place = in(reg) place,
            taken = label {
                // SAFETY: as above.
                unsafe { (*heap).undo_add(place) };
                return false;
            },
            options(nostack),
        );
    }
    true
}

/// The stack pointer, to be compared with the place in a [`Mark`].
#[inline(always)]
pub(crate) fn stack() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}
