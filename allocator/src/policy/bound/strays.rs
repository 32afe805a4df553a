//! Memory that is bound to a node and that the kernel put elsewhere all the same: for lack of huge
//! pages, or because others were faster.
//!
//! Nobody says so when it happens, so whoever takes more of the node looks at what was taken before:
//! all of the last step of a section, a sample of the last huge block. What can be moved home is, the
//! rest is counted.

use zonal_numa::{NodeId, Span};

use crate::node::Node;
use crate::pages::Pages;
use crate::sync::atomic::Ordering::Relaxed;
use crate::window::Window;

/// Pages of a huge block that are looked at.
const SAMPLE: usize = 128;
/// So much of a huge block is moved before it shows whether there is room.
const PIECE: usize = 4 << 20;
/// And so much by one request: some 10 ms.
const MOST: usize = 32 << 20;

impl Pages {
    /// Looks at the last step of committing. Looks at it again for as long as there is no next step,
    /// since not all of it was touched the last time.
    pub(crate) fn bring_home(&self, window: &mut Window, id: NodeId, huge: bool) {
        let Some(node) = self.bound_node(id) else { return };
        let Some(step) = &mut window.growing(id.index(), huge).last else { return };
        let span = self.span_of(step.start, step.nr_pages);
        // Where the kernel does not tell, there is nothing to count.
        let Ok((came, stayed)) = self.machine.bring_home(span, id) else { return };
        let new = stayed.saturating_sub(step.strays);
        step.strays += new;
        self.note_strays(node, came, new);
    }

    /// Moves some of a huge block of the node home, from `done` bytes on, if a sample says that it is
    /// elsewhere. How many of its OS pages stay there, of which `known` are counted already, and up to
    /// where it was looked at.
    pub(crate) fn bring_block_home(
        &self,
        id: NodeId,
        span: Span,
        (known, done): (usize, usize),
    ) -> (usize, usize) {
        let Some(node) = self.bound_node(id) else { return (known, span.len()) };
        if self.count_strays(id, span) == 0 {
            return (known, span.len());
        }
        let (mut came, mut stayed, mut done) = (0, 0, done.min(span.len()));
        let end = span.len().min(done + MOST);
        while done < end && stayed == 0 {
            let (piece, _) = span.split_at(done).1.split_at(PIECE);
            let Ok((home, away)) = self.machine.bring_home(piece, id) else {
                stayed = 1;
                break;
            };
            (came, stayed, done) = (came + home, away, done + piece.len());
        }
        if stayed == 0 && done < span.len() {
            self.note_strays(node, came, 0);
            return (known, done);
        }
        let strays = if stayed == 0 { 0 } else { self.count_strays(id, span) };
        self.note_strays(node, came, strays.saturating_sub(known));
        (strays, span.len())
    }

    /// Counts what of a huge block that is given up is elsewhere, but for what is `known`.
    pub(crate) fn note_stray_block(&self, id: NodeId, span: Span, known: usize) {
        if let Some(node) = self.bound_node(id) {
            self.note_strays(node, 0, self.count_strays(id, span).saturating_sub(known));
        }
    }

    fn bound_node(&self, id: NodeId) -> Option<&Node> {
        self.node(id).filter(|node| node.is_bound())
    }

    /// OS pages of the span that are on other nodes, by a sample of them.
    fn count_strays(&self, id: NodeId, span: Span) -> usize {
        let stride = (span.len() / self.machine.page_size()).div_ceil(SAMPLE);
        let mut found = 0;
        let count = |on: Option<NodeId>| found += usize::from(on.is_some_and(|on| on != id));
        // Where the kernel does not tell, there is nothing to count.
        if self.machine.nodes_of(span, stride, count).is_err() {
            return 0;
        }
        found * stride
    }

    fn note_strays(&self, node: &Node, came: usize, stayed: usize) {
        let nr_pages = |nr_os_pages: usize| (nr_os_pages * self.os_page.nr_pages()) as u64;
        node.numastat.pages_migrated.fetch_add(nr_pages(came), Relaxed);
        node.numastat.bind_miss.fetch_add(nr_pages(stayed), Relaxed);
    }
}
