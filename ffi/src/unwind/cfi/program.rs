//! The instructions that tell how the rule changes along a function.

use super::bytes::Bytes;
use super::{Cfa, Cie, Rule, Saved, reg};

/// Runs the instructions that hold up to `pc`.
pub(super) fn run(
    cie: &Cie,
    mut code: Bytes,
    mut rule: Rule,
    initial: Rule,
    start: usize,
    pc: usize,
) -> Option<Rule> {
    const DEPTH: usize = 6;
    let mut kept = [rule; DEPTH];
    let mut nr_kept = 0;
    let mut at = start;
    let factored = |offset: i64| offset.wrapping_mul(cie.data_align);
    while !code.is_empty() {
        let op = code.u8()?;
        let low = u64::from(op & 0x3f);
        let advance = |delta: u64| delta.wrapping_mul(cie.code_align) as usize;
        match op & 0xc0 {
            0x40 => at = at.wrapping_add(advance(low)),
            0x80 => set(&mut rule, low, Saved::At(factored(code.uleb()?.cast_signed()))),
            0xc0 => restore(&mut rule, &initial, low),
            _ => match op {
                // nop; the state of a signed return address, which is stripped anyway
                0x00 | 0x2d => {}
                0x01 => at = code.pointer(cie.encoding)?,
                0x02 => at = at.wrapping_add(advance(u64::from(code.u8()?))),
                0x03 => at = at.wrapping_add(advance(u64::from(code.u16()?))),
                0x04 => at = at.wrapping_add(advance(u64::from(code.u32()?))),
                0x06 => restore(&mut rule, &initial, code.uleb()?),
                0x0a => {
                    *kept.get_mut(nr_kept)? = rule;
                    nr_kept += 1;
                }
                0x0b => {
                    nr_kept = nr_kept.checked_sub(1)?;
                    rule = *kept.get(nr_kept)?;
                }
                0x2e => {
                    code.uleb()?;
                }
                0x0c..=0x0f | 0x12 | 0x13 => rule.cfa = cfa(op, rule.cfa, &mut code, factored)?,
                _ => save(op, &mut rule, &mut code, factored)?,
            },
        }
        if at > pc {
            break;
        }
    }
    Some(rule)
}

/// The instructions that define the CFA.
fn cfa(op: u8, now: Cfa, code: &mut Bytes, factored: impl Fn(i64) -> i64) -> Option<Cfa> {
    let of = |register, offset| match register {
        reg::SP => Cfa::Sp(offset),
        reg::FP => Cfa::Fp(offset),
        _ => Cfa::Unknown,
    };
    let moved = |offset| match now {
        Cfa::Sp(_) => Cfa::Sp(offset),
        Cfa::Fp(_) => Cfa::Fp(offset),
        other => other,
    };
    Some(match op {
        0x0c => of(code.uleb()?, code.uleb()?.cast_signed()),
        0x0d => {
            let register = code.uleb()?;
            match now {
                Cfa::Sp(offset) | Cfa::Fp(offset) => of(register, offset),
                _ => Cfa::Unknown,
            }
        }
        0x0e => moved(code.uleb()?.cast_signed()),
        0x0f => Cfa::Expression(code.block()?),
        0x12 => of(code.uleb()?, factored(code.sleb()?)),
        _ => moved(factored(code.sleb()?)),
    })
}

/// The instructions that tell where a register is.
fn save(op: u8, rule: &mut Rule, code: &mut Bytes, factored: impl Fn(i64) -> i64) -> Option<()> {
    let register = code.uleb()?;
    let saved = match op {
        0x05 => Saved::At(factored(code.uleb()?.cast_signed())),
        0x07 => Saved::Undefined,
        0x08 => Saved::Same,
        0x10 => Saved::AtExpression(code.block()?),
        0x11 => Saved::At(factored(code.sleb()?)),
        0x2f => Saved::At(factored(code.uleb()?.cast_signed()).wrapping_neg()),
        // In another register, or a value that is computed: not followed.
        0x09 | 0x14 => {
            code.uleb()?;
            Saved::Undefined
        }
        0x15 => {
            code.sleb()?;
            Saved::Undefined
        }
        0x16 => {
            code.block()?;
            Saved::Undefined
        }
        _ => return None,
    };
    set(rule, register, saved);
    Some(())
}

fn set(rule: &mut Rule, register: u64, saved: Saved) {
    match register {
        reg::FP => rule.fp = saved,
        reg::RA => rule.ra = saved,
        _ => {}
    }
}

fn restore(rule: &mut Rule, initial: &Rule, register: u64) {
    match register {
        reg::FP => rule.fp = initial.fp,
        reg::RA => rule.ra = initial.ra,
        _ => {}
    }
}
