//! Reclaim on a node before memory is taken from another one: the kernel's `node_reclaim`.
//!
//! Off by default, as there: where nodes are near each other, their free memory is worth more than
//! the time it takes to make some here.

use zonal_allocator::{Deadline, OwnHeap, Patience, PurgeHow, Reclaimer};
use zonal_numa::{NodeId, PAGE_SIZE};

use crate::scan::SWAP_CLUSTER_MAX;
use crate::shrink::{ScanControl, shrink_node};

/// So many pages in a hundred of a node stay as they are, as by `min_unmapped_ratio`.
const MIN_RECLAIMABLE_RATIO: usize = 1;

/// What came of it, by the kernel's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeReclaim {
    /// Not tried: somebody else does it, or the node is that of other processors.
    NoScan,
    /// Nothing worth it is there.
    Full,
    /// Something, but less than asked for.
    Some,
    /// As much as asked for.
    Success,
}

/// Makes room for `nr_pages` pages on `node` out of what is free there, as far as the mode goes.
pub(crate) fn node_reclaim(own: OwnHeap, node: NodeId, nr_pages: usize) -> NodeReclaim {
    let mm = own.mm();
    let (mode, topology) = (mm.node_reclaim_mode(), mm.machine().topology());
    let others = topology.nodes_with_cpus().contains(node) && mm.machine().current_node() != node;
    if !mode.is_on() || others {
        return NodeReclaim::NoScan;
    }
    let reclaimable = mm.pages().lruvec(node).nr_pages;
    let cached = if mode.takes_mappings() { mm.huge_cached_pages(node) } else { 0 };
    let managed = mm.pages().zone_stats(node).map_or(0, |node| node.zone.nr_managed as usize);
    if reclaimable + cached <= managed * MIN_RECLAIMABLE_RATIO / 100 {
        return NodeReclaim::Full;
    }
    let Some(_alone) = mm.pages().begin_node_reclaim(node) else { return NodeReclaim::NoScan };
    let goal = nr_pages.max(SWAP_CLUSTER_MAX);
    let control = ScanControl::new(Reclaimer::Direct, goal, 0);
    let mut done = shrink_node(mm, node, control);
    if done < goal && mode.takes_mappings() {
        done += mm.drain_huge() / PAGE_SIZE;
    }
    if done < goal && mode.takes_from_threads() {
        mm.drain_all_until(Some(own), Patience::PassBy, Deadline::NEVER);
        mm.purge_holes(Some(own), Patience::PassBy, PurgeHow::ALL, goal - done);
        done += shrink_node(mm, node, control);
    }
    mm.pages().note_node_reclaim(node, done >= goal);
    if done >= goal { NodeReclaim::Success } else { NodeReclaim::Some }
}
