//! What of a snapshot is in memory.
//!
//! A process that publishes does not ask the kernel for itself: a seccomp filter may kill who asks.
//! Its reader may, by `/proc/PID/pagemap`, or by `move_pages` where there are several nodes. Neither
//! stops the process; the answer is of this moment, however old the snapshot is.
//!
//! What to ask about stands in the snapshot, which may be made to keep the reader busy: it asks about
//! no more pages than the process has address space, and not for longer than [`PATIENCE`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use zonal_stats::{MAX_NODES, PAGE_SIZE, Snapshot};

/// Pages of a pageblock.
const PAGES: u64 = 512;
/// In an entry of the page map: the page is in memory.
const IS_PRESENT: u64 = 1 << 63;

/// The kernel looks at some hundred GiB in that time.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pages by node.
type OnNodes = [u64; MAX_NODES];

/// Puts the kernel's word in the place of the process's accounts, unless they are the kernel's
/// already. On an error nothing has changed.
pub(super) fn ask(pid: u32, snapshot: &mut Box<Snapshot>) -> Result<()> {
    if snapshot.asked_kernel != 0 {
        return Ok(());
    }
    if snapshot.nr_sections_left_out > 0 {
        bail!("not all sections are known");
    }
    let map_bytes = snapshot.process.map_mapped_bytes;
    let sections = snapshot.sections().iter().map(|section| section.nr_committed);
    let nr_pages = sections.fold(map_bytes / PAGE_SIZE, u64::saturating_add);
    if nr_pages > address_space(pid)? / PAGE_SIZE {
        bail!("more than the process has");
    }
    let kernel = Kernel::of(pid, snapshot.nodes().len())?;
    let mut asked = snapshot.clone();
    let (mut resident, mut misplaced) = ([0; MAX_NODES], [0; MAX_NODES]);
    let nr_sections = asked.sections().len();
    for section in &mut asked.sections[..nr_sections] {
        let home = usize::try_from(section.node)?;
        section.nr_resident = 0;
        for block in 0..section.nr_committed.div_ceil(PAGES) {
            let nr_pages = PAGES.min(section.nr_committed - block * PAGES);
            let start = section.start.saturating_add(block * PAGES * PAGE_SIZE);
            let on = kernel.resident(start, nr_pages, home)?;
            let nr = on.iter().sum::<u64>();
            section.nr_resident += nr;
            if block < section.nr_pageblocks
                && let Some(slot) = section.first_pageblock.checked_add(block)
                && let Some(slot) = asked.pageblocks.get_mut(usize::try_from(slot)?)
            {
                slot.resident = u16::try_from(nr)?;
            }
            for (there, nr) in on.into_iter().enumerate() {
                resident[there] += nr * PAGE_SIZE;
                let elsewhere = misplaced.get_mut(home).context("no such node")?;
                *elsewhere += if there == home { 0 } else { nr * PAGE_SIZE };
            }
        }
    }
    let in_map: u64 = kernel.resident_range(asked.map_start, map_bytes / PAGE_SIZE)?;
    let meta = &mut asked.process.meta_resident_bytes;
    *meta = meta.saturating_sub(map_bytes) + in_map * PAGE_SIZE;
    let nr_nodes = asked.nodes().len();
    for node in &mut asked.nodes[..nr_nodes] {
        let id = usize::try_from(node.id)?;
        node.memory.resident_bytes = *resident.get(id).context("no such node")?;
        node.memory.misplaced_bytes = misplaced[id];
        node.memory.settle();
    }
    asked.asked_kernel = 1;
    *snapshot = asked;
    Ok(())
}

/// Bytes of all that the process has mapped.
fn address_space(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = text.split_whitespace().next().context("no statm")?.parse()?;
    pages.checked_mul(os_page()).context("no such size")
}

fn os_page() -> u64 {
    // SAFETY: only asks.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs()
}

/// Who answers, in pages of the OS, and until when.
struct Kernel {
    by: By,
    os_page: u64,
    deadline: Instant,
}

enum By {
    /// Whether a page is in memory.
    Pagemap(File),
    /// On which node a page is in memory.
    MovePages(libc::pid_t),
}

impl Kernel {
    fn of(pid: u32, nr_nodes: usize) -> Result<Kernel> {
        let file = File::open(format!("/proc/{pid}/pagemap"))?;
        let by = By::MovePages(libc::pid_t::try_from(pid)?);
        let kernel = Kernel { by, os_page: os_page(), deadline: Instant::now() + PATIENCE };
        let tells_nodes = nr_nodes > 1 && kernel.resident(kernel.os_page, 1, 0).is_ok();
        Ok(if tells_nodes { kernel } else { Kernel { by: By::Pagemap(file), ..kernel } })
    }

    /// Pages from `start` on that are in memory, at most those of a pageblock: by node, or all of
    /// them on `home`.
    fn resident(&self, start: u64, nr_pages: u64, home: usize) -> Result<OnNodes> {
        if Instant::now() > self.deadline {
            bail!("more than can be asked about");
        }
        let unit = self.os_page / PAGE_SIZE;
        let mut on = [0; MAX_NODES];
        let mut count = |node: usize, nr| on.get_mut(node).map(|sum| *sum += nr);
        match self.by {
            By::Pagemap(ref file) => {
                let mut bytes = [0; 8 * PAGES as usize];
                let entries = bytes.get_mut(..8 * usize::try_from(nr_pages.div_ceil(unit))?);
                let entries = entries.context("more than a pageblock")?;
                file.read_exact_at(entries, start / self.os_page * 8)?;
                let present = entries.chunks_exact(8).filter(|entry| {
                    let entry = <[u8; 8]>::try_from(*entry).map_or(0, u64::from_ne_bytes);
                    entry & IS_PRESENT != 0
                });
                count(home, present.count() as u64 * unit).context("no such node")?;
            }
            By::MovePages(pid) => {
                for node in nodes_of(pid, start, nr_pages.div_ceil(unit), self.os_page)? {
                    // What is negative says why there is no page.
                    if let Ok(node) = usize::try_from(node) {
                        count(node, unit).context("no such node")?;
                    }
                }
            }
        }
        Ok(on)
    }

    /// Pages in memory of a range of any length.
    fn resident_range(&self, start: u64, nr_pages: u64) -> Result<u64> {
        let mut sum = 0;
        for first in (0..nr_pages).step_by(PAGES as usize) {
            let on = self.resident(
                start.saturating_add(first * PAGE_SIZE),
                PAGES.min(nr_pages - first),
                0,
            )?;
            sum += on.iter().sum::<u64>();
        }
        Ok(sum)
    }
}

/// The node of each page, or a negative number.
fn nodes_of(pid: libc::pid_t, start: u64, count: u64, os_page: u64) -> Result<Vec<i32>> {
    let pages: Vec<u64> = (0..count).map(|page| start.saturating_add(page * os_page)).collect();
    let mut status = vec![0_i32; pages.len()];
    let no_nodes = ptr::null::<i32>();
    // SAFETY: both tables are as long as the number says; without nodes nothing moves.
    let answer = unsafe {
        let (pages, status) = (pages.as_ptr(), status.as_mut_ptr());
        libc::syscall(libc::SYS_move_pages, pid, count, pages, no_nodes, status, 0)
    };
    if answer < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command's own memory: pages that were touched are there, on whatever node, others not.
    #[test]
    fn touched_pages_are_in_memory() {
        const NR: usize = 700;
        let len = NR * PAGE_SIZE as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping of our own.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: as above; huge pages would be touched as a whole.
        assert_eq!(unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) }, 0);
        for page in (0..NR).step_by(7) {
            // SAFETY: inside the mapping.
            unsafe { start.cast::<u8>().add(page * PAGE_SIZE as usize).write_volatile(1) };
        }
        for nr_nodes in [1, 2] {
            let kernel = Kernel::of(std::process::id(), nr_nodes).unwrap();
            let found = kernel.resident_range(start as u64, NR as u64).unwrap();
            assert_eq!(found, NR.div_ceil(7) as u64);
        }
    }

    #[test]
    fn the_kernels_word_takes_the_place_of_the_accounts() {
        const NR: u64 = 10;
        let memory = vec![1_u8; ((NR + 1) * PAGE_SIZE) as usize];
        let mut snapshot = Box::<Snapshot>::default();
        (snapshot.nr_nodes, snapshot.nr_sections) = (1, 1);
        snapshot.sections[0].start = (memory.as_ptr() as u64).next_multiple_of(PAGE_SIZE);
        (snapshot.sections[0].nr_pages, snapshot.sections[0].nr_committed) = (NR, NR);
        let node = &mut snapshot.nodes[0].memory;
        node.used_large_bytes = (NR + 5) * PAGE_SIZE;
        node.resident_bytes = node.used_large_bytes;
        ask(std::process::id(), &mut snapshot).unwrap();
        let node = &snapshot.nodes[0].memory;
        assert_eq!(node.resident_bytes, NR * PAGE_SIZE);
        assert_eq!(node.untouched_bytes, 5 * PAGE_SIZE);
        assert_eq!((snapshot.sections[0].nr_resident, snapshot.asked_kernel), (NR, 1));
        snapshot.nr_sections_left_out = 1;
        snapshot.asked_kernel = 0;
        assert!(ask(std::process::id(), &mut snapshot).is_err());
    }

    /// The time that this thread had a processor: on a busy machine it waits for one, too.
    fn worked() -> Duration {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is writable.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
        Duration::new(now.tv_sec.unsigned_abs(), 0)
            + Duration::from_nanos(now.tv_nsec.unsigned_abs())
    }

    /// Whoever writes the page may write anything: no figure of it is followed for long, or out of a
    /// table.
    #[test]
    fn nonsense_is_not_asked_about() {
        let whole = |change: fn(&mut Snapshot)| {
            let mut snapshot = Box::<Snapshot>::default();
            (snapshot.nr_nodes, snapshot.nr_sections) = (2, 2);
            change(&mut snapshot);
            let before = worked();
            let answer = ask(std::process::id(), &mut snapshot);
            let took = worked() - before;
            assert!(took < PATIENCE / 2, "{took:?}");
            (answer.is_ok(), snapshot.asked_kernel)
        };
        assert_eq!(whole(|_| {}), (true, 1));
        assert_eq!(whole(|page| page.sections[1].nr_committed = u64::MAX), (false, 0));
        assert_eq!(whole(|page| page.sections[1].nr_committed = 1 << 34), (false, 0));
        assert_eq!(whole(|page| page.process.map_mapped_bytes = 1 << 50), (false, 0));
        for node in [64, u64::MAX] {
            let mut snapshot = Box::<Snapshot>::default();
            (snapshot.nr_nodes, snapshot.nr_sections) = (2, 1);
            (snapshot.sections[0].node, snapshot.sections[0].nr_committed) = (node, 1);
            assert!(ask(std::process::id(), &mut snapshot).is_err());
            (snapshot.sections[0].node, snapshot.nodes[1].id) = (0, node);
            snapshot.sections[0].start = u64::MAX;
            assert!(ask(std::process::id(), &mut snapshot).is_err());
        }
    }
}
