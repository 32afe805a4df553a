//! Reading a stack that may end anywhere, without a fault.

use core::ptr;

const PAGE: usize = zonal_numa::PAGE_SIZE;
const WORD: usize = size_of::<usize>();
/// Pages that one frame may skip.
const REACH: usize = 256;

/// A range that the kernel says can be read: the page of the stack pointer, and those above it as
/// far as somebody asked. Nothing is remembered from one walk to the next, since stacks of
/// coroutines come and go; most walks stay within two pages.
pub(super) struct Readable {
    start: usize,
    end: usize,
}

impl Readable {
    /// The page in which the calling thread's stack pointer stands.
    pub(super) fn around(sp: usize) -> Readable {
        let page = sp & !(PAGE - 1);
        Readable { start: page, end: page + PAGE }
    }

    /// The page of another stack's pointer, if there is one.
    pub(super) fn elsewhere(sp: usize) -> Option<Readable> {
        can_read(sp & !(PAGE - 1)).then(|| Readable::around(sp))
    }

    /// The word at `addr`, if it lies on the stack.
    pub(super) fn word(&mut self, addr: usize) -> Option<usize> {
        if !addr.is_multiple_of(WORD) || addr < self.start {
            return None;
        }
        if addr >= self.end {
            self.extend(addr)?;
        }
        // SAFETY: an aligned word in pages that can be read. Volatile: it may change any time.
        Some(unsafe { ptr::with_exposed_provenance::<usize>(addr).read_volatile() })
    }

    #[cold]
    fn extend(&mut self, addr: usize) -> Option<()> {
        if (addr - self.end) / PAGE >= REACH {
            return None;
        }
        while self.end <= addr {
            if !can_read(self.end) {
                return None;
            }
            self.end = self.end.checked_add(PAGE)?;
        }
        Some(())
    }
}

/// Whether there is a word at `addr`. The kernel copies the mask before it looks at the action,
/// which does not exist: EFAULT tells that there is nothing to read, EINVAL that there is. Nothing
/// changes but errno.
fn can_read(addr: usize) -> bool {
    const NO_SUCH_ACTION: usize = usize::MAX;
    // SAFETY: the call reads one word through the kernel, which checks the address.
    let answer = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, NO_SUCH_ACTION, addr, 0_usize, size_of::<u64>())
    };
    answer != 0 && crate::errno::get() == libc::EINVAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_where_the_mapping_ends() {
        let len = 4 * PAGE;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping of our own.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let base = base.expose_provenance();
        let hole = ptr::with_exposed_provenance_mut(base + 3 * PAGE);
        // SAFETY: its last page.
        assert_eq!(unsafe { libc::mprotect(hole, PAGE, libc::PROT_NONE) }, 0);

        let mut stack = Readable::around(base + PAGE + 8);
        assert_eq!(stack.word(base + PAGE), Some(0));
        assert_eq!(stack.word(base + 3 * PAGE - 8), Some(0), "the page above is asked for");
        assert_eq!(stack.word(base + 3 * PAGE), None, "and the one that cannot be read");
        assert_eq!(stack.word(base), None, "below the stack pointer is no stack");
        assert_eq!(stack.word(base + PAGE + 1), None, "not aligned");
        assert_eq!(stack.word(base + PAGE * (REACH + 9)), None, "too far");
    }
}
