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
//!
//! Reading order: [`rule`] finds a function's description, [`program`] runs it up to the place,
//! [`expression`] works out what it says; [`bytes`] reads.

mod bytes;
mod expression;
mod program;

pub(super) use bytes::Bytes;
pub(super) use expression::{Registers, evaluate};

use program::run;

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

#[cfg(test)]
mod tests;
