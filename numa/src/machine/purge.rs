//! Giving pages back while their place stays.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::Machine;
use crate::{Call, Errno, Span, os};

/// Whether one call may empty many spans.
#[derive(Debug, Default)]
pub(super) struct Batching {
    /// Off until somebody asks the kernel.
    works: AtomicBool,
    allowed: AtomicBool,
}

impl Machine {
    /// Finds out whether one call can purge many spans.
    ///
    /// A filter may kill a process for asking, so this belongs in the start of the
    /// program; without it, [`Machine::purge`] makes a call for each span.
    pub fn probe_batching(&self) -> bool {
        let works =
            self.before(Call::PurgeMany).is_ok() && os::can_advise_many(libc::MADV_DONTNEED);
        self.batching.works.store(works, Relaxed);
        works
    }

    /// From here on one call may purge many spans, or not. Programs confine themselves by filters that know
    /// `madvise`, which the C library uses, and kill for a call that is as rare as that for many.
    pub fn allow_batching(&self, allowed: bool) {
        self.batching.allowed.store(allowed, Relaxed);
    }

    fn may_batch(&self) -> bool {
        self.batching.works.load(Relaxed) && self.batching.allowed.load(Relaxed)
    }

    /// Gives the memory of the spans back: they read as zeroes afterwards.
    ///
    /// # Errors
    /// Of the first span that the kernel refuses, at which it stops (`EINVAL` if that is locked), with how many
    /// were done before it.
    pub fn purge(&self, spans: &[Span]) -> Result<(), (usize, Errno)> {
        let mut done = 0;
        while done < spans.len() {
            let rest = &spans[done..];
            let nr = if rest.len() > 1 && self.may_batch() { self.purge_many(rest) } else { 0 };
            // What the batch did not get through, the single call explains.
            if nr == 0 {
                self.purge_one(rest[0]).map_err(|errno| (done, errno))?;
            }
            let nr = nr.max(1);
            rest[..nr].iter().for_each(|&span| self.hooks.uncharge(span));
            done += nr;
        }
        Ok(())
    }

    fn purge_one(&self, span: Span) -> Result<(), Errno> {
        self.before(Call::Purge)?;
        os::advise(span, libc::MADV_DONTNEED)
    }

    /// How many of the first spans one call has emptied completely.
    fn purge_many(&self, spans: &[Span]) -> usize {
        let answer =
            self.before(Call::PurgeMany).and_then(|()| os::advise_many(spans, libc::MADV_DONTNEED));
        match answer {
            Ok(bytes) => whole_spans(spans, bytes),
            // A locked span, or a filter that came later: the single call tells
            // them apart, and no filter needs to be asked twice.
            Err(errno) => {
                if errno != Errno::EINVAL {
                    self.batching.works.store(false, Relaxed);
                }
                0
            }
        }
    }
}

/// How many of the first spans `bytes` cover.
fn whole_spans(spans: &[Span], bytes: usize) -> usize {
    let mut left = bytes;
    let covered = spans.iter().take_while(|span| {
        let fits = span.len() <= left;
        left = left.saturating_sub(span.len());
        // Without the second half, empty spans beyond the batch would count.
        fits && (left > 0 || !span.is_empty())
    });
    covered.count()
}
