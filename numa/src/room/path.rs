//! A path put together on the stack.

use core::ffi::CStr;

/// Room for the deepest groups that are worth following.
const LONGEST: usize = 512;

pub(super) struct Path([u8; LONGEST]);

impl Path {
    pub(super) fn new() -> Path {
        Path([0; LONGEST])
    }

    /// Makes it the parts, one after the other; none if that is too long.
    pub(super) fn join(&mut self, parts: &[&[u8]]) -> Option<&CStr> {
        let mut at = 0;
        for part in parts {
            // One byte is left for the end.
            self.0[..LONGEST - 1].get_mut(at..at + part.len())?.copy_from_slice(part);
            at += part.len();
        }
        self.0[at] = 0;
        self.as_c_str()
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
        let mut path = Path::new();
        assert!(path.join(&[&[b'x'; LONGEST]]).is_none());
        let full = path.join(&[&[b'x'; LONGEST - 1]]);
        assert_eq!(full.map(|s| s.count_bytes()), Some(LONGEST - 1));
        assert_eq!(path.join(&[b"/a", b"/bc", b"/", b"d"]), Some(c"/a/bc/d"));
        assert_eq!(path.as_c_str(), Some(c"/a/bc/d"));
    }
}
