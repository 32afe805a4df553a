//! The kernel's files about the machine and one process, as plain text.
//!
//! All paths hang below one root, which is `/` except in tests.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// Why nothing can be said about a process.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// It has ended, or never was.
    NoSuchProcess(u32),
    /// It belongs to somebody else, or is protected.
    Denied(u32),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProcess(pid) => write!(f, "{pid}: no such process"),
            Self::Denied(pid) => write!(f, "{pid}: permission denied: not a process of yours"),
        }
    }
}

impl std::error::Error for Unreachable {}

/// The machine, and the process that is looked at: by number, or this command itself, whose limits
/// a program started from the same shell would inherit.
#[derive(Debug, Clone)]
pub(crate) struct System {
    root: PathBuf,
    pid: Option<u32>,
}

impl System {
    /// This machine, and this command itself.
    pub(crate) fn own() -> Self {
        Self::below("/", None)
    }

    /// This machine and process `pid`, which must be there and be ours to look at.
    pub(crate) fn process(pid: u32) -> Result<Self, Unreachable> {
        let system = Self::below("/", Some(pid));
        // What only its owner may read tells "not ours" apart from "not there".
        match fs::read(system.path("maps")) {
            // One that has ended, and that nobody has taken note of yet, still has its files.
            Ok(_) if system.start_ticks().is_some() => Ok(system),
            Ok(_) => Err(Unreachable::NoSuchProcess(pid)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Unreachable::Denied(pid))
            }
            Err(_) => Err(Unreachable::NoSuchProcess(pid)),
        }
    }

    /// A machine whose `/proc` and `/sys` are below `root`.
    pub(crate) fn below(root: impl Into<PathBuf>, pid: Option<u32>) -> Self {
        Self { root: root.into(), pid }
    }

    /// A file of the machine, by its absolute path; none if it cannot be read.
    pub(crate) fn machine(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()
    }

    /// A number in a file of the machine.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.machine(path)?.trim().parse().ok()
    }

    /// A file of the process's folder in `/proc`.
    pub(crate) fn of_process(&self, file: &str) -> Option<String> {
        let bytes = fs::read(self.path(file)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// That file of each of its threads.
    pub(crate) fn of_threads(&self, file: &str) -> Vec<String> {
        let Ok(tasks) = fs::read_dir(self.path("task")) else { return Vec::new() };
        let paths = tasks.filter_map(|task| Some(task.ok()?.path().join(file)));
        let texts = paths.filter_map(|path| fs::read(path).ok());
        texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    /// A field of `/proc/PID/status`.
    pub(crate) fn status(&self, field: &str) -> Option<String> {
        value(&self.of_process("status")?, field)
    }

    /// A field of `/proc/meminfo`, in bytes.
    pub(crate) fn meminfo(&self, field: &str) -> Option<u64> {
        let text = value(&self.machine("/proc/meminfo")?, field)?;
        let kib: u64 = text.split_whitespace().next()?.parse().ok()?;
        Some(kib << 10)
    }

    /// A variable of the environment that the process was started with.
    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        let block = fs::read(self.path("environ")).ok()?;
        let entries = block.split(|&byte| byte == 0);
        let mut values = entries.filter_map(|entry| {
            entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
        });
        values.next().map(OsString::from_vec)
    }

    /// A path that reaches the file the process was started from, even if that was replaced.
    pub(crate) fn executable(&self) -> PathBuf {
        self.path("exe")
    }

    /// When the process started, in ticks since the start of the machine; none once it has ended.
    pub(crate) fn start_ticks(&self) -> Option<u64> {
        let text = self.of_process("stat")?;
        // The name stands in parentheses and may hold anything.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(start)
    }

    /// Whether the process counts ticks as this command does: the kernel shifts what it tells about any
    /// process by the time namespace of who reads. Before Linux 5.6 there are none.
    pub(crate) fn shares_time(&self) -> bool {
        let of = |system: &Self| fs::read_link(system.path("ns/time")).ok();
        of(self) == of(&Self { pid: None, ..self.clone() })
    }

    /// The user whose files the process's are.
    pub(crate) fn effective_user(&self) -> Option<u32> {
        self.status("Uid")?.split_whitespace().nth(1)?.parse().ok()
    }

    /// Does `work` with no more rights to files than the process's user has: what root does at a place
    /// that the process names, it could otherwise be made to do anywhere.
    pub(crate) fn with_its_rights<R>(&self, work: impl FnOnce() -> R) -> R {
        let numbers = |field| {
            let text = self.status(field).unwrap_or_default();
            text.split_whitespace().map_while(|word| word.parse().ok()).collect::<Vec<u32>>()
        };
        match self.effective_user() {
            Some(user) => {
                let group = numbers("Gid").get(1).copied();
                with_rights_of(user, group, &numbers("Groups"), work)
            }
            None => work(),
        }
    }

    /// The number by which the process knows itself, inside its container.
    pub(crate) fn number_inside(&self) -> Option<u32> {
        self.status("NSpid")?.split_whitespace().last()?.parse().ok()
    }

    /// The pid namespace in which the process has that number.
    pub(crate) fn pid_namespace(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(self.path("ns/pid")).ok().map(|file| file.ino())
    }

    /// The process's name for people.
    pub(crate) fn name(&self) -> String {
        self.of_process("comm").map_or_else(|| "?".into(), |name| printable(name.trim_end()))
    }

    /// Files that are mapped in the process, in order of address; neighbouring parts of one count once.
    pub(crate) fn mapped_files(&self) -> Vec<String> {
        let maps = self.of_process("maps").unwrap_or_default();
        let mut files: Vec<_> =
            maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..])).collect();
        files.dedup();
        files.into_iter().map(str::to_owned).collect()
    }

    /// Whether the process has zonal's library.
    pub(crate) fn has_library(&self) -> bool {
        self.mapped_files().iter().any(|file| is_library(file))
    }

    fn path(&self, file: &str) -> PathBuf {
        let folder = self.pid.map_or_else(|| "self".into(), |pid| pid.to_string());
        self.root.join("proc").join(folder).join(file)
    }
}

/// Whether a mapped file is zonal's library, be it the one that stands there now or one before it.
pub(crate) fn is_library(file: &str) -> bool {
    let path = file.strip_suffix(" (deleted)").unwrap_or(file);
    Path::new(path).file_name().is_some_and(|name| name == "libzonal.so")
}

/// Does `work` with the rights to files of a user, of a group, and of the further groups `others` in
/// place of the caller's; a caller that is not root has no others than its own anyway.
pub(crate) fn with_rights_of<R>(
    user: u32,
    group: Option<u32>,
    others: &[u32],
    work: impl FnOnce() -> R,
) -> R {
    let groups_before = own_groups().filter(|_| set_groups(others));
    // SAFETY: these change the ids by which this thread opens files, or nothing where it may not, and
    // answer those before.
    let before = unsafe { (group.map(|group| libc::setfsgid(group)), libc::setfsuid(user)) };
    let result = work();
    // SAFETY: as above.
    unsafe {
        libc::setfsuid(before.1.cast_unsigned());
        before.0.map(|group| libc::setfsgid(group.cast_unsigned()));
    }
    groups_before.map(|groups| set_groups(&groups));
    result
}

/// The further groups of this thread.
fn own_groups() -> Option<Vec<u32>> {
    // SAFETY: asks for their number only.
    let nr = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut groups = vec![0; usize::try_from(nr).ok()?];
    // SAFETY: there is room for as many.
    let nr = unsafe { libc::getgroups(nr, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(nr).ok()?);
    Some(groups)
}

/// Gives this thread other ones: libc's function would change those of all threads. False, and nothing
/// changed, for who may not.
fn set_groups(groups: &[u32]) -> bool {
    // SAFETY: reads as many numbers as there are.
    unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0 }
}

/// The text without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// The value of `field` in lines of `field: value`.
fn value(text: &str, field: &str) -> Option<String> {
    let rest = |line: &str| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned());
    text.lines().find_map(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that only a group may read, and a thread of root's that is in that group.
    #[test]
    fn the_groups_of_the_caller_give_no_rights() {
        const GROUP: u32 = 54_321;
        const NOBODY: u32 = 65_534;
        if !set_groups(&[GROUP]) {
            println!("skipped: not run by root");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::chown(file.path(), Some(0), Some(GROUP)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o040);
        fs::set_permissions(file.path(), mode).unwrap();
        let opens = |groups: &[u32]| {
            with_rights_of(NOBODY, Some(NOBODY), groups, || fs::File::open(file.path()).is_ok())
        };
        assert!(!opens(&[]) && !opens(&[GROUP + 1]) && opens(&[GROUP + 1, GROUP]));
        assert_eq!(own_groups(), Some(vec![GROUP]));
        assert!(fs::File::open(file.path()).is_ok());
    }
}
