//! What the process was started with, whether there can be several nodes, the clock, the barrier.

use core::hint::black_box;
use core::ptr;

/// Size of a page of this kernel.
pub(crate) fn page_size() -> usize {
    // SAFETY: reads the auxiliary vector.
    let size = unsafe { libc::getauxval(libc::AT_PAGESZ) };
    let size = usize::try_from(size).unwrap_or(0);
    if size.is_power_of_two() { size.max(crate::PAGE_SIZE) } else { crate::PAGE_SIZE }
}

/// Whether node 0 is the only one that this machine can ever have; false also where the kernel
/// does not say.
pub(crate) fn has_only_node_zero() -> bool {
    const MPOL_F_MEMS_ALLOWED: libc::c_ulong = 1 << 2;
    // A mask of one bit is refused if there could be more nodes.
    let (mut mask, nr_bits): (u64, libc::c_ulong) = (0, 1);
    let (mode, addr) = (ptr::null_mut::<i32>(), ptr::null::<u8>());
    // SAFETY: the kernel writes one word at most.
    let answer = unsafe {
        let (mask, flags) = (&raw mut mask, MPOL_F_MEMS_ALLOWED);
        libc::syscall(libc::SYS_get_mempolicy, mode, mask, nr_bits, addr, flags)
    };
    answer == 0
}

/// Nanoseconds of `CLOCK_MONOTONIC`, through the vDSO.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of `CLOCK_THREAD_CPUTIME_ID`.
pub(crate) fn thread_time_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of `CLOCK_PROCESS_CPUTIME_ID`.
pub(crate) fn process_time_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to write. Where there is no such clock it stays zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The 16 random bytes that the kernel gave the process, folded into one word.
///
/// The C library takes its stack guard from them, so they must not be guessable
/// from what comes out: two words go into one.
pub(crate) fn entropy() -> u64 {
    // SAFETY: reads the auxiliary vector.
    let at = unsafe { libc::getauxval(libc::AT_RANDOM) };
    let Some(at) = usize::try_from(at).ok().filter(|&at| at != 0) else {
        // Not on Linux; address space layout is the next best.
        let local = 0_u8;
        return black_box(&raw const local).addr() as u64;
    };
    // SAFETY: the kernel put 16 bytes there for the life of the process.
    let bytes = unsafe { ptr::with_exposed_provenance::<[u64; 2]>(at).read_unaligned() };
    let wide = u128::from(bytes[0] | 1) * u128::from(bytes[1] ^ 0x9e37_79b9_7f4a_7c15);
    (wide >> 64) as u64 ^ wide as u64
}

/// What the kernel says about the calling thread's seccomp filters. It tells no number of filters;
/// but who has no privileges must give up new ones before installing a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Confinement {
    mode: i32,
    no_new_privileges: i32,
}

impl Confinement {
    /// Whether there is a filter; also where the kernel does not say.
    pub(crate) fn is_filtered(self) -> bool {
        self.mode != 0
    }
}

/// How the calling thread is confined.
pub(crate) fn confinement() -> Confinement {
    // SAFETY: both only ask.
    let (mode, no_new_privileges) = unsafe {
        (libc::prctl(libc::PR_GET_SECCOMP), libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
    };
    Confinement { mode, no_new_privileges }
}

/// Commands of `membarrier`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Barrier {
    Expedited = 1 << 3,
    Register = 1 << 4,
}

/// A barrier on every running thread of the process, or the registration for it.
pub(crate) fn membarrier(command: Barrier) -> bool {
    // SAFETY: the call touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command as i32, 0, 0) == 0 }
}
