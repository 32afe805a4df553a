//! Signal handlers that call malloc in the middle of a call of ours, or jump out of it.
//!
//! A handler that finds no heap to take has interrupted zonal on its own thread and must not touch
//! the heap: it is served from an arena of its own. Unless the interrupted call is gone: an
//! earlier handler left it by `siglongjmp`. Then its frame is no longer on the stack, which shows
//! in the mark that it left in the heap when it took it:
//!
//! ```text
//!     caller         caller                 handler of a live call: below its frame, beyond the
//!     zonal: mark    caller                 red zone and the kernel's own frame
//!     signal frame   zonal: here now        after a jump: as high as the mark, or higher
//!     handler: here now
//! ```
//!
//! On an alternate stack, or far away, nothing can be told, and the call counts as live.
//!
//! A process in which this happens once may do it again, and at a worse moment: with a lock of
//! ours held, or a list half-changed. So from then on slow paths run with signals blocked. What
//! remains is the first time: a jump out of a slow path costs the heap, and out of a locked
//! section, the lock. POSIX promises nothing for either.

use core::ptr;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use crate::tls;

/// A handler's frame lies further below the frame that it interrupts (red zone, saved registers and
/// at least the 512 bytes of the floating-point state), and frames of ours take less.
const SLACK: u32 = 1024;
/// How far up a jump is looked for.
const REACH: u32 = 1 << 20;

/// Handlers of this process call malloc in the middle of malloc, or jump out of it.
static SEEN: AtomicBool = AtomicBool::new(false);

/// Notes that a handler interrupted a call of ours.
pub(crate) fn seen() {
    // Relaxed: a thread that learns of it later is only less careful.
    SEEN.store(true, Relaxed);
}

/// Whether the call that left this mark on the calling thread's stack has ended without a return.
#[cold]
pub(crate) fn is_gone(mark: u32) -> bool {
    let above = tls::stack().wrapping_add(SLACK).wrapping_sub(mark);
    above < REACH && on_ordinary_stack()
}

fn on_ordinary_stack() -> bool {
    // SAFETY: all zeros is a valid `stack_t`.
    let mut stack: libc::stack_t = unsafe { core::mem::zeroed() };
    // SAFETY: only asks, into a structure of ours.
    let asked = unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) };
    asked == 0 && stack.ss_flags & libc::SS_ONSTACK == 0
}

/// Signals that may jump are blocked, as long as this lives.
pub(crate) struct Blocked {
    before: Option<u64>,
}

impl Blocked {
    /// Blocks nothing.
    pub(crate) fn no() -> Blocked {
        Blocked { before: None }
    }

    /// Blocks signals if this process needs it.
    #[inline]
    pub(crate) fn if_needed() -> Blocked {
        Blocked { before: if SEEN.load(Relaxed) { Some(set_mask(JUMPERS)) } else { None } }
    }
}

impl Drop for Blocked {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            set_mask(before);
        }
    }
}

/// All but those that a thread raises by what it does itself: blocked, they would kill.
const JUMPERS: u64 = !(bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGFPE)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGSYS)
    | bit(libc::SIGABRT));

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Sets the thread's mask and returns the one before. By the raw call, since glibc's leaves out
/// the signal of `pthread_cancel`, which jumps too; so short a time delays nobody.
fn set_mask(mask: u64) -> u64 {
    let mut before = mask;
    // SAFETY: the kernel's mask is 8 bytes; both live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        );
    }
    before
}
