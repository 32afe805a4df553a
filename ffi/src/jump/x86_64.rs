//! The kernel's signal frame on the stack, and the way back to it.

use core::arch::asm;
use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use super::{LongJump, Waiting};
use crate::signal;
use crate::tls::Block;

/// How far below the mark a slow path and its handlers may lie.
const DEEP: usize = 1 << 20;
/// How far above: the place is noted in a function that ends in a jump to the slow path, or that has to come
/// back to it, which so runs higher up. What interrupts the caller lies above the whole frame of a signal.
const SLACK: usize = 512;
/// How far above the mark the target of a jump is looked for: the largest usual stack.
const HIGH: usize = 8 << 20;

// The kernel's `struct rt_sigframe`: return address, ucontext, and (with SA_SIGINFO) siginfo.
const UC_LINK: usize = 16;
const RSP: usize = 168;
const CS: usize = 192;
const STATE: usize = 232;
const MASK: usize = 304;
const FRAME_BYTES: usize = MASK + 8;
/// In the saved floating-point state: a mark, its length, and from there back another mark.
const STATE_MAGIC1: usize = 464;
const STATE_LEN: usize = STATE_MAGIC1 + 4;
/// The most that it takes (AMX: 11 KiB).
const STATE_MOST: usize = 16 << 10;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Code segment of 64-bit programs.
const USER_CS: u16 = 0x33;

/// glibc's `jmp_buf`: where the stack pointer lies, and by how much it is rotated.
const JB_RSP: usize = 6;
const ROTATION: u32 = 17;

/// # Safety
/// As for [`super::put_off`].
#[inline]
pub(super) unsafe fn put_off(env: *mut c_void, value: c_int, jump: LongJump) {
    let Some(heap) = Block::get().heap() else { return };
    // SAFETY: heaps are never unmapped.
    let heap = unsafe { heap.as_ref() };
    // SAFETY: as above.
    if unsafe { &*heap.hot() }.mark().is_slow() {
        // SAFETY: the caller's promise.
        unsafe { out_of_slow_path(heap.slow_place(), env, value, jump) };
    }
}

#[cold]
unsafe fn out_of_slow_path(mark: usize, env: *mut c_void, value: c_int, jump: LongJump) {
    let stack = signal::alternate_stack();
    let here: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    let Some(frame) = find(here, mark, stack) else { return };
    // SAFETY: the caller passes a live `jmp_buf`.
    let target = unsafe { target(env) };
    let leaves = target >= mark && target - mark < HIGH;
    if !leaves || has_shadow_stack() {
        return;
    }
    // Blocked signals do not come, so a second jump is one out of a fault, to which a return
    // would lead again.
    if let Some(waiting) = Waiting::of(signal::this_thread()) {
        signal::set_mask(waiting.mask.load(Relaxed));
        return waiting.release();
    }
    let Some(waiting) = Waiting::take(signal::this_thread()) else { return };
    waiting.env.store(env, Relaxed);
    waiting.value.store(value.cast_unsigned(), Relaxed);
    waiting.jump.store(jump as *mut c_void, Relaxed);
    waiting.mask.store(signal::mask(), Relaxed);
    // SAFETY: the frame is the kernel's, to which a return from the handler would lead; all
    // that lies below it is given up, as the caller's jump would have done.
    unsafe {
        let mask = ptr::with_exposed_provenance_mut::<u64>(frame + MASK);
        mask.write(mask.read() | signal::JUMPERS);
        asm!(
            "mov rsp, {}",
            "mov eax, {}",
            "syscall",
            "ud2",
            in(reg) frame + 8,
            const libc::SYS_rt_sigreturn,
            options(noreturn),
        );
    }
}

/// The frame of the handler that interrupted the slow path with this mark: of all signal
/// frames from `here` up, the uppermost whose interrupted code ran below the mark.
fn find(here: usize, mark: usize, stack: Option<(usize, usize)>) -> Option<usize> {
    let end = match stack {
        Some((start, size)) => start + size,
        None => mark,
    };
    if end.wrapping_sub(here) > DEEP {
        return None;
    }
    let last = end.checked_sub(FRAME_BYTES)?;
    let last = last & !7;
    (here..=last).rev().step_by(8).find(|&at| is_frame(at, mark))
}

fn is_frame(at: usize, mark: usize) -> bool {
    // SAFETY: `find` stays between the stack pointer and the end of the stack.
    let word = |offset| unsafe { read::<usize>(at, offset) };
    let below = (mark + SLACK).wrapping_sub(word(RSP));
    if word(UC_LINK) != 0 || word(CS) as u16 != USER_CS || below >= DEEP {
        return false;
    }
    has_state(word(STATE), at) && signal::is_restorer(word(0))
}

/// Whether the frame's floating-point state is whole. It lies between the frame and the code
/// that was interrupted, so what is left of an older frame, under newer calls of ours, has
/// holes in it.
fn has_state(state: usize, frame: usize) -> bool {
    let near = |at: usize| at.is_multiple_of(4) && (frame..frame + STATE_MOST).contains(&at);
    // SAFETY: above the frame, and on the same stack.
    let word = |at: usize| near(at).then(|| unsafe { read::<u32>(at, 0) });
    if word(state + STATE_MAGIC1) != Some(MAGIC1) {
        return false;
    }
    let len = word(state + STATE_LEN).unwrap_or(0) as usize;
    word(state.wrapping_add(len).wrapping_sub(4)) == Some(MAGIC2)
}

unsafe fn read<T>(at: usize, offset: usize) -> T {
    // SAFETY: the caller knows that there is a `T`.
    unsafe { ptr::with_exposed_provenance::<T>(at + offset).read() }
}

/// The stack pointer that a `jmp_buf` leads to.
unsafe fn target(env: *mut c_void) -> usize {
    let guard: usize;
    // SAFETY: glibc keeps its pointer guard there on every thread.
    unsafe {
        asm!("mov {}, qword ptr fs:[0x30]", out(reg) guard, options(pure, readonly, nostack, preserves_flags));
    }
    // SAFETY: the caller passes a live `jmp_buf`.
    let stored = unsafe { env.cast::<usize>().add(JB_RSP).read_unaligned() };
    stored.rotate_right(ROTATION) ^ guard
}

/// With one, a return to the frame would not match it.
fn has_shadow_stack() -> bool {
    let pointer: usize;
    // SAFETY: does nothing where there is no shadow stack.
    unsafe {
        asm!("xor {0:e}, {0:e}", "rdsspq {0}", out(reg) pointer, options(nomem, nostack));
    }
    pointer != 0
}
