//! Where a live page lies: one folder a user, one name a process.

use core::fmt;

/// The folder of a user's live pages is this with the user's number.
pub const FOLDER: &str = "/dev/shm/zonal-";

/// The name of a page in its folder, `PID.NAMESPACE`: containers may share the folder, and each
/// numbers its processes from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageName {
    /// The process, as it numbers itself.
    pub pid: u64,
    /// The inode of `/proc/PID/ns/pid`; 0 where the process has no `/proc`.
    pub namespace: u64,
}

impl PageName {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<PageName> {
        let (pid, namespace) = text.split_once('.')?;
        Some(PageName { pid: pid.parse().ok()?, namespace: namespace.parse().ok()? })
    }
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pid, self.namespace)
    }
}

#[cfg(all(test, not(zonal_loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = PageName { pid: 17, namespace: 4_026_531_836 };
        assert_eq!(PageName::parse(&std::format!("{name}")), Some(name));
        for other in ["", "17", "17.", ".1", "17.x", "-1.2", "1.2.3"] {
            assert_eq!(PageName::parse(other), None, "{other}");
        }
    }
}
