//! Which node gives a page, and what a node still has to give.

use super::Machine;
use crate::os::{self, BATCH};
use crate::topology::{self, SYSFS_ROOT};
use crate::{Call, Errno, NodeId, NodeMemory, Span};

impl Machine {
    /// What the kernel says of the memory of `node`; none if it does not.
    pub fn memory(&self, node: NodeId) -> Option<NodeMemory> {
        self.before(Call::Memory).ok()?;
        if let Some(answer) = self.hooks.memory(node) {
            return answer;
        }
        topology::read_memory(SYSFS_ROOT, node)
    }

    /// Whether the kernel says where pages are.
    ///
    /// A filter may kill a process for asking, so this belongs in the start of the program.
    pub fn can_place(&self) -> bool {
        !self.topology.is_one_node()
            && self.before(Call::Place).is_ok()
            && os::move_pages(&[], None).is_ok()
    }

    /// Calls `tell` with the node of each `stride`th OS page of the span, none for those that have
    /// no memory.
    ///
    /// # Errors
    /// What the kernel or a filter says to `move_pages`; what was told until then stands.
    pub fn nodes_of(
        &self,
        span: Span,
        stride: usize,
        mut tell: impl FnMut(Option<NodeId>),
    ) -> Result<(), Errno> {
        let mut pages = Pages::of(span, self.page_size.saturating_mul(stride.max(1)));
        while let Some(batch) = pages.next_batch() {
            let found = self.find(batch, None)?;
            found[..batch.len()].iter().for_each(|&node| tell(node));
        }
        Ok(())
    }

    /// Brings the pages of the span to `node` that have memory elsewhere. The answer is how many
    /// OS pages came, and how many stayed where they were.
    ///
    /// # Errors
    /// As for [`Machine::nodes_of`]; pages that came stay.
    pub fn bring_home(&self, span: Span, node: NodeId) -> Result<(usize, usize), Errno> {
        let (mut came, mut stayed) = (0, 0);
        let mut pages = Pages::of(span, self.page_size);
        while let Some(batch) = pages.next_batch() {
            let found = self.find(batch, None)?;
            let mut strays = [0; BATCH];
            let mut nr = 0;
            for (&addr, found) in batch.iter().zip(found) {
                if found.is_some_and(|found| found != node) {
                    strays[nr] = addr;
                    nr += 1;
                }
            }
            if nr > 0 {
                let now = self.find(&strays[..nr], Some(node))?;
                let home = now[..nr].iter().filter(|&&now| now == Some(node)).count();
                came += home;
                stayed += nr - home;
            }
        }
        Ok((came, stayed))
    }

    /// The node of the page at each address; with `to`, after they were moved there.
    fn find(&self, addrs: &[usize], to: Option<NodeId>) -> Result<[Option<NodeId>; BATCH], Errno> {
        self.before(Call::Place)?;
        let mut found = [None; BATCH];
        if self.hooks.is_fake() {
            for (slot, &addr) in found.iter_mut().zip(addrs) {
                *slot = self.hooks.node_of_addr(addr, to);
            }
            return Ok(found);
        }
        let status = os::move_pages(addrs, to.map(NodeId::index))?;
        for (slot, &word) in found.iter_mut().zip(&status[..addrs.len()]) {
            *slot = usize::try_from(word).ok().and_then(NodeId::from_index);
        }
        Ok(found)
    }

    /// Gives every page of the span memory of `node`, which it should prefer already; false when
    /// the node has not got that much: some pages are elsewhere then. Pages that have memory there
    /// keep it.
    ///
    /// What files hold there gives way. (A page that prefers a node goes elsewhere before the kernel
    /// drops a file's page there, and one that is bound to it kills the process when there is
    /// nothing to drop. But a page that is moved there makes room, or stays where it is.)
    ///
    /// # Safety
    /// The span is writable and nobody uses what is in it: the first word of each OS page becomes
    /// zero.
    #[expect(unsafe_code, reason = "writes to the caller's memory")]
    pub unsafe fn fill(&self, span: Span, node: NodeId) -> bool {
        let mut pages = Pages::of(span, self.page_size);
        let on_node = |found: &[Option<NodeId>]| found.iter().all(|&found| found == Some(node));
        // A batch at a time: those that came from elsewhere are moved before more do.
        while let Some(batch) = pages.next_batch() {
            for &addr in batch {
                // SAFETY: the caller's promise.
                unsafe { os::touch(addr) };
                self.hooks.touched(addr);
            }
            let is_there = || {
                let found = self.find(batch, None);
                found.is_ok_and(|found| on_node(&found[..batch.len()]))
            };
            // After the move as well: the pages of one huge page are not all told of when it moves.
            let is_placed = is_there() || (self.find(batch, Some(node)).is_ok() && is_there());
            if !is_placed {
                return false;
            }
        }
        true
    }
}

/// The addresses of the pages of a span, a batch at a time.
struct Pages {
    next: usize,
    end: usize,
    step: usize,
    batch: [usize; BATCH],
}

impl Pages {
    fn of(span: Span, step: usize) -> Pages {
        Pages { next: span.addr(), end: span.end(), step, batch: [0; BATCH] }
    }

    /// The next addresses; none at the end, never an empty batch.
    fn next_batch(&mut self) -> Option<&[usize]> {
        let mut nr = 0;
        while nr < BATCH && self.next < self.end {
            self.batch[nr] = self.next;
            self.next = self.next.saturating_add(self.step);
            nr += 1;
        }
        (nr > 0).then(|| &self.batch[..nr])
    }
}
