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
//! ours held, or a list half-changed. So from then on slow paths run with signals blocked. Jumps by
//! the functions of the C library wait for the end of a slow path from the start
//! ([`crate::jump`]). What remains is the first jump that is made otherwise: out of a slow path it
//! costs the heap, and out of a locked section, the lock. POSIX promises nothing for either.
//!
//! A handler that comes between a hit's look at `current` and its mark finds the heap free and works
//! with it. When it ends the hit goes on with the same heap, so a handler must not exchange it for
//! another node's: a second thread may have it by then ([`Blocked::may_be_in_handler`]). Only a
//! thread that sets a policy is believed that it does so in no handler.

use core::ptr;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use crate::tls;

/// A handler's frame lies further below the frame that it interrupts (red zone, saved registers and
/// at least the 512 bytes of the floating-point state), and frames of ours take less.
const SLACK: usize = 1024;
/// How far up a jump is looked for.
const REACH: usize = 1 << 20;

/// Handlers of this process call malloc in the middle of malloc, or jump out of it.
static SEEN: AtomicBool = AtomicBool::new(false);

/// Notes that a handler interrupted a call of ours.
pub(crate) fn seen() {
    // Relaxed: a thread that learns of it later is only less careful.
    SEEN.store(true, Relaxed);
}

/// Whether slow paths run with signals blocked.
#[inline]
pub(crate) fn are_blocked() -> bool {
    SEEN.load(Relaxed)
}

/// Whether the call that noted this place on the calling thread's stack has ended without a return.
#[cold]
pub(crate) fn is_gone(place: usize) -> bool {
    let above = tls::stack().wrapping_add(SLACK).wrapping_sub(place);
    above < REACH && on_ordinary_stack()
}

/// Whether the calling thread is in no handler, as far as its mask tells: one that was set with SA_NODEFER shows
/// nothing there. `as_a_rule`: what the thread blocks otherwise.
#[cold]
pub(crate) fn is_in_none(as_a_rule: u64) -> bool {
    on_ordinary_stack() && mask() & !as_a_rule == 0
}

pub(crate) fn on_ordinary_stack() -> bool {
    alternate_stack().is_none()
}

/// Start and size of the alternate stack, if the thread runs on it.
pub(crate) fn alternate_stack() -> Option<(usize, usize)> {
    // SAFETY: all zeros is a valid `stack_t`.
    let mut stack: libc::stack_t = unsafe { core::mem::zeroed() };
    // SAFETY: only asks, into a structure of ours; cannot fail.
    unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) };
    (stack.ss_flags & libc::SS_ONSTACK != 0).then(|| (stack.ss_sp.addr(), stack.ss_size))
}

/// The calling thread, named by the address of its errno: only to be compared.
pub(crate) fn this_thread() -> *mut i32 {
    // SAFETY: always valid.
    unsafe { libc::__errno_location() }
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

    /// Blocks signals: for what is done once a thread, or rarely.
    pub(crate) fn always() -> Blocked {
        Blocked { before: Some(set_mask(JUMPERS)) }
    }

    /// From now on, if not before.
    pub(crate) fn block(&mut self) {
        if self.before.is_none() {
            *self = Blocked::always();
        }
    }

    /// Whether the thread may be in a handler: while one runs, its own signal is blocked, besides
    /// those that the thread blocks as a rule. (One that was set with SA_NODEFER shows nothing.)
    pub(crate) fn may_be_in_handler(&self, as_a_rule: u64) -> bool {
        self.before.is_none_or(|before| before & !as_a_rule != 0)
    }

    /// The thread's mask before.
    pub(crate) fn mask_before(&self) -> Option<u64> {
        self.before
    }

    /// Blocks signals if this process needs it.
    #[inline]
    pub(crate) fn if_needed() -> Blocked {
        if are_blocked() { Blocked::always() } else { Blocked::no() }
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
pub(crate) const JUMPERS: u64 = !(bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGFPE)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGSYS)
    | bit(libc::SIGABRT));

/// All but the two of the C library, by which it cancels a thread and reaches every thread for `setuid`.
pub(crate) const PROGRAMS: u64 = !(bit(32) | bit(33));

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The thread's signal mask.
pub(crate) fn mask() -> u64 {
    let mut now = 0_u64;
    // SAFETY: only asks; the kernel's mask is 8 bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            ptr::null::<u64>(),
            &raw mut now,
            size_of::<u64>(),
        );
    }
    now
}

/// Whether handlers return to this place, by which the kernel's frames are recognised.
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_restorer(place: usize) -> bool {
    /// The kernel's own form of `sigaction`.
    #[repr(C)]
    #[derive(Default)]
    struct Action {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    place != 0
        && (1..=64).any(|signal| {
            let mut action = Action::default();
            // SAFETY: only asks, into a structure of ours.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    ptr::null::<Action>(),
                    &raw mut action,
                    size_of::<u64>(),
                );
            }
            action.restorer == place
        })
}

/// Sets the thread's mask and returns the one before. By the raw call, since glibc's leaves out
/// the signal of `pthread_cancel`, which jumps too; so short a time delays nobody.
pub(crate) fn set_mask(mask: u64) -> u64 {
    change_mask(libc::SIG_SETMASK, mask)
}

/// Blocks `signals`, too, and returns the mask before, for [`set_mask`]. A mask that glibc's own call brings
/// back lacks the signal of its timers, which the thread that waits for them has blocked.
pub(crate) fn block(signals: u64) -> u64 {
    change_mask(libc::SIG_BLOCK, signals)
}

fn change_mask(how: i32, mask: u64) -> u64 {
    let mut before = mask;
    // SAFETY: the kernel's mask is 8 bytes; both live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        );
    }
    before
}
