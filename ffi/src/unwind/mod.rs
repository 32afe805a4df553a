//! The calling thread's stack, as return addresses: for heap profiles, and for who asks who calls.
//!
//! Frame pointers alone are not enough: distributions compile without them, and then the register
//! holds whatever the program put there, which may well look like a frame and skip callers. So the
//! compiler's own word is taken first ([`cfi`]), which for code with frame pointers says "frame pointer", at
//! the cost of one look into a [`cache`]; code that says nothing (made at run time, or assembly) is
//! walked by the frame pointer, checked. Every word is read from pages that the kernel vouched for.
//!
//! Reading order: [`memory`], [`module`], [`cfi`], [`cache`], then [`walk`].

mod cache;
mod cfi;
mod memory;
mod module;

use core::arch::asm;

use zonal_allocator::profile::MAX_DEPTH;

use self::cache::Compact;
pub(crate) use self::cache::forget;
use self::cfi::{Bytes, Cfa, Registers, Rule, Saved};
use self::memory::Readable;
pub(crate) use self::module::Module;

/// Frames walked, those of zonal's own included.
const MAX_WALK: usize = MAX_DEPTH + 16;
/// Frame pointers further away than this are none.
const MAX_FRAME: usize = 1 << 20;
/// Nothing is ever mapped below.
const LOWEST: usize = 4096;

/// Fills `frames` with return addresses, the innermost first, and returns their number. Leading
/// ones inside `own` are left out.
#[inline(never)]
pub(crate) fn walk(frames: &mut [usize], own: (usize, usize)) -> usize {
    let mut registers = here();
    let mut memory = Readable::around(registers.sp);
    let (mut nr, mut is_return) = (0, false);
    for _ in 0..MAX_WALK {
        let Some((caller, after_call)) = step(registers, is_return, &mut memory) else { break };
        if caller.pc < LOWEST {
            break;
        }
        registers = caller;
        is_return = after_call;
        if nr == 0 && (own.0..own.1).contains(&caller.pc) {
            continue;
        }
        // Readers take one off to get into the call: an interrupted instruction is moved up.
        frames[nr] = caller.pc + usize::from(!after_call);
        nr += 1;
        if nr == frames.len() {
            break;
        }
    }
    nr
}

/// The registers of the caller's own frame.
#[inline(always)]
fn here() -> Registers {
    let (pc, sp, fp): (usize, usize, usize);
    // SAFETY: reads registers.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "lea {}, [rip]",
            "mov {}, rsp",
            "mov {}, rbp",
            out(reg) pc,
            out(reg) sp,
            out(reg) fp,
            options(nomem, nostack, preserves_flags),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "adr {}, .",
            "mov {}, sp",
            "mov {}, x29",
            out(reg) pc,
            out(reg) sp,
            out(reg) fp,
            options(nomem, nostack, preserves_flags),
        );
    }
    Registers { pc, sp, fp }
}

/// The caller's registers, and whether its `pc` is behind a call (else it was interrupted there).
fn step(now: Registers, is_return: bool, memory: &mut Readable) -> Option<(Registers, bool)> {
    // Behind a call that never returns there may be another function.
    let place = now.pc - usize::from(is_return);
    if let Some(compact) = cache::look_up(place) {
        return compact.caller(now, memory).map(|caller| (caller, true));
    }
    let Some(rule) = find(place) else {
        return by_frame_pointer(now, memory).map(|caller| (caller, true));
    };
    if rule.is_signal {
        return interrupted(now, memory).map(|caller| (caller, false));
    }
    if let Some(compact) = Compact::new(&rule) {
        cache::remember(place, compact);
        return compact.caller(now, memory).map(|caller| (caller, true));
    }
    by_rule(&rule, now, memory).map(|caller| (caller, true))
}

fn find(pc: usize) -> Option<Rule> {
    let module = Module::of(pc).filter(|module| module.contains(module.eh_frame_hdr))?;
    // SAFETY: the file is loaded, and stays so while its code stands on this stack.
    let file = unsafe { Bytes::new(module.start, module.eh_frame_hdr, module.end) };
    cfi::rule(file, pc)
}

fn by_rule(rule: &Rule, now: Registers, memory: &mut Readable) -> Option<Registers> {
    let cfa = match rule.cfa {
        Cfa::Sp(offset) => now.sp.checked_add_signed(offset as isize)?,
        Cfa::Fp(offset) => now.fp.checked_add_signed(offset as isize)?,
        Cfa::Expression(code) => cfi::evaluate(code, now, |at| memory.word(at))?,
        Cfa::Unknown => return None,
    };
    let mut saved = |rule, same| match rule {
        Saved::Same => same,
        Saved::At(offset) => memory.word(cfa.checked_add_signed(offset as isize)?),
        Saved::AtExpression(code) => {
            let at = cfi::evaluate(code, now, |at| memory.word(at))?;
            memory.word(at)
        }
        Saved::Undefined => None,
    };
    let pc = strip(saved(rule.ra, None)?);
    // A frame pointer that is lost may not be needed any more.
    let fp = saved(rule.fp, Some(now.fp)).unwrap_or(0);
    (cfa > now.sp).then_some(Registers { pc, sp: cfa, fp })
}

/// The frame pointer points to that of the caller, with the return address above it.
fn by_frame_pointer(now: Registers, memory: &mut Readable) -> Option<Registers> {
    let above = now.fp.checked_sub(now.sp)?;
    if above > MAX_FRAME {
        return None;
    }
    let fp = memory.word(now.fp)?;
    let pc = strip(memory.word(now.fp + size_of::<usize>())?);
    Some(Registers { pc, sp: now.fp + 2 * size_of::<usize>(), fp })
}

/// Where a signal interrupted the thread: the kernel left all registers on the stack.
fn interrupted(now: Registers, memory: &mut Readable) -> Option<Registers> {
    use core::mem::offset_of;
    #[cfg(target_arch = "x86_64")]
    let at = |register: i32| {
        let registers =
            offset_of!(libc::ucontext_t, uc_mcontext) + offset_of!(libc::mcontext_t, gregs);
        now.sp + registers + register as usize * size_of::<usize>()
    };
    #[cfg(target_arch = "x86_64")]
    let (pc, sp, fp) = (at(libc::REG_RIP), at(libc::REG_RSP), at(libc::REG_RBP));
    #[cfg(target_arch = "aarch64")]
    let context = now.sp + size_of::<libc::siginfo_t>() + offset_of!(libc::ucontext_t, uc_mcontext);
    #[cfg(target_arch = "aarch64")]
    let (pc, sp, fp) = (
        context + offset_of!(libc::mcontext_t, pc),
        context + offset_of!(libc::mcontext_t, sp),
        context + offset_of!(libc::mcontext_t, regs) + 29 * size_of::<usize>(),
    );
    let caller = Registers { pc: memory.word(pc)?, sp: memory.word(sp)?, fp: memory.word(fp)? };
    if caller.sp < now.sp {
        // The handler ran on a stack of its own: go on where the thread was.
        *memory = Readable::elsewhere(caller.sp)?;
    }
    Some(caller)
}

/// Without the signature of a signed return address.
fn strip(pc: usize) -> usize {
    #[cfg(target_arch = "aarch64")]
    {
        let stripped;
        // SAFETY: clears the signature in x30; older processors do nothing.
        unsafe {
            asm!("hint #7", inlateout("x30") pc => stripped, options(pure, nomem, nostack, preserves_flags));
        }
        stripped
    }
    #[cfg(target_arch = "x86_64")]
    pc
}

#[cfg(test)]
mod tests;
