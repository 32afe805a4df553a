//! The thread's words on aarch64: the thread pointer is `tpidr_el0`.

use core::arch::asm;

use zonal_allocator::{HeapHot, Mark};

use super::{Block, ZONAL_THREAD_0_1_0};

impl Block {
    /// The calling thread's block, as an address.
    #[inline(always)]
    pub(crate) fn get() -> Block {
        let address;
        // SAFETY: loads a constant that the dynamic linker wrote before any code of ours ran, and
        // the thread pointer.
        unsafe {
            asm!(
                "adrp {offset}, :gottprel:{block}",
                "ldr {offset}, [{offset}, :gottprel_lo12:{block}]",
                "mrs {address}, tpidr_el0",
                "add {address}, {address}, {offset}",
                offset = out(reg) _,
                address = out(reg) address,
                block = sym ZONAL_THREAD_0_1_0,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Block(address)
    }

    #[inline(always)]
    pub(super) fn load<const AT: usize>(self) -> usize {
        let value;
        // SAFETY: the block is 16 bytes, `AT` is 0 or 8, and only this thread writes to it.
        unsafe {
            asm!(
                "ldr {value}, [{address}, #{at}]",
                value = out(reg) value,
                address = in(reg) self.0,
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
                "str {value}, [{address}, #{at}]",
                value = in(reg) value,
                address = in(reg) self.0,
                at = const AT,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Address of the empty heap.
#[inline(always)]
pub(crate) fn nothing() -> *mut HeapHot {
    super::empty()
}

const _: () = assert!(Mark::FREE.bits() == 0);

/// Ends an operation that took `heap` as it is in `current`.
#[inline(always)]
pub(crate) fn unmark(heap: *mut HeapHot) {
    // SAFETY: writes the one field that is there for it.
    unsafe {
        asm!(
            "str xzr, [{heap}, #{at}]",
            heap = in(reg) heap,
            at = const HeapHot::MARK,
            options(nostack, preserves_flags),
        );
    }
}

/// Takes `heap` unless a call has it: from here on a signal handler on this thread cannot. (The
/// assembly orders the mark before the operation: it is a barrier for the compiler, and a thread sees
/// its own stores in order.) A handler that comes before the mark gives the heap back before it ends.
/// Nobody closes bins on this processor: `allocator/src/mark/`.
#[inline(always)]
pub(crate) fn try_mark(heap: *mut HeapHot) -> bool {
    // SAFETY: the empty heap, or one of this thread's; they are never unmapped.
    if unsafe { &*heap }.mark() != Mark::FREE {
        return false;
    }
    mark(heap);
    true
}

/// Notes in `heap` where the stack stands.
#[inline(always)]
fn mark(heap: *mut HeapHot) {
    // SAFETY: writes the one field that is there for it.
    unsafe {
        asm!(
            "mov {sp}, sp",
            "str {sp}, [{heap}, #{at}]",
            sp = out(reg) _,
            heap = in(reg) heap,
            at = const HeapHot::MARK,
            options(nostack, preserves_flags),
        );
    }
}

/// The stack pointer, to be compared with the place in a [`Mark`].
#[inline(always)]
pub(crate) fn stack() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}
