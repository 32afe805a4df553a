//! Nodes that memory is bound to: whether such a node has room for more.
//!
//! The kernel answers a bound node that is full by going to other nodes, or under its own
//! `MPOL_BIND` by killing the process; here it ends in ENOMEM. Far from full, pages come with the
//! first touch as everywhere. Near full they are taken, and looked at, before anybody gets them:
//! [`firm`]. What the kernel put elsewhere all the same is found later, and moved home: [`strays`].

mod firm;
mod strays;

use zonal_numa::{NodeId, NodeMemory, PAGE_SIZE};

use crate::node::Node;
use crate::pages::Pages;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;
use crate::watermark::WatermarkLevel;

/// A node with less free memory than this is near full.
const NEAR_FULL: usize = 64 << 20;
/// Or less than such a part of all its memory.
const NEAR_FULL_SHIFT: u32 = 4;
/// Pages that may come with the first touch before somebody looks again: free blocks of the zone
/// that were purged come back like that.
const ALLOWANCE: usize = (16 << 20) / PAGE_SIZE;
/// So much of a node, or such a part, the kernel keeps before it goes to other nodes.
const KEPT: usize = 32 << 20;
const KEPT_SHIFT: u32 = 6;
/// What must have become free on a node that was full before it is worth another try.
const WORTH_A_TRY: usize = 2 << 20;

/// How more memory of a node may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Footing {
    /// With the first touch.
    Ample,
    /// At once, by [`Pages::secure`] and its kin.
    Firm,
    /// Not at all.
    Full,
}

/// What was left on a node when it was found full; 0 while it is not. Relaxed: a hint.
#[derive(Debug, Default)]
pub(crate) struct FullMark(pub(crate) AtomicUsize);

impl Pages {
    /// Whether memory is bound to the node.
    pub(crate) fn is_bound(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(Node::is_bound)
    }

    /// How `bytes` more of the node may be taken.
    pub(crate) fn footing(&self, id: NodeId, bytes: usize, level: WatermarkLevel) -> Footing {
        // Whoever goes below the low mark takes what the kernel gives.
        let reclaims =
            self.node_reclaim.is_on() && level == WatermarkLevel::Low && self.online.count() > 1;
        let Some(node) = self.node(id).filter(|node| node.is_bound() || reclaims) else {
            return Footing::Ample;
        };
        let Some(room) = self.machine.memory(id) else {
            node.allowance.store(usize::MAX, Relaxed);
            node.ample.store(true, Relaxed);
            return Footing::Ample;
        };
        // Free pages that the node has not given yet, but will without being asked again.
        let cold = {
            let zone = node.lock();
            (zone.nr_free - zone.nr_free_resident) * PAGE_SIZE
        };
        if !node.is_bound() {
            // Nothing is promised here: the kernel shall only not have to spill before zonal does.
            let kept = KEPT.max(room.total >> KEPT_SHIFT);
            let is_ample = room.free >= kept.saturating_add(cold).saturating_add(bytes);
            return if is_ample { Footing::Ample } else { Footing::Full };
        }
        let near = NEAR_FULL.max(room.total >> NEAR_FULL_SHIFT);
        if room.free >= near.saturating_add(cold).saturating_add(bytes) {
            node.full.0.store(0, Relaxed);
            node.allowance.store(ALLOWANCE, Relaxed);
            node.ample.store(true, Relaxed);
            return Footing::Ample;
        }
        node.allowance.store(0, Relaxed);
        node.ample.store(false, Relaxed);
        let left = node.left(room);
        let mark = node.full.0.load(Relaxed);
        if left < bytes || (mark != 0 && left < mark + WORTH_A_TRY) {
            node.note_full();
            return Footing::Full;
        }
        Footing::Firm
    }
}

impl Node {
    /// What may be taken of it. Under a kernel's policy the program's stacks, page tables and
    /// mappings need the rest: what finds none there is killed.
    pub(crate) fn left(&self, room: NodeMemory) -> usize {
        let kept = if self.is_shared() { KEPT.max(room.total >> KEPT_SHIFT) } else { 0 };
        (room.free + room.files).saturating_sub(kept)
    }

    /// How many pages may get memory by being handed out, if somebody counts.
    pub(crate) fn allowance(&self) -> Option<&AtomicUsize> {
        self.is_bound().then_some(&self.allowance)
    }

    /// Whether `nr_pages` may get memory by being handed out, which are used up then. Under the zone
    /// lock.
    pub(crate) fn spend(&self, nr_pages: usize) -> bool {
        let left = self.allowance().map_or(usize::MAX, |left| left.load(Relaxed));
        if left < nr_pages {
            return false;
        }
        if let Some(allowance) = self.allowance() {
            allowance.store(left - nr_pages, Relaxed);
        }
        true
    }

    /// Whether memory is bound to the node, and nobody knows it to be far from full: see [`firm`].
    pub(crate) fn is_firm(&self) -> bool {
        self.is_bound() && !self.ample.load(Relaxed)
    }

    pub(crate) fn note_full(&self) {
        self.numastat.bind_full.fetch_add(1, Relaxed);
    }
}
