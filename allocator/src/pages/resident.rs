//! What the kernel has in memory, which zonal's accounts cannot know: a page that was handed out counts as
//! resident there, whether its program touched it or not.

use zonal_numa::{PAGE_SIZE, Span};

use super::Pages;
use crate::order::{PAGEBLOCK_BYTES, PAGEBLOCK_PAGES};

impl Pages {
    /// Pages of the span that the kernel holds in memory; none where it does not say. A page of which the
    /// program only read the zeros counts, too.
    #[cold]
    #[inline(never)]
    pub(crate) fn nr_resident(&self, span: Span) -> Option<usize> {
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
