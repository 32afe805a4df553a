//! Which parts of a long mapping are in memory, by `PAGEMAP_SCAN` (Linux 6.7): the kernel passes over what it has no
//! tables for, where `mincore` would write a byte for each page.

use super::file::Fd;
use super::last_errno;
use crate::{Errno, Span};

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const PAGE_IS_PRESENT: u64 = 1 << 3;
/// Parts that one call tells of.
const REGIONS: usize = 64;

/// The kernel's `struct page_region`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// The kernel's `struct pm_scan_arg`.
#[derive(Default)]
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Tells each part of the span that is in memory, from its start on. What was told until an error stands.
pub(crate) fn scan_resident(span: Span, mut tell: impl FnMut(Span)) -> Result<(), Errno> {
    let pagemap = Fd::open(c"/proc/self/pagemap")?;
    let mut regions = [Region::default(); REGIONS];
    let mut from = span.addr() as u64;
    let end = span.end() as u64;
    while from < end {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: from,
            end,
            vec: regions.as_mut_ptr().expose_provenance() as u64,
            vec_len: REGIONS as u64,
            category_mask: PAGE_IS_PRESENT,
            return_mask: PAGE_IS_PRESENT,
            ..Scan::default()
        };
        // SAFETY: the kernel writes to `scan`, and as many regions as there is room for.
        let nr =
            unsafe { libc::syscall(libc::SYS_ioctl, pagemap.raw(), PAGEMAP_SCAN, &raw mut scan) };
        let nr = usize::try_from(nr).map_err(|_| last_errno())?;
        for region in &regions[..nr.min(REGIONS)] {
            let (start, end) = (region.start as usize, region.end as usize);
            if let Some(part) = span.part(start.saturating_sub(span.addr()), end - start) {
                tell(part);
            }
        }
        if scan.walk_end <= from {
            return Err(Errno::EINVAL);
        }
        from = scan.walk_end;
    }
    Ok(())
}

const _: () = assert!(size_of::<Scan>() == 96);
