//! Transparent huge pages: what the system's switch says.

/// The setting in `/sys/kernel/mm/transparent_hugepage/enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ThpMode {
    /// Every suitable mapping gets huge pages.
    Always = 1,
    /// Only mappings that ask for them.
    Madvise = 2,
    /// No mapping gets them.
    Never = 3,
    /// The file is absent, forbidden or odd.
    Unknown = 4,
}

impl ThpMode {
    /// Where the switch stands.
    pub(crate) const PATH: &core::ffi::CStr = c"/sys/kernel/mm/transparent_hugepage/enabled";

    /// Reads the switch: the setting in force stands in brackets.
    pub(crate) fn parse(text: &[u8]) -> ThpMode {
        let mut marked = text.split(|&b| b == b'[' || b == b']').skip(1);
        match marked.next() {
            Some(b"always") => ThpMode::Always,
            Some(b"madvise") => ThpMode::Madvise,
            Some(b"never") => ThpMode::Never,
            _ => ThpMode::Unknown,
        }
    }

    /// Out of the byte that [`ThpMode`] was stored as; none for other bytes.
    pub(crate) fn from_u8(byte: u8) -> Option<ThpMode> {
        [ThpMode::Always, ThpMode::Madvise, ThpMode::Never, ThpMode::Unknown]
            .into_iter()
            .find(|&mode| mode as u8 == byte)
    }
}
