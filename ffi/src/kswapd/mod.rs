//! The thread of kswapd: when there is one, and who does the rounds where there is none.
//!
//! It is started by the slow path that finds work left and nobody on duty, or by a thread that ends so, only in a
//! process that already has threads (a second thread takes abilities away from a single-threaded process, such
//! as `unshare(CLONE_NEWUSER)`), never in a vfork child, and after the operation is over, so that
//! no lock or gate of ours is held; nor in a `free` of the C library, which may hold a lock of its own
//! ([`crate::caller`]). It ends by itself when nothing is left to do. Where no thread can be started, and
//! in a process with one thread, callers do a round now and then themselves.
//!
//! `thread` is the thread's life, `callers` the rounds of callers.

mod callers;
mod thread;

use core::cell::UnsafeCell;
use core::ffi::c_char;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};

use zonal_allocator::{Lookout, Mm};
use zonal_numa::{PAGE_SIZE, weak_symbol};
use zonal_reclaim::kswapd::KswapdConfig;
use zonal_reclaim::pressure;
use zonal_settings::{Mode, PressureMode};

pub(crate) use self::callers::{attend, is_look_due, is_look_due_after_many};
pub(crate) use self::thread::note_detached;
use crate::env::Settings;
use crate::init;

/// What the settings say of rounds.
#[derive(Clone, Copy)]
pub(crate) struct Modes {
    mode: Mode,
    pressure: PressureMode,
    purges_cold: bool,
}

impl Modes {
    pub(crate) fn of(settings: &Settings) -> Modes {
        let &Settings { kswapd: mode, pressure, purge: purges_cold, .. } = settings;
        Modes { mode, pressure, purges_cold }
    }
}

/// From how many charged pages on kswapd looks at that.
static LOOKS_FROM: AtomicUsize = AtomicUsize::new(0);
/// Whether cold memory goes back without need.
static PURGES_COLD: AtomicBool = AtomicBool::new(true);
static MODE: AtomicU32 = AtomicU32::new(Mode::Auto as u32);
/// The process that may start the thread: a vfork child has another number.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// No thread is tried before this time; 0: none was tried in vain.
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);
/// After a failure the next try waits this long.
const RETRY_NS: u64 = 10_000_000_000;
/// For less than that, in use or free, no thread is started when another one ends, and for less than that free at the
/// end of a call only now and then.
const WORTH_PAGES: usize = (4 << 20) / PAGE_SIZE;
/// The terms of duty that have ended, by the thread or because a fork left it behind. Callers who do the
/// rounds again count the time since their last one for nobody's age.
static TERMS: AtomicU32 = AtomicU32::new(0);

/// The state of rounds, for one user at a time.
struct State<T>(UnsafeCell<Option<T>>);
// SAFETY: of `callers::STATE`, `callers::BUSY` lets one thread in at a time; of `thread::STATE`, the
// doorbell does.
unsafe impl<T: Send> Sync for State<T> {}

/// Before the first operation.
pub(crate) fn prepare(mm: &Mm, Modes { mode, pressure, purges_cold }: Modes) {
    MODE.store(mode as u32, Relaxed);
    if pressure == PressureMode::Off {
        LOOKS_FROM.store(Lookout::NEVER, Relaxed);
    } else {
        pressure::begin(mm);
    }
    if pressure == PressureMode::Always {
        mm.pages().lookout().open_from(0);
    }
    PURGES_COLD.store(purges_cold, Relaxed);
    note_process();
    // The C library does not know yet whether there are others.
    // SAFETY: the call has no preconditions.
    if unsafe { libc::syscall(libc::SYS_gettid) as u32 } == PROCESS.load(Relaxed) {
        thread::note_main();
    }
}

/// Whether calls of the program may find out whether there is a seccomp filter, and look at more where there is none.
pub(crate) fn may_look() -> bool {
    LOOKS_FROM.load(Relaxed) != Lookout::NEVER
}

/// In a forked child: the thread stayed in the parent.
pub(crate) fn after_fork() {
    note_process();
    if let Some(mm) = init::mm() {
        mm.machine().allow_batching(false);
    }
    thread::after_fork();
    callers::after_fork();
}

/// What a round may do: on kswapd's thread, or else on a program's.
fn config(mm: &Mm, on_kswapd: bool) -> KswapdConfig {
    let looks_from =
        if on_kswapd { LOOKS_FROM.load(Relaxed) } else { mm.pages().lookout().callers_from() };
    KswapdConfig { looks_from, purges_cold: PURGES_COLD.load(Relaxed) }
}

fn note_process() {
    PROCESS.store(process(), Relaxed);
}

/// Whether this is the process that the core belongs to: no vfork child.
fn is_own_process() -> bool {
    process() == PROCESS.load(Relaxed)
}

/// The kernel's number of this process. Asked without the C library's function: a preload may have one in front,
/// which allocates (libfaketime's does), and the first allocation is not over when this is called.
pub(crate) fn process() -> u32 {
    // SAFETY: the call has no preconditions and always succeeds.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

/// Whether a thread may be tried now.
fn may_start(now: u64) -> bool {
    is_thread_wanted() && now >= NOT_BEFORE.load(Relaxed)
}

/// Whether rounds are a thread's in this process, if one can be started.
fn is_thread_wanted() -> bool {
    let mode = MODE.load(Relaxed);
    mode == Mode::Always as u32 || (mode == Mode::Auto as u32 && !is_single_threaded())
}

/// Starts the thread, unless somebody else did.
#[cold]
pub(crate) fn start(mm: &'static Mm) {
    if mm.doorbell().claim() && !thread::spawn(mm) {
        NOT_BEFORE.store(mm.machine().now_ns() + RETRY_NS, Relaxed);
        // Sticky: the work is still there for callers.
        mm.doorbell().retire_unserved();
    }
}

/// A thread ends and gave its heap back. Its last calls need not be many enough that one of them looked, and nobody
/// may come after it: so it sees to it that what it leaves has somebody, unless that is little.
pub(crate) fn note_ended(mm: &'static Mm) {
    thread::note_ended(mm);
    if mm.doorbell().wants_kswapd()
        && mm.pages().charged() >= WORTH_PAGES
        && !thread::is_deserted(mm)
        && may_start(mm.machine().now_ns())
        && is_own_process()
    {
        start(mm);
    }
}

/// What the C library knows about the number of threads; false where it does not say.
fn is_single_threaded() -> bool {
    let word: *const c_char = weak_symbol!("__libc_single_threaded");
    // SAFETY: a byte of the C library, if it is there.
    !word.is_null() && unsafe { word.read_volatile() } != 0
}
