//! Mappings.

use core::ptr;

use super::{check, last_errno};
use crate::policy::KernelPolicy;
use crate::{Errno, Span};

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: it only holds its place.
    None,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    fn prot(self) -> i32 {
        match self {
            Access::None => libc::PROT_NONE,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

fn mmap(hint: usize, len: usize, access: Access, flags: i32) -> Result<Span, Errno> {
    let hint = ptr::without_provenance_mut(hint);
    // SAFETY: no flag lets the kernel replace a mapping that exists.
    let at = unsafe { libc::mmap(hint, len, access.prot(), flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(last_errno());
    }
    Ok(Span::mapped(at.expose_provenance(), len))
}

/// A mapping where the kernel likes.
pub(crate) fn map_anywhere(len: usize, access: Access) -> Result<Span, Errno> {
    mmap(0, len, access, PRIVATE)
}

/// A mapping at `addr`, or `EEXIST` if something is there.
pub(crate) fn map_at(addr: usize, len: usize, access: Access) -> Result<Span, Errno> {
    let span = mmap(addr, len, access, PRIVATE | libc::MAP_FIXED_NOREPLACE)?;
    if span.addr() == addr {
        return Ok(span);
    }
    // Before Linux 4.17 the flag is unknown and the address only a hint.
    unmap(span)?;
    Err(Errno::EEXIST)
}

fn pointer(span: Span) -> *mut libc::c_void {
    ptr::with_exposed_provenance_mut(span.addr())
}

/// Removes the mappings in the span.
pub(crate) fn unmap(span: Span) -> Result<(), Errno> {
    // SAFETY: whoever holds a span may unmap it.
    check(unsafe { libc::munmap(pointer(span), span.len()) })
}

/// Changes what may be done with the span.
pub(crate) fn protect(span: Span, access: Access) -> Result<(), Errno> {
    // SAFETY: whoever holds a span may protect it.
    check(unsafe { libc::mprotect(pointer(span), span.len(), access.prot()) })
}

/// Grows, shrinks or moves a mapping.
pub(crate) fn remap(old: Span, new_len: usize, may_move: bool) -> Result<Span, Errno> {
    let flags = if may_move { libc::MREMAP_MAYMOVE } else { 0 };
    // SAFETY: whoever holds a span may move it; no mapping is replaced.
    let at = unsafe { libc::mremap(pointer(old), old.len(), new_len, flags) };
    if at == libc::MAP_FAILED {
        return Err(last_errno());
    }
    Ok(Span::mapped(at.expose_provenance(), new_len))
}

/// `madvise`.
pub(crate) fn advise(span: Span, advice: i32) -> Result<(), Errno> {
    // SAFETY: whoever holds a span may have it emptied.
    check(unsafe { libc::madvise(pointer(span), span.len(), advice) })
}

/// Spans that one [`advise_many`] takes.
const BATCH: usize = 64;

/// This thread's process (`PIDFD_SELF`, from Linux 6.15 on), without a descriptor that the program
/// might close or a number that a forked child would inherit.
const PIDFD_SELF_THREAD: i32 = -10000;

/// `process_madvise` of this process on the first spans, as many as fit in one call. The answer is how
/// many bytes it worked through. For the own process it takes any advice from Linux 6.13 on.
pub(crate) fn advise_many(spans: &[Span], advice: i32) -> Result<usize, Errno> {
    let mut vec = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let nr = spans.len().min(BATCH);
    for (slot, span) in vec.iter_mut().zip(spans) {
        *slot = libc::iovec { iov_base: pointer(*span), iov_len: span.len() };
    }
    process_madvise(&vec[..nr], advice)
}

/// Whether [`advise_many`] works with this advice here.
pub(crate) fn can_advise_many(advice: i32) -> bool {
    process_madvise(&[], advice).is_ok()
}

fn process_madvise(vec: &[libc::iovec], advice: i32) -> Result<usize, Errno> {
    // SAFETY: the vector names spans that the caller holds.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF_THREAD,
            vec.as_ptr(),
            vec.len(),
            advice,
            0_u32,
        )
    };
    usize::try_from(done).map_err(|_| last_errno())
}

/// Sets the policy of the span for pages that come from now on.
pub(crate) fn mbind(span: Span, policy: KernelPolicy) -> Result<(), Errno> {
    // The kernel takes one off the number of bits.
    let nr_bits: libc::c_ulong = 65;
    // SAFETY: the mask lives through the call and has 64 bits.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            pointer(span),
            span.len(),
            libc::c_long::from(policy.mode),
            &raw const policy.bits,
            nr_bits,
            0_u32,
        )
    };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Pages of the span come from this node first, whatever other nodes its policy names.
pub(crate) fn set_home_node(span: Span, node: usize) -> Result<(), Errno> {
    // SAFETY: only a policy changes.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_set_mempolicy_home_node,
            pointer(span),
            span.len(),
            node as libc::c_ulong,
            0_u32,
        )
    };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The nodes that the cpuset of this thread allows: bit `i` for node `i` of the
/// first 64.
pub(crate) fn mems_allowed() -> Result<u64, Errno> {
    const MPOL_F_MEMS_ALLOWED: libc::c_ulong = 1 << 2;
    // The kernel refuses a mask with fewer bits than it could have nodes.
    let mut mask = [0_u64; 16];
    let nr_bits: libc::c_ulong = 16 * 64;
    let (mode, addr) = (ptr::null_mut::<i32>(), ptr::null::<u8>());
    // SAFETY: the kernel writes at most `nr_bits` bits to `mask`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            mode,
            mask.as_mut_ptr(),
            nr_bits,
            addr,
            MPOL_F_MEMS_ALLOWED,
        )
    };
    if answer == 0 { Ok(mask[0]) } else { Err(last_errno()) }
}

/// The memory policy of this thread: mode with flags, and bit `i` for node `i` of the first 64.
pub(crate) fn thread_policy() -> Result<(i32, u64), Errno> {
    let mut mode = 0_i32;
    let mut mask = [0_u64; 16];
    let nr_bits: libc::c_ulong = 16 * 64;
    let (addr, flags): (*const u8, libc::c_ulong) = (ptr::null(), 0);
    // SAFETY: the kernel writes one `int`, and at most `nr_bits` bits to `mask`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut mode,
            mask.as_mut_ptr(),
            nr_bits,
            addr,
            flags,
        )
    };
    if answer == 0 { Ok((mode, mask[0])) } else { Err(last_errno()) }
}

/// `mincore`: bit 0 of each byte says whether that OS page is resident. `out`
/// must have a byte for each page of the span.
pub(crate) fn resident(span: Span, out: &mut [u8], page_size: usize) -> Result<(), Errno> {
    if out.len() < span.len().div_ceil(page_size) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: `out` has room for every page.
    check(unsafe { libc::mincore(pointer(span), span.len(), out.as_mut_ptr()) })
}
