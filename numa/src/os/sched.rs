//! When and where the calling thread may run.

use core::array;
use core::ptr;

/// Bits for 8192 processors, the most that a kernel can be built for.
type Processors = [u64; 128];
/// In the answer to what class a thread is of.
const RESET_ON_FORK: i32 = 0x4000_0000;
/// The kernel's `getpriority` answers this less the nice value, which is then never negative.
const NICE_BASE: i64 = 20;

/// Gives the calling thread, which inherited what its starter had, the rights of the main thread besides: its
/// processors, since who is pinned, and perhaps never leaves its processor, may be either; its nice value and its
/// class, where its own are less. But no realtime class. What is like that already costs no call that changes
/// anything, and what the kernel refuses stays.
pub(crate) fn run_as_main_thread() {
    // SAFETY: the call has no preconditions. The main thread has the number of the process.
    let main = unsafe { libc::syscall(libc::SYS_getpid) as libc::pid_t };
    add_processors(main);
    rise_to_class(main);
    rise_to_nice(main);
}

/// Zero is the calling thread.
fn processors(thread: libc::pid_t) -> Option<Processors> {
    let mut mask: Processors = [0; 128];
    let (len, at) = (size_of_val(&mask), (&raw mut mask).cast::<u64>());
    // SAFETY: the kernel writes `len` bytes at most.
    let len = unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread, len, at) };
    (len > 0).then_some(mask)
}

fn add_processors(main: libc::pid_t) {
    let (Some(own), Some(main)) = (processors(0), processors(main)) else { return };
    let wanted: Processors = array::from_fn(|i| own[i] | main[i]);
    if own != wanted {
        let len = size_of_val(&wanted);
        // SAFETY: the kernel reads `len` bytes.
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, len, ptr::from_ref(&wanted)) };
    }
}

fn class(thread: libc::pid_t) -> Option<i32> {
    // SAFETY: only asks.
    let class = unsafe { libc::syscall(libc::SYS_sched_getscheduler, thread) };
    (class >= 0).then_some(class as i32 & !RESET_ON_FORK)
}

fn rise_to_class(main: libc::pid_t) {
    let (Some(own), Some(main)) = (class(0), class(main)) else { return };
    let is_low = |class| [libc::SCHED_BATCH, libc::SCHED_IDLE].contains(&class);
    let is_realtime = [libc::SCHED_FIFO, libc::SCHED_RR, libc::SCHED_DEADLINE].contains(&own);
    if is_realtime || (is_low(own) && !is_low(main)) {
        // The only priority of that class.
        let (class, priority) = (libc::SCHED_OTHER, 0_i32);
        // SAFETY: the kernel reads one `int`.
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, class, &raw const priority) };
    }
}

fn nice(thread: libc::pid_t) -> Option<i64> {
    // SAFETY: only asks.
    let answer = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, thread) };
    (answer >= 0).then_some(NICE_BASE - answer)
}

fn rise_to_nice(main: libc::pid_t) {
    let (Some(own), Some(wanted)) = (nice(0), nice(main)) else { return };
    if own > wanted {
        // SAFETY: touches no memory.
        unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, wanted as i32) };
    }
}
