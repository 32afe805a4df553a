//! What the kernel has in memory, which zonal's accounts cannot know: a page that was handed out counts as
//! resident there, whether its program touched it or not.

use zonal_numa::{PAGE_SIZE, Span};

use super::Pages;
use crate::order::{PAGEBLOCK_BYTES, PAGEBLOCK_PAGES};

/// Of what is as long, the kernel is asked for the parts that it has, not for each page.
const LONG: usize = 1 << 30;
/// Where it does not know how to say that, longer ones are not asked about: by the page a TiB takes about a second.
const LONGEST_BY_PAGE: usize = 1 << 40;

/// Whether a span may be mostly empty, and too long for a look at each page.
pub(crate) fn is_long(span: Span) -> bool {
    span.len() >= LONG
}

impl Pages {
    /// Pages of the span that the kernel holds in memory; none where it does not say. A page of which the
    /// program only read the zeros counts, too.
    #[cold]
    #[inline(never)]
    pub(crate) fn nr_resident(&self, span: Span) -> Option<usize> {
        if is_long(span) {
            let mut bytes = 0;
            let scanned = self.machine.scan_resident(span, |part| bytes += part.len());
            if scanned.is_ok() || span.len() > LONGEST_BY_PAGE {
                return scanned.ok().map(|()| bytes / PAGE_SIZE);
            }
        }
        let os_page = self.machine.page_size();
        let mut found = 0;
        let mut rest = span;
        while !rest.is_empty() {
            let mut bits = [0; PAGEBLOCK_PAGES];
            let (part, after) = rest.split_at(rest.len().min(PAGEBLOCK_BYTES));
            rest = after;
            let bits = &mut bits[..part.len().div_ceil(os_page)];
            self.machine.resident(part, bits).ok()?;
            found += bits.iter().filter(|&bit| bit & 1 != 0).count() * (os_page / PAGE_SIZE);
        }
        Some(found)
    }
}
