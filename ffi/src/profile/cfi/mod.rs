//! Call frame information: how to get from a place in the code to its caller.
//!
//! Compilers write it to `.eh_frame` for exceptions, for C as well, and the linker adds a table to
//! search it by (`.eh_frame_hdr`). Of what it says only three things are needed to walk: where the
//! frame ends (CFA), where the return address lies, and where the frame pointer of the caller does.
//! Formats: "System V ABI, AMD64 supplement", chapter 4; "Linux Standard Base", chapter 10; DWARF 5,
//! chapter 6.4.
//!
//! Nothing here allocates, takes a lock, or panics: whatever is not understood is `None`, and the
//! walk goes on by the frame pointer.

use core::ptr;

/// Numbers of registers as DWARF has them.
#[cfg(target_arch = "x86_64")]
mod reg {
    pub(super) const FP: u64 = 6;
    pub(super) const SP: u64 = 7;
    pub(super) const RA: u64 = 16;
}
#[cfg(target_arch = "aarch64")]
mod reg {
    pub(super) const FP: u64 = 29;
    pub(super) const RA: u64 = 30;
    pub(super) const SP: u64 = 31;
}

/// Bytes of a loaded file, read one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    start: usize,
    at: usize,
    end: usize,
}

macro_rules! fixed {
    ($name:ident, $type:ty) => {
        pub(super) fn $name(&mut self) -> Option<$type> {
            let size = size_of::<$type>();
            if self.end.checked_sub(self.at)? < size {
                return None;
            }
            // SAFETY: inside the file that whoever made this vouched for.
            let value = unsafe { ptr::with_exposed_provenance::<$type>(self.at).read_unaligned() };
            self.at += size;
            Some(value)
        }
    };
}

impl Bytes {
    /// The file from `start` to `end`, to be read from `at` on.
    ///
    /// # Safety
    /// All between can be read while this is used.
    pub(super) unsafe fn new(start: usize, at: usize, end: usize) -> Bytes {
        Bytes { start, at, end }
    }

    /// The same file from another place on.
    fn from(self, at: usize) -> Option<Bytes> {
        (at >= self.start).then_some(Bytes { at, ..self })
    }

    /// The next `len` bytes, which are stepped over.
    fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.end)?;
        let part = Bytes { end, ..*self };
        self.at = end;
        Some(part)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    fixed!(u8, u8);
    fixed!(u16, u16);
    fixed!(u32, u32);
    fixed!(i32, i32);
    fixed!(u64, u64);

    pub(super) fn uleb(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    pub(super) fn sleb(&mut self) -> Option<i64> {
        let (mut value, mut shift) = (0_i64, 0_u32);
        loop {
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                let is_negative = byte & 0x40 != 0 && shift < 64;
                return Some(if is_negative { value | -1_i64 << shift } else { value });
            }
        }
    }

    /// A number of the size that the encoding names.
    fn sized(&mut self, encoding: u8) -> Option<i64> {
        match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => self.u64().map(u64::cast_signed),
            0x02 => self.u16().map(i64::from),
            0x03 => self.u32().map(i64::from),
            0x0a => self.u16().map(|value| i64::from(value.cast_signed())),
            0x0b => self.i32().map(i64::from),
            _ => None,
        }
    }

    /// An address: absolute, or relative to where it stands.
    fn pointer(&mut self, encoding: u8) -> Option<usize> {
        let base = match encoding & 0xf0 {
            0x00 => 0,
            0x10 => self.at,
            _ => return None,
        };
        Some(base.wrapping_add_signed(self.sized(encoding)? as isize))
    }

    /// The bytes of an expression.
    fn block(&mut self) -> Option<Bytes> {
        let len = self.uleb()?;
        self.take(usize::try_from(len).ok()?)
    }
}

/// The end of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cfa {
    /// So far above the stack pointer.
    Sp(i64),
    /// So far above the frame pointer.
    Fp(i64),
    /// What the expression says.
    Expression(Bytes),
    /// By a register that is not followed.
    Unknown,
}

/// Where a register of the caller is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Saved {
    /// It was not changed.
    Same,
    /// In memory, so far from the CFA.
    At(i64),
    /// In memory, where the expression says.
    AtExpression(Bytes),
    /// Nobody knows: for a return address, that there is no caller.
    Undefined,
}

/// How to get to the caller of one place in the code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) cfa: Cfa,
    pub(super) fp: Saved,
    pub(super) ra: Saved,
    /// The kernel called this code, with the registers on the stack.
    pub(super) is_signal: bool,
}

/// What the frames of one compiler's output have in common.
struct Cie {
    code_align: u64,
    data_align: i64,
    encoding: u8,
    has_data: bool,
    is_signal: bool,
    program: Bytes,
}

impl Cie {
    fn parse(file: Bytes, at: usize) -> Option<Cie> {
        let mut bytes = file.from(at)?;
        let len = bytes.u32()?;
        let mut bytes = bytes.take(usize::try_from(len).ok()?)?;
        if bytes.u32()? != 0 {
            return None;
        }
        let version = bytes.u8()?;
        let mut augmentation = bytes;
        while bytes.u8()? != 0 {}
        let code_align = bytes.uleb()?;
        let data_align = bytes.sleb()?;
        let ra = if version == 1 { u64::from(bytes.u8()?) } else { bytes.uleb()? };
        if ra != reg::RA || !(version == 1 || version == 3) {
            return None;
        }
        let (mut encoding, mut has_data, mut is_signal) = (0, false, false);
        let mut data = bytes;
        loop {
            match augmentation.u8()? {
                0 => break,
                b'z' => {
                    has_data = true;
                    data = bytes.block()?;
                }
                b'R' => encoding = data.u8()?,
                b'P' => {
                    let encoding = data.u8()?;
                    data.sized(encoding)?;
                }
                b'L' => {
                    data.u8()?;
                }
                b'S' => is_signal = true,
                // Signed with the other key; tagged.
                b'B' | b'G' => {}
                _ => return None,
            }
        }
        Some(Cie { code_align, data_align, encoding, has_data, is_signal, program: bytes })
    }
}

/// How to get to the caller from `pc`, in the file that `file` covers, which stands at its
/// `.eh_frame_hdr`.
pub(super) fn rule(file: Bytes, pc: usize) -> Option<Rule> {
    let fde = search(file, pc)?;
    let mut bytes = file.from(fde)?;
    let len = bytes.u32()?;
    let mut bytes = bytes.take(usize::try_from(len).ok()?)?;
    let here = bytes.at;
    let back = usize::try_from(bytes.u32()?).ok().filter(|back| *back != 0)?;
    let cie = Cie::parse(file, here.checked_sub(back)?)?;
    let start = bytes.pointer(cie.encoding)?;
    let len = usize::try_from(bytes.sized(cie.encoding & 0x0f)?).ok()?;
    if pc.checked_sub(start)? >= len {
        return None;
    }
    if cie.has_data {
        bytes.block()?;
    }
    let blank =
        Rule { cfa: Cfa::Unknown, fp: Saved::Same, ra: Saved::Same, is_signal: cie.is_signal };
    let initial = run(&cie, cie.program, blank, blank, start, pc)?;
    run(&cie, bytes, initial, initial, start, pc)
}

/// The entry of the table for `pc`: pairs of a start and its description, sorted, as numbers from
/// the start of the table's section on. Every linker writes this form.
fn search(file: Bytes, pc: usize) -> Option<usize> {
    const VERSION: u8 = 1;
    /// 32 bits, unsigned; and signed from the start of the section on.
    const COUNT: u8 = 0x03;
    const TABLE: u8 = 0x3b;
    let base = file.at;
    let mut bytes = file;
    if bytes.u8()? != VERSION {
        return None;
    }
    let frames = bytes.u8()?;
    if (bytes.u8()?, bytes.u8()?) != (COUNT, TABLE) {
        return None;
    }
    bytes.sized(frames)?;
    let (mut low, mut high) = (0, usize::try_from(bytes.u32()?).ok()?);
    let table = bytes.at;
    let entry = |index: usize| -> Option<(usize, usize)> {
        let mut bytes = file.from(table.checked_add(index.checked_mul(8)?)?)?;
        let start = base.wrapping_add_signed(bytes.i32()? as isize);
        Some((start, base.wrapping_add_signed(bytes.i32()? as isize)))
    };
    // The last one that starts at or before `pc` is below `low`.
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(middle)?.0 <= pc {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    entry(low.checked_sub(1)?).map(|(_, fde)| fde)
}

/// Runs the instructions that hold up to `pc`.
fn run(
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

/// The registers that expressions may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    pub(super) pc: usize,
    pub(super) sp: usize,
    pub(super) fp: usize,
}

/// What an expression is worth: the few operations that compilers and linkers use for frames (a
/// realigned stack; the entries of the PLT).
pub(super) fn evaluate(
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

#[cfg(test)]
mod tests;
