//! On which processor the calling thread runs.
//!
//! glibc (2.35) registers an rseq area for each thread, in which the kernel keeps
//! the processor's number up to date: reading it is one load. Its node number is
//! not used, because the area does not say whether the kernel (6.3) fills it in.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{CpuId, weak_symbol};

/// Where a thread's rseq area lies, from its thread pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rseq(isize);

/// `cpu_id` in `struct rseq`.
const CPU_ID: isize = 4;

impl Rseq {
    /// The area that the C library registers, if it does.
    pub(crate) fn find() -> Option<Rseq> {
        let offset: *const isize = weak_symbol!("__rseq_offset");
        let size: *const u32 = weak_symbol!("__rseq_size");
        // SAFETY: null, or a constant `ptrdiff_t` of the C library.
        let offset = unsafe { offset.as_ref() }?;
        // SAFETY: null, or a constant `unsigned int` of the C library.
        let size = unsafe { size.as_ref() }?;
        (*size > 0).then_some(Rseq(*offset))
    }

    /// The processor of this thread; none if the thread has no area.
    pub(crate) fn current_cpu(self) -> Option<CpuId> {
        let at = thread_pointer().wrapping_add_signed(self.0 + CPU_ID);
        let at: *mut u32 = ptr::with_exposed_provenance_mut(at);
        // SAFETY: the area belongs to this thread, and only the kernel writes it.
        let cell = unsafe { AtomicU32::from_ptr(at) };
        // Relaxed: one word, that the kernel changes under this thread.
        let cpu = cell.load(Ordering::Relaxed);
        // Negative: not registered.
        (cpu <= i32::MAX as u32).then_some(CpuId::new(cpu))
    }
}

/// The processor by the C library: the vDSO where there is one.
pub(crate) fn current_cpu() -> Option<CpuId> {
    // SAFETY: the call has no preconditions.
    let cpu = unsafe { libc::sched_getcpu() };
    u32::try_from(cpu).ok().map(CpuId::new)
}

/// The number of this thread's node by a system call.
pub(crate) fn node_by_kernel() -> Option<u32> {
    let mut node = 0_u32;
    let cpu = ptr::null_mut::<u32>();
    let unused = ptr::null_mut::<u8>();
    // SAFETY: the kernel writes one `unsigned int`.
    let answer = unsafe { libc::syscall(libc::SYS_getcpu, cpu, &raw mut node, unused) };
    (answer == 0).then_some(node)
}

/// Where this thread's block lies; 0 where it is not known.
fn thread_pointer() -> usize {
    let at: usize;
    // SAFETY: the first word of the thread block is its own address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {}, qword ptr fs:[0]",
            out(reg) at,
            options(nostack, preserves_flags, pure, readonly),
        );
    }
    // SAFETY: reads a register.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "mrs {}, tpidr_el0",
            out(reg) at,
            options(nostack, preserves_flags, pure, nomem),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        at = 0;
    }
    at
}
