//! On which nodes the system places memory: sections by their node, huge blocks by the policy of their thread.

use zonal_numa::{Errno, MemPolicy, NodeId, NodeMask, Span};

use crate::pages::{Pages, Placement};
use crate::policy::is_in_turn;
use crate::policy::turns::Weights;
use crate::sync::atomic::Ordering::Relaxed;

/// The policy of a huge block, and the weights that it goes by, if it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HugePolicy<'a> {
    pub(crate) policy: MemPolicy,
    pub(crate) weights: Option<&'a Weights>,
}

impl Pages {
    /// Places a huge block: page by page where nodes take turns, else on `id`.
    pub(crate) fn bind_huge(&self, id: NodeId, policy: HugePolicy<'_>, span: Span) {
        let HugePolicy { policy, weights } = policy;
        let bound = match weights.filter(|weights| weights.are_own()) {
            _ if self.placement == Placement::Kernel || !is_in_turn(policy) => self.bind(id, span),
            // By the kernel where it knows how.
            None => self.machine.bind(span, &policy),
            Some(weights) => self.bind_by_weight(policy.nodes, weights, span),
        };
        if let (Err(_), Some(node)) = (bound, self.node(id)) {
            node.nr_bind_fail.fetch_add(1, Relaxed);
        }
    }

    /// Gives each node a piece of the span as large as its share.
    fn bind_by_weight(&self, nodes: NodeMask, weights: &Weights, span: Span) -> Result<(), Errno> {
        let granule = self.machine.page_size();
        let total: usize = nodes.iter().map(|node| usize::from(weights.of(node))).sum();
        let (mut rest, mut left) = (span, total);
        for node in nodes {
            let weight = usize::from(weights.of(node));
            // Of what is left, so that the last one takes all of it.
            let nr_pages = rest.len() / granule;
            let (part, after) = rest.split_at(nr_pages * weight / left * granule);
            if !part.is_empty() {
                self.machine.bind(part, &MemPolicy::preferred(node))?;
            }
            (rest, left) = (after, left - weight);
        }
        Ok(())
    }

    pub(super) fn bind(&self, id: NodeId, span: Span) -> Result<(), Errno> {
        match self.placement {
            Placement::Kernel => Ok(()),
            Placement::Prefer => self.machine.bind(span, &MemPolicy::preferred(id)),
            Placement::Strict(nodes) => {
                self.machine.bind_strictly(span, nodes.or(NodeMask::of(id)), id)
            }
        }
    }
}
