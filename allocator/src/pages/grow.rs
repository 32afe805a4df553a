//! Growth of a zone: what is tried, and in which order. `commit` makes the next step of its section, `sections` adds
//! one, `bind` places it.
//!
//! Nobody holds a lock while the system commits: pages are claimed first ([`crate::zone`]), and who finds the
//! zone short meanwhile commits some of its own. So it is with sections: an address is claimed under the window's
//! lock, the section reserved without it and entered under it. All that is done for nodes that memory is
//! bound to is done under that lock.

use zonal_numa::{NodeId, PAGE_SIZE};

use super::commit::{BOUND_STEP, How, NotCommitted};
use crate::lock::lock_unless;
use crate::order::PAGEBLOCK_PAGES;
use crate::pages::Pages;
use crate::policy::bound::Footing;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::yield_now;
use crate::zone::Request;

/// What came of a wish for growth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// There is no more to be had.
    Refused,
    /// This thread brought memory, or found that what the zone has may do now.
    Own,
    /// Another thread was faster.
    Others,
}

impl Pages {
    /// Commits more memory for `node`, `seen` being what its growth count was when the zone was
    /// found short.
    pub(crate) fn grow(&self, id: NodeId, huge: bool, req: &Request, seen: u32) -> Growth {
        let Some(node) = self.node(id) else { return Growth::Refused };
        let has_grown = || node.grown() != seen;
        if has_grown() {
            return Growth::Others;
        }
        if node.is_bound() {
            return self.grow_bound(id, huge, req, has_grown);
        }
        self.refresh_allowed();
        if self.footing(id, BOUND_STEP * PAGE_SIZE, req.level) == Footing::Full {
            return Growth::Refused;
        }
        let how = How { huge, firm: false };
        match self.commit_next(id, how, req) {
            Ok(_) => return Growth::Own,
            Err(NotCommitted::Refused) => return self.commit_other(id, how, req, has_grown),
            Err(NotCommitted::NoneLeft) => {}
        }
        match self.add_beside_others(id, huge, has_grown) {
            None => return Growth::Others,
            Some(Err(_)) => return self.commit_other(id, how, req, has_grown),
            Some(Ok(())) => {}
        }
        match self.commit_next(id, how, req) {
            Err(NotCommitted::Refused) => self.commit_other(id, how, req, has_grown),
            // They may have been faster.
            Ok(_) | Err(NotCommitted::NoneLeft) => Growth::Own,
        }
    }

    /// What is left of a section of the other kind is better than nothing. While others commit, or add sections, it
    /// is too early to say that there is none.
    fn commit_other(
        &self,
        id: NodeId,
        how: How,
        req: &Request,
        has_grown: impl Fn() -> bool,
    ) -> Growth {
        if self.commit_next(id, How { huge: !how.huge, ..how }, req).is_ok() {
            return Growth::Own;
        }
        let is_committing = || self.nodes[id.index()].lock().claims.committing.len() > 0;
        let mut window = self.window.lock();
        let is_adding =
            [false, true].iter().any(|&huge| window.growing(id.index(), huge).is_adding());
        drop(window);
        // Asked last: what was being added, or committed, until just now is known by it.
        if !is_adding && !is_committing() && !has_grown() {
            return Growth::Refused;
        }
        yield_now();
        Growth::Others
    }

    /// The same for a node that memory is bound to: one after the other, since each looks at what is left
    /// there, and at what came the last time.
    fn grow_bound(
        &self,
        id: NodeId,
        huge: bool,
        req: &Request,
        has_grown: impl Fn() -> bool + Copy,
    ) -> Growth {
        let node = &self.nodes[id.index()];
        let window = lock_unless(&self.window, has_grown).filter(|_| !has_grown());
        let Some(mut window) = window else { return Growth::Others };
        self.refresh_allowed();
        self.bring_home(&mut window, id, huge);
        self.bring_home(&mut window, id, !huge);
        let needed = req.order.nr_pages().max(PAGEBLOCK_PAGES);
        let held_back = node.allowance().is_some_and(|left| left.load(Relaxed) < needed);
        let firm = match self.footing(id, BOUND_STEP * PAGE_SIZE, req.level) {
            Footing::Full => return Growth::Refused,
            // What the zone has may do now.
            Footing::Ample if held_back => return Growth::Own,
            Footing::Ample => false,
            Footing::Firm => match self.fill_free(id) {
                // The free blocks that have memory now may do.
                Some(true) => return Growth::Own,
                Some(false) => true,
                None => return Growth::Refused,
            },
        };
        // A node that is near full has no huge pages any more.
        let how = How { huge: huge && !firm, firm };
        let came = match self.commit_next(id, how, req) {
            Err(NotCommitted::NoneLeft) => {
                let len = window.growing(id.index(), how.huge).next_len();
                match self.add_section(&mut window, id, how.huge, (len, true)) {
                    Ok(()) => self.commit_next(id, how, req),
                    Err(_) => Err(NotCommitted::NoneLeft),
                }
            }
            came => came,
        };
        let other = How { huge: !huge, firm };
        let came = match came {
            Ok(step) => Some((how, step)),
            Err(_) if firm => None,
            Err(_) => self.commit_next(id, other, req).ok().map(|step| (other, step)),
        };
        let Some((how, step)) = came else { return Growth::Refused };
        window.growing(id.index(), how.huge).last = Some(step);
        Growth::Own
    }
}
