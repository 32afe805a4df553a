//! A process that publishes statistics: this test itself. What the allocator publishes is tested
//! elsewhere; here it is what the command makes of it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use zonal_stats::live::{FOLDER, PAGE_BYTES, PageName};
use zonal_stats::{LivePage, Pageblock, Section, Snapshot};

const MIB: u64 = 1 << 20;

/// Publishes until it is dropped.
pub(crate) struct Publisher {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

static STOP: AtomicBool = AtomicBool::new(false);

impl Publisher {
    /// One for the whole test process: the page is named by it.
    pub(crate) fn start() -> Self {
        // SAFETY: takes nothing and cannot fail.
        let user = unsafe { libc::geteuid() };
        let folder = PathBuf::from(format!("{FOLDER}{user}"));
        // As the library makes it: it takes no folder that is open to others.
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
        let namespace = fs::metadata("/proc/self/ns/pid").unwrap().ino();
        let name = PageName { pid: u64::from(std::process::id()), namespace };
        let path = folder.join(name.to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.set_len(PAGE_BYTES as u64).unwrap();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, of no one else's memory.
        let start = unsafe {
            let fd = file.as_raw_fd();
            libc::mmap(ptr::null_mut(), PAGE_BYTES, protection, libc::MAP_SHARED, fd, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: zeros are a page, and it is never unmapped.
        let page: &'static LivePage = unsafe { &*start.cast::<LivePage>() };
        page.describe(u64::from(std::process::id()), start_ticks());
        let thread = std::thread::spawn(move || {
            let mut round = 0;
            while !STOP.load(Ordering::Relaxed) {
                round += 1;
                page.publish(&snapshot(round));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { path, thread: Some(thread) }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        STOP.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = fs::remove_file(&self.path);
    }
}

/// When this process started, as its `/proc` tells.
fn start_ticks() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = text.rsplit_once(')').unwrap().1.split_whitespace();
    fields.nth(19).unwrap().parse().unwrap()
}

/// Figures that the screen must show.
fn snapshot(round: u64) -> Box<Snapshot> {
    let mut snapshot = Box::<Snapshot>::default();
    let pages = |mib: u64| mib * MIB / 4096;
    snapshot.version[..5].copy_from_slice(b"0.1.0");
    snapshot.pid = u64::from(std::process::id());
    // The figures are made up: nobody shall ask the kernel about them.
    snapshot.asked_kernel = 1;
    // A hundred a second, far ahead of any clock: never old.
    snapshot.taken_ns = (1 << 60) + round * 10_000_000;
    (snapshot.process.limit, snapshot.process.low) = (pages(2048), pages(64));
    snapshot.process.nr_heaps = 5;
    snapshot.nr_nodes = 1;
    let node = &mut snapshot.nodes[0];
    node.zone.nr_charged = pages(700);
    node.zone.nr_out = pages(600);
    node.memory.used_small_bytes = 640 * MIB;
    node.memory.resident_bytes = 700 * MIB;
    node.free_area[4][1][1] = 4321;
    node.events.allocstall = round;
    snapshot.nr_classes = 1;
    let class = &mut snapshot.classes[0];
    (class.size, class.slab_pages, class.nr_slabs, class.nr_objects) = (48, 8, 7, 4777);
    snapshot.nr_sections = 1;
    snapshot.nr_pageblocks = 4;
    snapshot.sections[0] = Section {
        start: 0x7f00_0000_0000,
        nr_pages: 2048,
        nr_committed: 2048,
        nr_pageblocks: 4,
        ..Section::default()
    };
    snapshot.pageblocks[0] = Pageblock { slab: 512, ..Pageblock::default() };
    snapshot.pageblocks[1] = Pageblock { large: 100, ..Pageblock::default() };
    snapshot
}
