//! The file of the live page: `/dev/shm/zonal-UID/PID.NAMESPACE`.
//!
//! Everybody may write to `/dev/shm`, so the folder of a user is taken only if it is a folder, the
//! user's own, and closed to all others; no link is followed. The file is made anew, never opened:
//! one that is there is of a process that is dead or has become this one by `execve`.
//!
//! Touching a page for which the file system has no room is a SIGBUS. So the pages of the file are
//! asked for by a call that fails instead (`MADV_POPULATE_WRITE`, Linux 5.14), or, where there is
//! none, all at once when the file is made.

use core::ffi::CStr;
use core::fmt::Write as _;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use zonal_stats::LivePage;
use zonal_stats::live::{FOLDER, PAGE_BYTES, PageName};

use crate::errno;

/// Without so many pages in the folder, which processes that were killed leave behind, no more are
/// made until a reader has removed them. tmpfs tells the size of a folder as 20 bytes an entry.
const MOST_ENTRIES: i64 = 1024;
const ENTRY_BYTES: i64 = 20;
/// Pages of the OS are not larger.
const LARGEST_OS_PAGE: usize = 64 << 10;

/// Whose folder it is: the user may change until the file goes.
static USER: AtomicU32 = AtomicU32::new(0);
/// Where the process has its number, as [`PageName`] has it.
static NAMESPACE: AtomicU64 = AtomicU64::new(0);
/// Pages of the file that can be touched, one bit each.
static POPULATED: AtomicU64 = AtomicU64::new(0);
const _: () = assert!(PAGE_BYTES.div_ceil(4096) <= 64);

/// Text that ends in null.
struct Path {
    bytes: [u8; 64],
    len: usize,
}

impl Path {
    const EMPTY: Path = Path { bytes: [0; 64], len: 0 };

    fn folder() -> Path {
        let mut path = Path::EMPTY;
        let user = USER.load(Relaxed);
        // It fits: a number has ten digits.
        let _ = write!(path, "{FOLDER}{user}");
        path
    }

    fn name(pid: u64) -> Path {
        let mut path = Path::EMPTY;
        let _ = write!(path, "{}", PageName { pid, namespace: NAMESPACE.load(Relaxed) });
        path
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl core::fmt::Write for Path {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.len + text.len();
        // The last byte stays null.
        let room = self.bytes.get_mut(self.len..end).filter(|_| end < 64);
        room.ok_or(core::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A descriptor that is closed at the end of its scope. All calls are raw: programs interpose the
/// C library's functions, and these are cancellation points there.
struct Fd(i32);

impl Fd {
    fn open_at(folder: i32, path: &CStr, flags: i32) -> Option<Fd> {
        let flags = flags | libc::O_CLOEXEC;
        // SAFETY: the path is a C string.
        let fd =
            unsafe { libc::syscall(libc::SYS_openat, folder, path.as_ptr(), flags, 0o600_u32) };
        i32::try_from(fd).ok().filter(|&fd| fd >= 0).map(Fd)
    }

    fn stat(&self) -> Option<libc::stat> {
        // SAFETY: all zeros is a valid `stat`.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: `stat` is writable.
        (unsafe { libc::fstat(self.0, &raw mut stat) } == 0).then_some(stat)
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and not used again.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// Makes the page of this process; none, without a word, where that does not work: `zonal run` asks
/// for one wherever the program may be, and a reader will say that there is none.
#[cold]
#[inline(never)]
pub(super) fn make() -> Option<NonNull<LivePage>> {
    let pid = u64::from(crate::kswapd::process());
    // SAFETY: takes nothing and cannot fail.
    USER.store(unsafe { libc::geteuid() }, Relaxed);
    NAMESPACE.store(namespace(), Relaxed);
    POPULATED.store(0, Relaxed);
    // SAFETY: the path is a C string. One that is there is looked at below.
    unsafe {
        let path = Path::folder();
        libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path.as_c_str().as_ptr(), 0o700_u32);
    };
    let (folder, size) = open_folder()?;
    if size > MOST_ENTRIES * ENTRY_BYTES {
        return None;
    }
    let name = Path::name(pid);
    let file = create(&folder, &name)?;
    let Some(page) = map(&file) else {
        unlink(folder.0, &name);
        return None;
    };
    // SAFETY: just mapped, and zeros are a page.
    unsafe { page.as_ref() }.describe(pid, start_ticks());
    Some(page)
}

/// The user's folder and its size, if it is one that nobody else can have made.
fn open_folder() -> Option<(Fd, i64)> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = Fd::open_at(libc::AT_FDCWD, Path::folder().as_c_str(), flags)?;
    let stat = folder.stat()?;
    let is_own = stat.st_uid == USER.load(Relaxed) && stat.st_mode & 0o077 == 0;
    is_own.then_some((folder, stat.st_size))
}

fn create(folder: &Fd, name: &Path) -> Option<Fd> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    Fd::open_at(folder.0, name.as_c_str(), flags).or_else(|| {
        unlink(folder.0, name);
        Fd::open_at(folder.0, name.as_c_str(), flags)
    })
}

fn map(file: &Fd) -> Option<NonNull<LivePage>> {
    // SAFETY: all zeros is a valid `rlimit`.
    let mut limit: libc::rlimit = unsafe { core::mem::zeroed() };
    // SAFETY: `limit` is writable.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    // A file beyond the limit is a signal.
    if asked == 0 && limit.rlim_cur < PAGE_BYTES as u64 {
        return None;
    }
    // SAFETY: plain calls on a descriptor of ours; no mapping is replaced.
    let at = unsafe {
        if libc::syscall(libc::SYS_ftruncate, file.0, PAGE_BYTES) != 0 {
            return None;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(core::ptr::null_mut(), PAGE_BYTES, access, libc::MAP_SHARED, file.0, 0)
    };
    let page = NonNull::new(at.cast::<LivePage>()).filter(|_| at != libc::MAP_FAILED)?;
    // SAFETY: just mapped.
    if !populate(unsafe { page.as_ref() }, 0..1) {
        let is_old_kernel = errno::get() == libc::EINVAL;
        // SAFETY: a plain call on a descriptor of ours.
        let allocated = is_old_kernel
            && unsafe { libc::syscall(libc::SYS_fallocate, file.0, 0, 0_i64, PAGE_BYTES) } == 0;
        if !allocated {
            unmap(page);
            return None;
        }
        POPULATED.store(u64::MAX, Relaxed);
    }
    Some(page)
}

/// Makes sure that these bytes of the page can be written to.
pub(super) fn populate(page: &LivePage, bytes: Range<usize>) -> bool {
    // SAFETY: asks for the page size only.
    let os_page = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
    let os_page = if os_page.is_power_of_two() { os_page } else { LARGEST_OS_PAGE };
    let first = bytes.start / os_page;
    let nr = bytes.end.div_ceil(os_page) - first;
    let wanted = if bytes.is_empty() { 0 } else { (u64::MAX >> (64 - nr)) << first };
    if wanted & !POPULATED.load(Relaxed) == 0 {
        return true;
    }
    let at = core::ptr::from_ref(page).cast::<libc::c_void>().cast_mut();
    let at = at.wrapping_byte_add(first * os_page);
    // SAFETY: changes no byte of the mapping.
    let done = unsafe { libc::madvise(at, nr * os_page, libc::MADV_POPULATE_WRITE) == 0 };
    if done {
        POPULATED.fetch_or(wanted, Relaxed);
    }
    done
}

/// Removes the mapping.
pub(super) fn unmap(page: NonNull<LivePage>) {
    // SAFETY: a mapping of that size which nobody looks at any more.
    unsafe { libc::munmap(page.as_ptr().cast(), PAGE_BYTES) };
}

/// Puts memory of the process's own in the place of the mapping.
pub(super) fn cover(page: NonNull<LivePage>) {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: a mapping of ours, and zeros are a page. If it cannot be replaced it stays as it is.
    unsafe { libc::mmap(page.as_ptr().cast(), PAGE_BYTES, access, flags, -1, 0) };
}

/// Removes the file of the page. Where the process cannot reach it any more, a reader will. By the
/// folder as it is now: a path could lead elsewhere, if the folder has gone and somebody put a link
/// in its place.
pub(super) fn remove(page: &LivePage) {
    if let Some((folder, _)) = open_folder() {
        unlink(folder.0, &Path::name(page.pid()));
    }
}

fn unlink(folder: i32, path: &Path) {
    // SAFETY: the path is a C string.
    unsafe { libc::syscall(libc::SYS_unlinkat, folder, path.as_c_str().as_ptr(), 0) };
}

/// The pid namespace of this process; 0 where `/proc` does not say.
fn namespace() -> u64 {
    let file = Fd::open_at(libc::AT_FDCWD, c"/proc/self/ns/pid", libc::O_RDONLY);
    file.and_then(|file| file.stat()).map_or(0, |stat| stat.st_ino)
}

/// When this process started, in ticks since the start of the machine; 0 where `/proc` does not
/// say.
fn start_ticks() -> u64 {
    let mut text = [0; 512];
    let file = Fd::open_at(libc::AT_FDCWD, c"/proc/self/stat", libc::O_RDONLY);
    let nr = file.map_or(0, |file| {
        // SAFETY: the kernel writes at most `text.len()` bytes to `text`.
        unsafe { libc::syscall(libc::SYS_read, file.0, text.as_mut_ptr(), text.len()) }
    });
    let text = text.get(..usize::try_from(nr).unwrap_or(0)).unwrap_or_default();
    // The name in parentheses may hold anything; the field is the 20th after it.
    let rest = text.rsplit(|&byte| byte == b')').next().unwrap_or_default();
    let field = rest.split(|&byte| byte == b' ').nth(20).unwrap_or_default();
    core::str::from_utf8(field).ok().and_then(|field| field.parse().ok()).unwrap_or(0)
}
