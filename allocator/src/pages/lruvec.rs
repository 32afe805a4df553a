//! How much of a node is free and still resident, and how old that is: what reclaim goes by.

use zonal_numa::NodeId;

use super::Pages;
use crate::node::Node;
use crate::order::PAGEBLOCK_PAGES;
use crate::purge::is_past;

/// Free resident pages of a node.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Lruvec {
    /// On the free lists.
    pub nr_pages: usize,
    /// Taken out for purges under way.
    pub nr_isolated: usize,
    /// Pageblocks of the node.
    pub nr_pageblocks: usize,
}

/// Pageblocks that an estimate looks at.
const SAMPLED: usize = 512;

impl Pages {
    /// Free resident pages of a node at this moment.
    pub fn lruvec(&self, node: NodeId) -> Lruvec {
        let Some(zone) = self.node(node).map(Node::lock) else { return Lruvec::default() };
        Lruvec {
            nr_pages: zone.nr_free_resident,
            nr_isolated: zone.nr_isolated,
            nr_pageblocks: zone.nr_pageblocks(),
        }
    }

    /// How many free resident pages of a node were not used after each of these generations; none
    /// stands for now. An estimate from a sample of its `nr_pageblocks` pageblocks, evenly spaced, made
    /// without the zone's lock.
    pub fn nr_inactive<const N: usize>(
        &self,
        node: NodeId,
        nr_pageblocks: usize,
        borders: [Option<u32>; N],
    ) -> [usize; N] {
        let mut counts = [0; N];
        let stride = nr_pageblocks.div_ceil(SAMPLED).max(1);
        // Pageblocks to pass over before the next one of the sample.
        let mut skip = 0;
        for (_, section) in self.sections.iter().filter(|(_, s)| s.node() == node.index()) {
            let nr = section.nr_committed() / PAGEBLOCK_PAGES;
            while skip < nr {
                let chunk = self.map.chunk(section.start().add(skip * PAGEBLOCK_PAGES));
                let (generation, nr_pages) = (chunk.generation(), chunk.nr_free_resident());
                for (count, border) in counts.iter_mut().zip(borders) {
                    if border.is_none_or(|border| is_past(generation, border)) {
                        *count += nr_pages * stride;
                    }
                }
                skip += stride;
            }
            skip -= nr;
        }
        counts
    }

    /// Free pages of all nodes that are still resident.
    pub fn nr_free_resident(&self) -> usize {
        self.online.iter().filter_map(|n| self.node(n)).map(|n| n.lock().nr_free_resident).sum()
    }
}
