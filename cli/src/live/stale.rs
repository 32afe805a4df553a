//! Pages that nobody publishes any more: a process that was killed leaves its own behind.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zonal_stats::live::{FOLDER, PageName};

use super::is_here;
use super::page::Page;
use crate::system::System;

/// Removes the pages of this user's processes that have ended. Without `/proc` nothing is known
/// about them, and all stay.
pub(crate) fn tidy() {
    if !Path::new("/proc/self/stat").exists() {
        return;
    }
    // SAFETY: takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let folder = format!("{FOLDER}{user}");
    // Everybody may write to `/dev/shm`: one that another made could be a link to anywhere.
    let is_own =
        |found: fs::Metadata| found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0;
    if !fs::symlink_metadata(&folder).is_ok_and(is_own) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Those of other containers that share the folder are none of ours.
        let name = entry.file_name().to_str().and_then(PageName::parse);
        let pid = name.filter(|name| is_here(*name)).and_then(|name| name.pid.try_into().ok());
        let Some(pid) = pid else { continue };
        if has_ended(pid) || is_of_another(&entry.path(), user, pid) {
            // Somebody else may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// `/proc` may hide processes; the kernel does not.
fn has_ended(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return true };
    // SAFETY: signal 0 only asks.
    let is_there = unsafe { libc::kill(pid, 0) } == 0;
    !is_there && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Whether the number belongs to another process by now. Where that cannot be told it does not.
fn is_of_another(path: &Path, user: u32, pid: u32) -> bool {
    let system = System::below("/", Some(pid));
    let Some(start) = system.start_ticks().filter(|_| system.shares_time()) else { return false };
    // One that is just being made cannot be mapped yet.
    let page = Page::open(path, user);
    let written = page.and_then(|page| page.look_at_head(zonal_stats::LivePage::start_ticks));
    let written = written.unwrap_or(0);
    written != 0 && written != start
}
