//! Reading the numbers that these tables are made of.

use core::ptr;

/// Bytes of a loaded file, read one after the other.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Bytes {
    start: usize,
    pub(super) at: usize,
    end: usize,
}

macro_rules! fixed {
    ($name:ident, $type:ty) => {
        pub(in super::super) fn $name(&mut self) -> Option<$type> {
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
    pub(in super::super) unsafe fn new(start: usize, at: usize, end: usize) -> Bytes {
        Bytes { start, at, end }
    }

    /// The same file from another place on.
    pub(super) fn from(self, at: usize) -> Option<Bytes> {
        (at >= self.start).then_some(Bytes { at, ..self })
    }

    /// The next `len` bytes, which are stepped over.
    pub(super) fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.end)?;
        let part = Bytes { end, ..*self };
        self.at = end;
        Some(part)
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    fixed!(u8, u8);
    fixed!(u16, u16);
    fixed!(u32, u32);
    fixed!(i32, i32);
    fixed!(u64, u64);

    pub(in super::super) fn uleb(&mut self) -> Option<u64> {
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

    pub(in super::super) fn sleb(&mut self) -> Option<i64> {
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
    pub(super) fn sized(&mut self, encoding: u8) -> Option<i64> {
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
    pub(super) fn pointer(&mut self, encoding: u8) -> Option<usize> {
        let base = match encoding & 0xf0 {
            0x00 => 0,
            0x10 => self.at,
            _ => return None,
        };
        Some(base.wrapping_add_signed(self.sized(encoding)? as isize))
    }

    /// The bytes of an expression.
    pub(super) fn block(&mut self) -> Option<Bytes> {
        let len = self.uleb()?;
        self.take(usize::try_from(len).ok()?)
    }
}
