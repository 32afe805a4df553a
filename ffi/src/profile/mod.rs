//! The heap profile, switched on and off while the program runs.
//!
//! ```text
//!   hit path --(current is DETOUR)--> [`detour`] --> on_alloc --> Countdown: nearly always no
//!                                           |                           | yes
//!                                           |              unwind: the stack
//!                                           |                           v
//!                                           '-> on_free --> filter --> zonal_allocator::profile
//!                                                                       |
//!   exit, zonal_profile_dump, signal (request) --> dump, leaks <--------'
//! ```
//!
//! Off, the hit path has not one instruction for it. On, each call takes the detour, which costs a
//! subtraction for `malloc` and a load for `free`; once in half a megabyte a stack is walked.
//!
//! Symbols are looked up outside the process (`zonal profile`, `pprof`): a dump holds addresses and
//! the list of mappings. Stacks are walked by [`unwind`].

mod dump;
mod file;
mod leaks;
mod request;

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};

use zonal_allocator::profile::{Countdown, MAX_DEPTH, Profile, Weight};

use zonal_settings::DEFAULT_RATE;

use crate::detour::{self, Watcher};
use crate::env::Settings;
use crate::errno::{self, SavedErrno};
use crate::foreign::Alone;
use crate::unwind::{self, Module};
use crate::{hot, init, tls};

pub(crate) use request::serve;

/// Weights are counted in 32 bits.
const MAX_RATE: usize = 16 << 20;

/// The tables, once there are some.
static PROFILE: AtomicPtr<Profile> = AtomicPtr::new(ptr::null_mut());
static RATE: AtomicU64 = AtomicU64::new(DEFAULT_RATE as u64);
/// Somebody starts or stops right now. Tried, never waited for: the one who interrupts it may be a
/// handler on the same thread.
static BUSY: AtomicBool = AtomicBool::new(false);
static ON: AtomicBool = AtomicBool::new(false);
static AT_EXIT: AtomicBool = AtomicBool::new(false);
static LEAKS: AtomicBool = AtomicBool::new(false);
/// Where the preload library lies, whose frames nobody wants to see.
static OWN_START: AtomicUsize = AtomicUsize::new(0);
static OWN_END: AtomicUsize = AtomicUsize::new(0);

/// The hooks of the detour.
static WATCHER: Watcher = Watcher { alloc: on_alloc, free: on_free };

fn on_alloc(object: NonNull<u8>, size: usize) {
    // A thread that only borrows a heap after its exit hook is not followed.
    if let Some(heap) = tls::Block::get().heap() {
        // SAFETY: heaps are never unmapped, and this is the thread's own.
        let countdown = unsafe { heap.as_ref() }.countdown();
        if countdown.spend(size) {
            sample(countdown, object, size);
        }
    }
}

fn on_free(object: NonNull<u8>) {
    let addr = object.addr().get();
    if let Some(profile) = profile()
        && profile.may_be_sampled(addr)
    {
        profile.gone(addr);
    }
}

/// Whether freeing the object at `addr` is nothing to the profile.
#[inline(always)]
pub(crate) fn is_unsampled(addr: usize) -> bool {
    profile().is_none_or(|profile| !profile.may_be_sampled(addr))
}

#[inline(always)]
fn profile() -> Option<&'static Profile> {
    // ORDERING: Acquire, pairs with Release in `start`: the tables are complete.
    // SAFETY: null, or tables that stay for ever.
    unsafe { PROFILE.load(Acquire).as_ref() }
}

#[cold]
#[inline(never)]
fn sample(countdown: &Countdown, object: NonNull<u8>, size: usize) {
    let (Some(profile), Some(mm)) = (profile(), init::mm()) else { return };
    let period = profile.period();
    if !countdown.draw(size, period, || mm.machine().random()) {
        return;
    }
    let _errno = SavedErrno::save();
    let mut frames = [0; MAX_DEPTH];
    let own = (OWN_START.load(Relaxed), OWN_END.load(Relaxed));
    let nr = unwind::walk(&mut frames, own);
    let frames = frames.get(..nr).unwrap_or_default();
    profile.sampled(object.addr().get(), size, Weight::of(size, period), frames);
}

/// Starts a profile of what is allocated from now on, one sample in `rate` bytes on average, more than 16 MiB
/// count as 16 MiB; the configured rate if 0. What an earlier one found is forgotten. True if it runs; else
/// false with errno: `ENOMEM`, or `EBUSY` while another thread starts or stops one. One that runs already
/// goes on as it is.
pub fn start(rate: usize) -> bool {
    if init::mm().is_none() {
        // A program's first call: the core comes with an allocation.
        // SAFETY: a block of ours, or null, given up at once.
        unsafe { hot::free::<Alone>(hot::malloc(1)) };
    }
    change(|mm| {
        if ON.load(Relaxed) {
            return true;
        }
        let period = match rate {
            0 => RATE.load(Relaxed),
            rate => rate.min(MAX_RATE) as u64,
        };
        match profile() {
            Some(profile) => profile.restart(period),
            None => match Profile::new(mm.machine(), period) {
                // ORDERING: Release, pairs with Acquire in `profile`.
                Ok(new) => PROFILE.store(ptr::from_ref(new).cast_mut(), Release),
                Err(_) => {
                    errno::set(libc::ENOMEM);
                    return false;
                }
            },
        }
        find_own();
        unwind::forget();
        ON.store(true, Relaxed);
        detour::watch(&WATCHER);
        true
    })
}

/// Stops it, if one runs. What it found can still be written. False with `EBUSY` in errno while another
/// thread starts or stops one.
pub fn stop() -> bool {
    let was_never_on = init::mm().is_none();
    was_never_on
        || change(|_| {
            if ON.swap(false, Relaxed) {
                detour::unwatch();
            }
            true
        })
}

/// Writes what the profile found to `fd`, in the text form that `pprof` and `zonal profile` read;
/// false with errno if there never was one, or the descriptor does not take it.
pub fn dump(fd: i32) -> bool {
    match profile() {
        Some(profile) => dump::write(fd, profile).is_ok(),
        None => {
            errno::set(libc::ENODATA);
            false
        }
    }
}

/// Starts or stops a profile by `work`, unless somebody else is at it.
fn change(work: impl FnOnce(&'static zonal_allocator::Mm) -> bool) -> bool {
    let Some(mm) = init::mm() else { return false };
    // ORDERING: Acquire and Release, of one change for the next.
    if BUSY.compare_exchange(false, true, Acquire, Relaxed).is_err() {
        errno::set(libc::EBUSY);
        return false;
    }
    let done = work(mm);
    BUSY.store(false, Release);
    done
}

/// The preload library's own frames are left out of stacks; a program that has zonal inside keeps
/// them, as its own code lies in the same file.
fn find_own() {
    let own = Module::of((find_own as fn()) as *const () as usize);
    if let Some(own) = own.filter(|own| own.name().ends_with(b"libzonal.so")) {
        OWN_START.store(own.start, Relaxed);
        OWN_END.store(own.end, Relaxed);
    }
}

/// Before the first operation: what was asked for.
pub(crate) fn prepare(settings: &Settings) {
    RATE.store(settings.profile_rate.min(MAX_RATE) as u64, Relaxed);
    AT_EXIT.store(settings.profile, Relaxed);
    if let Some(path) = settings.profile_file {
        file::set_path(path);
    }
    if settings.leaks_at_exit {
        LEAKS.store(leaks::prepare(), Relaxed);
    }
    if let Some(signal) = settings.profile_signal {
        request::install(signal);
    }
}

/// When calls are served as usual. Registered before the program's own exit handlers, the report of
/// what is left runs after them.
pub(crate) fn register() {
    let (at_exit, leaks) = (AT_EXIT.load(Relaxed), LEAKS.load(Relaxed));
    if (at_exit || leaks) && start(0) {
        // SAFETY: a function of this library, which stays loaded. If it cannot be registered
        // nothing is written.
        unsafe { libc::atexit(exit) };
    }
}

extern "C" fn exit() {
    let Some(profile) = profile() else { return };
    if LEAKS.load(Relaxed) {
        leaks::report(profile);
    }
    if AT_EXIT.load(Relaxed) {
        file::write();
    }
}

/// In a forked child: a change under way stayed in the parent.
pub(crate) fn after_fork() {
    BUSY.store(false, Relaxed);
    file::after_fork();
}
