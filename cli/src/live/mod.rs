//! The statistics that a process publishes in a file of its user's, from outside.
//!
//! The process is neither stopped nor traced: a fresh snapshot is asked for by a word in the file, and
//! what is there is read ([`zonal_stats::live`]). What of it is in memory the kernel tells
//! ([`resident`]).
//!
//! The process may be anybody's, and mean harm to a reader that is root. So the file is opened with the
//! rights of the user whose it is, copied, not mapped, and none of the figures is trusted.

mod page;
mod resident;
mod stale;

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use zonal_stats::Snapshot;
use zonal_stats::live::{FOLDER, PageName, Unfit};

use crate::system::{self, System};
use page::Page;
pub(crate) use stale::tidy;

/// How long to wait for a process to write what was asked for. One that sleeps does not; then
/// the last that it wrote is the newest there is.
const PATIENCE: Duration = Duration::from_millis(150);

/// Why there is nothing to read.
#[derive(Debug)]
pub(crate) enum Silent {
    /// zonal is not in the process.
    NotOnZonal(u32),
    /// zonal is in it, but was not asked to publish.
    NotPublished(u32),
    /// The process has not written anything yet.
    NothingYet(u32),
    /// The page was written by a zonal of another version.
    OtherVersion(u32),
    /// The page cannot be read.
    Unreadable(u32, io::Error),
    /// The process has ended.
    Ended(u32),
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnZonal(pid) => {
                write!(f, "{pid}: zonal is not in this process; `zonal doctor {pid}` tells why")
            }
            Self::NotPublished(pid) => write!(
                f,
                "{pid}: the process publishes no statistics; start it by `zonal run`, or with \
                 ZONAL_CONF=stats:live"
            ),
            Self::NothingYet(pid) => {
                write!(f, "{pid}: the process has published nothing yet: it allocated very little")
            }
            Self::OtherVersion(pid) => {
                write!(f, "{pid}: the process runs on another version of zonal than this command's")
            }
            Self::Unreadable(pid, error) => write!(f, "{pid}: its statistics: {error}"),
            Self::Ended(pid) => write!(f, "{pid}: the process has ended"),
        }
    }
}

impl std::error::Error for Silent {}

/// A process that publishes.
#[derive(Debug)]
pub(crate) struct Live {
    pid: u32,
    system: System,
    page: Page,
    start_ticks: u64,
}

impl Live {
    /// The page of process `pid`.
    pub(crate) fn open(pid: u32) -> Result<Self> {
        tidy();
        let system = System::process(pid)?;
        let page = match find(pid, &system) {
            Ok(Some(page)) => page,
            Ok(None) => return Err(why_silent(pid, &system).into()),
            Err(error) => return Err(Silent::Unreadable(pid, error).into()),
        };
        let head = page.look_at_head(|page| page.check().map(|()| page.start_ticks()));
        let written = match head.map_err(|error| Silent::Unreadable(pid, error))? {
            Ok(ticks) => ticks,
            Err(Unfit::OtherLayout) => return Err(Silent::OtherVersion(pid).into()),
            Err(Unfit::NotAPage) => return Err(Silent::NotPublished(pid).into()),
        };
        let Some(start_ticks) = system.start_ticks() else { return Err(Silent::Ended(pid).into()) };
        // The number may have belonged to another process, which left its page behind.
        if written != 0 && written != start_ticks && system.shares_time() {
            return Err(why_silent(pid, &system).into());
        }
        Ok(Self { pid, system, page, start_ticks })
    }

    /// Asks all of them for fresh figures, and waits a little for those who write some.
    pub(crate) fn ask_all(lives: &[Live]) {
        let asked: Vec<_> =
            lives.iter().filter_map(|live| Some((&live.page, live.page.ask().ok()?))).collect();
        wait(&asked, PATIENCE);
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The process's name for people.
    pub(crate) fn name(&self) -> String {
        self.system.name()
    }

    /// The newest snapshot that is there without much waiting.
    pub(crate) fn read(&self) -> Result<Box<Snapshot>> {
        self.read_within(PATIENCE)
    }

    /// The newest snapshot, when the process writes one within this time; else the last.
    pub(crate) fn read_within(&self, patience: Duration) -> Result<Box<Snapshot>> {
        if self.system.start_ticks() != Some(self.start_ticks) {
            return Err(Silent::Ended(self.pid).into());
        }
        let request = self.page.ask().map_err(|error| Silent::Unreadable(self.pid, error))?;
        wait(&[(&self.page, request)], patience);
        self.last()
    }

    /// The last snapshot that the process wrote.
    pub(crate) fn last(&self) -> Result<Box<Snapshot>> {
        let mut snapshot = Box::<Snapshot>::default();
        // Torn by a publisher that is at it: it will not be the next time.
        for _ in 0..20 {
            let is_read = self.page.read(&mut snapshot);
            if is_read.map_err(|error| Silent::Unreadable(self.pid, error))? {
                // Where the kernel does not say, zonal's own accounts stand.
                let _ = resident::ask(self.pid, &mut snapshot);
                return Ok(snapshot);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Silent::NothingYet(self.pid).into())
    }

    /// How old a snapshot is: processes that sleep write none.
    pub(crate) fn age(snapshot: &Snapshot) -> Duration {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is writable.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        let now = Duration::new(now.tv_sec.unsigned_abs(), 0)
            + Duration::from_nanos(now.tv_nsec.unsigned_abs());
        now.saturating_sub(Duration::from_nanos(snapshot.taken_ns))
    }

    /// Processes whose pages this user may read; some may have ended.
    pub(crate) fn all() -> Vec<u32> {
        let pages = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let (parent, prefix) = FOLDER.rsplit_once('/').unwrap_or(("/", FOLDER));
        let mut found: Vec<u32> = pages(parent.into())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .flat_map(|entry| pages(entry.path()))
            .filter_map(|entry| PageName::parse(entry.file_name().to_str()?))
            .filter(|name| is_here(*name))
            .filter_map(|name| name.pid.try_into().ok())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Until all requests are served, or the time is over.
fn wait(asked: &[(&Page, u64)], patience: Duration) {
    let deadline = Instant::now() + patience;
    while !asked.iter().all(|(page, request)| page.is_served(*request)) && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The page that the process has mapped; `execve` takes it away. Looks in the process's own file
/// system first: it may live in a container, where it has another number, too.
fn find(pid: u32, system: &System) -> io::Result<Option<Page>> {
    let names = names(pid, system);
    let mut refused = None;
    for file in system.mapped_files() {
        let found = names.iter().find_map(|name| Some((owner(&file, name)?, name)));
        let Some((user, name)) = found else { continue };
        for root in [format!("/proc/{pid}/root"), String::new()] {
            let path = format!("{root}{FOLDER}{user}/{name}");
            // Users have other numbers in a container, too.
            for user in [system.effective_user(), Some(user)].into_iter().flatten() {
                let open = || Page::open(path.as_ref(), user);
                match system::with_rights_of(user, None, &[], open) {
                    Ok(page) => return Ok(Some(page)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => refused = Some(error),
                }
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

/// The user in whose folder the file lies, if it is a page of that name: the process's own, or the one
/// that it was before it dropped its rights.
fn owner(file: &str, name: &PageName) -> Option<u32> {
    let file = file.strip_suffix(" (deleted)").unwrap_or(file);
    let folder = file.strip_suffix(&format!("/{name}"))?;
    folder.rsplit_once(FOLDER)?.1.parse().ok()
}

/// The names that the page may have: a process without `/proc` does not know its namespace.
fn names(pid: u32, system: &System) -> [PageName; 2] {
    let pid = u64::from(system.number_inside().unwrap_or(pid));
    [system.pid_namespace().unwrap_or(0), 0].map(|namespace| PageName { pid, namespace })
}

/// Whether the number in the name is one that this command has for the process, too.
fn is_here(name: PageName) -> bool {
    let own = System::own().pid_namespace();
    name.namespace == 0 || own.is_none_or(|own| own == name.namespace)
}

fn why_silent(pid: u32, system: &System) -> Silent {
    if system.has_library() { Silent::NotPublished(pid) } else { Silent::NotOnZonal(pid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_lies_in_the_folder_of_a_user() {
        let name = PageName { pid: 17, namespace: 4 };
        let of = |file| owner(file, &name);
        assert_eq!(of("/dev/shm/zonal-1000/17.4"), Some(1000));
        assert_eq!(of("/dev/shm/zonal-0/17.4 (deleted)"), Some(0));
        assert_eq!(of("/container/dev/shm/zonal-7/17.4"), Some(7));
        for file in ["/dev/shm/zonal-0/7.4", "/dev/shm/zonal-x/17.4", "/tmp/17.4", "17.4"] {
            assert_eq!(of(file), None, "{file}");
        }
    }
}
