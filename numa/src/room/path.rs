//! A path put together on the stack.

use core::ffi::CStr;

/// Room for the deepest groups that are worth following.
const LONGEST: usize = 512;

pub(super) struct Path([u8; LONGEST]);

impl Path {
    /// The parts, one after the other; none if that is too long.
    pub(super) fn of(parts: &[&[u8]]) -> Option<Path> {
        let mut bytes = [0; LONGEST];
        let mut at = 0;
        for part in parts {
            // The last byte stays zero.
            bytes[..LONGEST - 1].get_mut(at..at + part.len())?.copy_from_slice(part);
            at += part.len();
        }
        Some(Path(bytes))
    }

    pub(super) fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_and_too_long_a_path_is_none() {
        let path = Path::of(&[b"/a", b"/bc", b"/", b"d"]).unwrap();
        assert_eq!(path.as_c_str(), Some(c"/a/bc/d"));
        assert!(Path::of(&[&[b'x'; LONGEST]]).is_none());
        let full = Path::of(&[&[b'x'; LONGEST - 1]]).unwrap();
        assert_eq!(full.as_c_str().map(|s| s.count_bytes()), Some(LONGEST - 1));
    }
}
