//! Expressions of DWARF, as far as frames need them.

use super::bytes::Bytes;
use super::reg;

/// The registers that expressions may use.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Registers {
    pub(in super::super) pc: usize,
    pub(in super::super) sp: usize,
    pub(in super::super) fp: usize,
}

/// What an expression is worth: the few operations that compilers and linkers use for frames (a
/// realigned stack; the entries of the PLT).
pub(in super::super) fn evaluate(
    mut code: Bytes,
    registers: Registers,
    mut load: impl FnMut(usize) -> Option<usize>,
) -> Option<usize> {
    const DEPTH: usize = 8;
    let mut stack = [0_usize; DEPTH];
    let mut depth: usize = 0;
    while !code.is_empty() {
        let op = code.u8()?;
        let pushed = match op {
            0x06 => {
                depth = depth.checked_sub(1)?;
                load(*stack.get(depth)?)?
            }
            0x08 => usize::from(code.u8()?),
            0x09 => code.u8()?.cast_signed() as usize,
            0x10 => code.uleb()? as usize,
            0x11 => code.sleb()? as usize,
            0x1a | 0x1c | 0x21 | 0x22 | 0x24 | 0x2a => {
                let right = *stack.get(depth.checked_sub(1)?)?;
                depth = depth.checked_sub(2)?;
                binary(op, *stack.get(depth)?, right)
            }
            0x23 => {
                depth = depth.checked_sub(1)?;
                stack.get(depth)?.wrapping_add(code.uleb()? as usize)
            }
            0x30..=0x4f => usize::from(op - 0x30),
            0x70..=0x8f => {
                let base = match u64::from(op - 0x70) {
                    reg::SP => registers.sp,
                    reg::FP => registers.fp,
                    reg::RA => registers.pc,
                    _ => return None,
                };
                base.wrapping_add_signed(code.sleb()? as isize)
            }
            _ => return None,
        };
        *stack.get_mut(depth)? = pushed;
        depth += 1;
    }
    stack.get(depth.checked_sub(1)?).copied()
}

fn binary(op: u8, left: usize, right: usize) -> usize {
    match op {
        0x1a => left & right,
        0x1c => left.wrapping_sub(right),
        0x21 => left | right,
        0x22 => left.wrapping_add(right),
        0x24 => left.checked_shl(right as u32).unwrap_or(0),
        _ => usize::from(left.cast_signed() >= right.cast_signed()),
    }
}
