//! Mappings: made, committed, bound, moved and removed. Addresses and lengths are in bytes; any thread may call,
//! for spans that are its own.

use super::Machine;
use crate::os::{self, Access};
use crate::{Call, Errno, MemPolicy, NodeId, NodeMask, PolicyMode, Span};

impl Machine {
    /// Holds a place in the address space at exactly this address, without access
    /// and without memory.
    ///
    /// # Errors
    /// `EEXIST` if something is there, `ENOMEM` if the process may have no more address space or mappings.
    pub fn reserve_at(&self, addr: usize, len: usize) -> Result<Span, Errno> {
        self.before(Call::Reserve)?;
        let span = os::map_at(addr, len, Access::None)?;
        self.tell_mapped(span, false)
    }

    /// Memory at exactly this address that comes page by page with the first
    /// touch.
    ///
    /// # Errors
    /// As for [`Machine::reserve_at`].
    pub fn map_at(&self, addr: usize, len: usize) -> Result<Span, Errno> {
        self.before(Call::MapAt)?;
        let span = os::map_at(addr, len, Access::ReadWrite)?;
        self.tell_mapped(span, false)
    }

    /// Memory where the kernel likes, at a multiple of `align` (a power of two).
    /// The length is rounded up to whole OS pages.
    ///
    /// # Errors
    /// `EINVAL` for another alignment, `ENOMEM` if the process may have no more.
    pub fn map(&self, len: usize, align: usize) -> Result<Span, Errno> {
        self.before(Call::Map)?;
        if !align.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        let len = len.checked_next_multiple_of(self.page_size).ok_or(Errno::ENOMEM)?;
        let span = map_aligned(len, align.max(self.page_size))?;
        self.tell_mapped(span, true)
    }

    fn tell_mapped(&self, span: Span, backed: bool) -> Result<Span, Errno> {
        match self.hooks.mapped(span, backed) {
            Ok(()) => Ok(span),
            Err(errno) => {
                os::unmap(span)?;
                Err(errno)
            }
        }
    }

    /// An address from which on `len` bytes were free a moment ago.
    ///
    /// # Errors
    /// `ENOMEM` if there is none.
    pub fn probe_hole(&self, len: usize) -> Result<usize, Errno> {
        self.before(Call::ProbeHole)?;
        let span = os::map_anywhere(len, Access::None)?;
        os::unmap(span)?;
        Ok(span.addr())
    }

    /// Makes reserved pages usable.
    ///
    /// # Errors
    /// `ENOMEM` if the process may have no more memory or mappings; nothing is changed.
    pub fn commit(&self, span: Span) -> Result<(), Errno> {
        self.before(Call::Commit)?;
        self.hooks.charge(span)?;
        os::protect(span, Access::ReadWrite).inspect_err(|_| self.hooks.uncharge(span))
    }

    /// Forbids access to pages; their memory stays until it is purged.
    ///
    /// # Errors
    /// `ENOMEM` if that would split a mapping and the process has as many as it may.
    pub fn protect_none(&self, span: Span) -> Result<(), Errno> {
        self.before(Call::ProtectNone)?;
        os::protect(span, Access::None)
    }

    /// Gives back address space and memory.
    ///
    /// # Errors
    /// `ENOMEM` if that would split a mapping and the process has as many as it may; then all stays.
    pub fn unmap(&self, span: Span) -> Result<(), Errno> {
        self.before(Call::Unmap)?;
        os::unmap(span)?;
        self.hooks.unmapped(span);
        Ok(())
    }

    /// Changes the length of a mapping, in place or, if it may move, anywhere.
    ///
    /// # Errors
    /// `ENOMEM` if it cannot grow where it is and may not move, or there is no room; the mapping stays as it was.
    pub fn remap(&self, old: Span, new_len: usize, may_move: bool) -> Result<Span, Errno> {
        self.before(Call::Remap)?;
        self.hooks.may_grow(old, new_len)?;
        let new = os::remap(old, new_len, may_move)?;
        self.hooks.remapped(old, new);
        Ok(new)
    }

    /// Asks for huge pages in the span, or for none.
    ///
    /// # Errors
    /// `EINVAL` from a kernel without huge pages.
    pub fn advise_huge(&self, span: Span, on: bool) -> Result<(), Errno> {
        self.before(Call::AdviseHuge)?;
        os::advise(span, if on { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE })
    }

    /// Asks for a huge page at once in place of the small pages in the span, which is one (Linux 6.1).
    ///
    /// # Errors
    /// `EINVAL` if the kernel cannot, others if there is none to be had now; the small pages stay.
    pub fn collapse(&self, span: Span) -> Result<(), Errno> {
        self.before(Call::Collapse)?;
        os::advise(span, libc::MADV_COLLAPSE)
    }

    /// Splits the huge page of which the span is a part, so that each page of it is memory of its own
    /// (Linux 5.4). Without a huge page it does next to nothing.
    ///
    /// # Errors
    /// `EINVAL` if the kernel cannot, or the pages are locked.
    pub fn split(&self, span: Span) -> Result<(), Errno> {
        self.before(Call::Split)?;
        // Told that a part of it is cold, the kernel splits it at once.
        os::advise(span, libc::MADV_COLD)
    }

    /// Sets the policy for pages of the span that are touched from now on. No call
    /// on a machine with one node.
    ///
    /// # Errors
    /// `EINVAL` for nodes that the process may not use, or a mode that the kernel does not know; `EPERM` or
    /// `ENOSYS` from a filter.
    pub fn bind(&self, span: Span, policy: &MemPolicy) -> Result<(), Errno> {
        if self.topology.is_one_node() {
            return Ok(());
        }
        self.before(Call::Bind)?;
        if let Some(answer) = self.hooks.bind(span, policy) {
            return answer;
        }
        let (asked, older) = policy.to_kernel();
        match (os::mbind(span, asked), older) {
            (Err(Errno::EINVAL), Some(older)) => os::mbind(span, older),
            (answer, _) => answer,
        }
    }

    /// The same by the kernel's own strictness: pages come from `nodes` only, from `home` first, and
    /// a thread that finds all of them full is killed.
    ///
    /// # Errors
    /// As for [`Machine::bind`].
    pub fn bind_strictly(&self, span: Span, nodes: NodeMask, home: NodeId) -> Result<(), Errno> {
        let strict = |nodes| MemPolicy { mode: PolicyMode::BindStrict, nodes };
        if self.hooks.is_fake() {
            return self.bind(span, &strict(NodeMask::of(home)));
        }
        self.bind(span, &strict(nodes))?;
        if nodes.count() > 1 && !self.topology.is_one_node() {
            // Before Linux 5.17 the node of the thread that touches the page comes first.
            let _ = os::set_home_node(span, home.index());
        }
        Ok(())
    }

    /// Bit 0 of each byte of `out` becomes whether that OS page of the span is
    /// resident.
    ///
    /// # Errors
    /// `EINVAL` if `out` is too short, `ENOMEM` if a part of the span is not mapped.
    pub fn resident(&self, span: Span, out: &mut [u8]) -> Result<(), Errno> {
        self.before(Call::Resident)?;
        os::resident(span, out, self.page_size)
    }

    /// Tells each part of a long span that is resident, without a look at each page of it.
    ///
    /// # Errors
    /// `ENOTTY` before Linux 6.7, `EPERM` under a seccomp filter, which may not know these calls, or why
    /// `/proc/self/pagemap` cannot be opened; what was told until then stands.
    pub fn scan_resident(&self, span: Span, tell: impl FnMut(Span)) -> Result<(), Errno> {
        if self.is_filtered() {
            return Err(Errno::EPERM);
        }
        self.before(Call::Resident)?;
        os::scan_resident(span, tell)
    }
}

fn map_aligned(len: usize, align: usize) -> Result<Span, Errno> {
    // The kernel often gives an aligned place without being asked.
    let span = os::map_anywhere(len, Access::ReadWrite)?;
    if span.addr().is_multiple_of(align) {
        return Ok(span);
    }
    os::unmap(span)?;
    let wide = os::map_anywhere(len.checked_add(align).ok_or(Errno::ENOMEM)?, Access::ReadWrite)?;
    let (before, rest) = wide.split_at(wide.addr().next_multiple_of(align) - wide.addr());
    let (span, after) = rest.split_at(len);
    for spare in [before, after] {
        if !spare.is_empty() {
            // A trim that fails (too many mappings) costs address space, no memory.
            let _ = os::unmap(spare);
        }
    }
    Ok(span)
}
