//! On which processor the calling thread runs.
//!
//! glibc (2.35) registers an rseq area for each thread, in which the kernel keeps
//! the processor's number up to date: reading it is one load. Its node number is
//! not used, because the area does not say whether the kernel (6.3) fills it in.

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::CpuId;

/// Where a thread's rseq area lies, from its thread pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rseq(isize);

/// `cpu_id` in `struct rseq`.
const CPU_ID: isize = 4;

impl Rseq {
    /// The area that the C library registers, if it does.
    pub(crate) fn find() -> Option<Rseq> {
        let (offset, size) = (arch::rseq_offset()?, arch::rseq_size()?);
        // SAFETY: the symbol is a constant `ptrdiff_t` of the C library.
        let offset = unsafe { offset.read() };
        // SAFETY: the symbol is a constant `unsigned int` of the C library.
        let size = unsafe { size.read() };
        (size > 0).then_some(Rseq(offset))
    }

    /// The processor of this thread; none if the thread has no area.
    pub(crate) fn current_cpu(self) -> Option<CpuId> {
        let at = arch::thread_pointer().wrapping_add_signed(self.0 + CPU_ID);
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

/// Weak symbols can only be named in assembly on stable Rust.
#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::asm;

    pub(super) fn rseq_offset() -> Option<*const isize> {
        let at: *const isize;
        // SAFETY: loads an address from the GOT: 0 if no library has the symbol.
        unsafe {
            asm!(
                ".weak __rseq_offset",
                "mov {}, qword ptr [rip + __rseq_offset@GOTPCREL]",
                out(reg) at,
                options(nostack, preserves_flags, pure, readonly),
            );
        }
        (!at.is_null()).then_some(at)
    }

    pub(super) fn rseq_size() -> Option<*const u32> {
        let at: *const u32;
        // SAFETY: as above.
        unsafe {
            asm!(
                ".weak __rseq_size",
                "mov {}, qword ptr [rip + __rseq_size@GOTPCREL]",
                out(reg) at,
                options(nostack, preserves_flags, pure, readonly),
            );
        }
        (!at.is_null()).then_some(at)
    }

    pub(super) fn thread_pointer() -> usize {
        let at: usize;
        // SAFETY: the first word of the thread block is its own address.
        unsafe {
            asm!(
                "mov {}, qword ptr fs:[0]",
                out(reg) at,
                options(nostack, preserves_flags, pure, readonly),
            );
        }
        at
    }
}

/// Weak symbols can only be named in assembly on stable Rust.
#[cfg(target_arch = "aarch64")]
mod arch {
    use core::arch::asm;

    pub(super) fn rseq_offset() -> Option<*const isize> {
        let at: *const isize;
        // SAFETY: loads an address from the GOT: 0 if no library has the symbol.
        unsafe {
            asm!(
                ".weak __rseq_offset",
                "adrp {0}, :got:__rseq_offset",
                "ldr {0}, [{0}, :got_lo12:__rseq_offset]",
                out(reg) at,
                options(nostack, preserves_flags, pure, readonly),
            );
        }
        (!at.is_null()).then_some(at)
    }

    pub(super) fn rseq_size() -> Option<*const u32> {
        let at: *const u32;
        // SAFETY: as above.
        unsafe {
            asm!(
                ".weak __rseq_size",
                "adrp {0}, :got:__rseq_size",
                "ldr {0}, [{0}, :got_lo12:__rseq_size]",
                out(reg) at,
                options(nostack, preserves_flags, pure, readonly),
            );
        }
        (!at.is_null()).then_some(at)
    }

    pub(super) fn thread_pointer() -> usize {
        let at: usize;
        // SAFETY: reads a register.
        unsafe {
            asm!(
                "mrs {}, tpidr_el0",
                out(reg) at,
                options(nostack, preserves_flags, pure, nomem),
            );
        }
        at
    }
}

/// Elsewhere the C library is asked.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    pub(super) fn rseq_offset() -> Option<*const isize> {
        None
    }

    pub(super) fn rseq_size() -> Option<*const u32> {
        None
    }

    pub(super) fn thread_pointer() -> usize {
        0
    }
}
