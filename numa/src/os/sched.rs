//! When and where the calling thread may run.

use core::ptr;

/// Bits for 8192 processors, the most that a kernel can be built for.
type Processors = [u64; 128];
/// In the answer to what class a thread is of.
const RESET_ON_FORK: i32 = 0x4000_0000;
/// The kernel's `getpriority` answers this less the nice value, which is then never negative.
const NICE_BASE: i64 = 20;

/// Gives the calling thread the processors and the nice value of the main thread, and its class, unless that
/// is one of the realtime ones: then the ordinary one. What is like that already costs no call that changes
/// anything, and what the kernel refuses stays.
pub(crate) fn run_as_main_thread() {
    // SAFETY: the call has no preconditions. The main thread has the number of the process.
    let main = unsafe { libc::syscall(libc::SYS_getpid) as libc::pid_t };
    follow_processors(main);
    follow_class(main);
    follow_nice(main);
}

/// Zero is the calling thread.
fn processors(thread: libc::pid_t) -> Option<Processors> {
    let mut mask: Processors = [0; 128];
    let (len, at) = (size_of_val(&mask), (&raw mut mask).cast::<u64>());
    // SAFETY: the kernel writes `len` bytes at most.
    let len = unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread, len, at) };
    (len > 0).then_some(mask)
}

fn follow_processors(main: libc::pid_t) {
    let (Some(own), Some(wanted)) = (processors(0), processors(main)) else { return };
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

fn follow_class(main: libc::pid_t) {
    let (Some(own), Some(main)) = (class(0), class(main)) else { return };
    let is_plain = [libc::SCHED_BATCH, libc::SCHED_IDLE].contains(&main);
    let wanted = if is_plain { main } else { libc::SCHED_OTHER };
    if own != wanted {
        // The only priority that these classes have.
        let priority = 0_i32;
        // SAFETY: the kernel reads one `int`.
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, wanted, &raw const priority) };
    }
}

fn nice(thread: libc::pid_t) -> Option<i64> {
    // SAFETY: only asks.
    let answer = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, thread) };
    (answer >= 0).then_some(NICE_BASE - answer)
}

fn follow_nice(main: libc::pid_t) {
    let (Some(own), Some(wanted)) = (nice(0), nice(main)) else { return };
    if own != wanted {
        // SAFETY: touches no memory.
        unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, wanted as i32) };
    }
}
