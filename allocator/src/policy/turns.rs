//! Whose turn it is among nodes that share the pages, evenly or by weight.

use zonal_numa::{MAX_NODES, Machine, NodeId, NodeMask};

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};

/// Pages taken from each node in turn so far. Relaxed throughout: only the spread matters.
///
/// All zeros is the start.
#[derive(Debug)]
pub(crate) struct Turns([AtomicUsize; MAX_NODES]);

impl Turns {
    pub(crate) fn new() -> Turns {
        Turns(core::array::from_fn(|_| AtomicUsize::new(0)))
    }

    /// The node that has given least of its share.
    pub(crate) fn next(&self, nodes: NodeMask, weights: Option<&Weights>) -> Option<NodeId> {
        let taken = |node: NodeId| self.0[node.index()].load(Relaxed) as u128;
        let weight = |node| weights.map_or(1, |weights| u128::from(weights.of(node)));
        // By the quotient of both, without dividing.
        nodes.iter().min_by(|&a, &b| (taken(a) * weight(b)).cmp(&(taken(b) * weight(a))))
    }

    pub(crate) fn note(&self, node: NodeId, nr_pages: usize) {
        self.0[node.index()].fetch_add(nr_pages, Relaxed);
    }
}

/// Shares of the nodes in weighted interleaving: those of the user, else the kernel's.
#[derive(Debug)]
pub(crate) struct Weights {
    /// 0 counts as 1, what the kernel has by default.
    by_node: [AtomicU8; MAX_NODES],
    /// The kernel does not know them, so it cannot place pages by them.
    are_own: bool,
    are_read: AtomicBool,
}

impl Weights {
    /// Those of the user; all zeros for none.
    pub(crate) fn new(by_node: [u8; MAX_NODES]) -> Weights {
        let are_own = by_node.iter().any(|&weight| weight != 0);
        let by_node = by_node.map(AtomicU8::new);
        Weights { by_node, are_own, are_read: AtomicBool::new(false) }
    }

    /// Asks the kernel for those of the nodes, once. They stand in files, which a filter that came
    /// after the start may forbid.
    pub(crate) fn read(&self, machine: &Machine, nodes: NodeMask) {
        // Relaxed: two that ask hear the same.
        let is_first = !self.are_own && !self.are_read.swap(true, Relaxed);
        if !is_first || machine.is_confined_since_start() {
            return;
        }
        for node in nodes {
            let weight = machine.interleave_weight(node).unwrap_or(0);
            self.by_node[node.index()].store(weight, Relaxed);
        }
    }

    pub(crate) fn of(&self, node: NodeId) -> u8 {
        self.by_node[node.index()].load(Relaxed).max(1)
    }

    /// Whether only zonal knows them.
    pub(crate) fn are_own(&self) -> bool {
        self.are_own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::from_index(number).unwrap()
    }

    /// What each node has after so many pages in blocks of these sizes.
    fn spread(weights: Option<&Weights>, sizes: &[usize], total: usize) -> [usize; 4] {
        let turns = Turns::new();
        let mut have = [0; 4];
        let mut sizes = sizes.iter().cycle();
        while have.iter().sum::<usize>() < total {
            let next = turns.next(NodeMask::from_bits(0b1011), weights).unwrap();
            let nr_pages = *sizes.next().unwrap();
            turns.note(next, nr_pages);
            have[next.index()] += nr_pages;
        }
        have
    }

    #[test]
    fn every_node_gets_its_share_whatever_the_sizes() {
        let [a, b, none, d] = spread(None, &[1, 8, 700, 3], 300_000);
        assert_eq!(none, 0);
        assert!([a, b, d].iter().all(|have| have.abs_diff(100_000) < 1000), "{a} {b} {d}");
        let mut by_node = [0; MAX_NODES];
        (by_node[0], by_node[3]) = (6, 3);
        let weights = Weights::new(by_node);
        let [a, b, none, d] = spread(Some(&weights), &[8, 8, 1000, 1], 300_000);
        assert_eq!(none, 0);
        // The node without a weight counts once.
        assert!(a.abs_diff(180_000) < 2000 && b.abs_diff(30_000) < 2000, "{a} {b} {d}");
        assert_eq!(weights.of(node(1)), 1);
    }
}
