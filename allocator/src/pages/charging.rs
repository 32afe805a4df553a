//! What may be charged and what is: the limits and caps of the process and its nodes, and the
//! charge of mappings that are not made of zone pages.

use zonal_numa::NodeId;

use super::Pages;
use crate::charge::{Budget, Cap};
use crate::lookout::Lookout;
use crate::watermark::{WatermarkLevel, Watermarks};

/// What bounds stand for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// All that the process holds.
    Process,
    /// What it holds on a node.
    Node(NodeId),
}

impl Pages {
    /// Charges `nr_pages` of a mapping that is not made of the node's pages; false when the
    /// limits do not allow it.
    pub(crate) fn charge_huge(&self, node: NodeId, nr_pages: usize, level: WatermarkLevel) -> bool {
        let Some(home) = self.node(node) else { return true };
        let mut zone = home.lock();
        if !self.levels(home).try_charge(nr_pages, level) {
            return false;
        }
        zone.nr_huge += nr_pages;
        zone.events.pgfault += nr_pages as u64;
        true
    }

    /// Takes back what [`Pages::charge_huge`] did, for a mapping that could not be had: none of its pages
    /// became resident.
    pub(crate) fn take_back_huge(&self, node: NodeId, nr_pages: usize) {
        self.uncharge_huge(node, nr_pages);
        if let Some(home) = self.node(node) {
            home.lock().events.pgfault -= nr_pages as u64;
        }
    }

    /// Takes off what [`Pages::charge_huge`] charged.
    pub(crate) fn uncharge_huge(&self, node: NodeId, nr_pages: usize) {
        let Some(home) = self.node(node) else { return };
        let mut zone = home.lock();
        self.levels(home).uncharge(nr_pages);
        zone.nr_huge -= nr_pages;
    }

    /// Pages charged to the process, handed out or free and resident.
    pub fn charged(&self) -> usize {
        self.budget.charged()
    }

    /// Pages charged there, and those taken off so far, modulo the word.
    pub fn ledger(&self, level: Level) -> (usize, usize) {
        self.budget_of(level).map_or((0, 0), |budget| (budget.charged(), budget.gone()))
    }

    /// Charged pages that may have no memory: those charged last, which nobody may have touched yet,
    /// and those on their way out.
    pub fn nr_unsure(&self) -> usize {
        let isolated: usize = self.online.iter().map(|node| self.lruvec(node).nr_isolated).sum();
        self.budget.newest() + self.lookout.leaving() + isolated
    }

    /// Somebody looked at what is left: of the pages charged last fewer are waited for each time.
    pub fn age_newest(&self) {
        let newest = self.budget.newest();
        let total = self.budget.charged().wrapping_add(self.budget.gone());
        self.budget.age_newest(newest, self.lookout.age(newest, total, self.machine.now_ns()));
    }

    /// The limit of the process in pages, [`UNLIMITED`](crate::UNLIMITED) for none.
    pub fn limit(&self) -> usize {
        self.budget.limit()
    }

    /// The marks of the process's limit.
    pub fn watermarks(&self) -> Watermarks {
        self.budget.marks()
    }

    /// Who looks at what is left outside, and when.
    pub fn lookout(&self) -> &Lookout {
        &self.lookout
    }

    /// The bound that the soft limit sets.
    pub fn soft_cap(&self) -> Cap {
        self.soft_cap
    }

    /// Bounds what shall be charged there.
    pub fn set_cap(&self, level: Level, cap: Cap) {
        if let Some(budget) = self.budget_of(level) {
            budget.set_cap(cap);
        }
    }

    /// The bound stays as it is, and counts again where it gave way.
    pub fn keep_cap(&self, level: Level) {
        if let Some(budget) = self.budget_of(level) {
            budget.end_grace();
        }
    }

    /// The bound of the process.
    pub fn cap(&self) -> Cap {
        self.budget.cap()
    }

    /// Whether a bound that gives way stands for the process or for any node.
    pub fn has_cap(&self) -> bool {
        self.cap() != Cap::NONE || self.online_nodes().any(|node| node.budget.cap() != Cap::NONE)
    }

    /// Pages to reclaim there for the high mark, if the low one is not met.
    pub fn shortfall(&self, level: Level) -> usize {
        self.budget_of(level).map_or(0, Budget::shortfall)
    }

    /// Pages to reclaim on `node` for the high marks that fragmentation raised, those of the node and of
    /// the process.
    pub fn boosted_shortfall(&self, node: NodeId) -> usize {
        let of_node = self.node(node).map_or(0, |home| home.budget.boosted_shortfall());
        of_node.max(self.budget.boosted_shortfall())
    }

    /// Whether fragmentation raised any marks.
    pub fn is_boosted(&self) -> bool {
        self.budget.boost() > 0 || self.online_nodes().any(|node| node.budget.boost() > 0)
    }

    /// By how many pages fragmentation raised the marks there.
    pub fn boost(&self, level: Level) -> usize {
        self.budget_of(level).map_or(0, Budget::boost)
    }

    /// Takes so much of that off again.
    pub fn unboost(&self, level: Level, nr_pages: usize) {
        if let Some(budget) = self.budget_of(level) {
            budget.unboost(nr_pages);
        }
    }

    /// Whether kswapd is to be woken because marks were raised; told once.
    #[inline]
    pub fn take_boost_wake(&self) -> bool {
        self.budget.take_wake()
    }

    /// None of a node without memory.
    fn budget_of(&self, level: Level) -> Option<&Budget> {
        match level {
            Level::Process => Some(&self.budget),
            Level::Node(node) => self.node(node).map(|home| &home.budget),
        }
    }

    /// Whether `nr_pages` more on `node` are refused by a bound that gives way, and by no limit.
    pub fn is_capped(&self, node: NodeId, nr_pages: usize) -> bool {
        let of_node = self.node(node).is_some_and(|home| home.budget.is_capped(nr_pages));
        of_node || self.budget.is_capped(nr_pages)
    }

    /// Whether they are refused so where the kernel's killer is next, for the group or the node.
    pub fn is_at_edge(&self, node: NodeId, nr_pages: usize) -> bool {
        let of_node = self.node(node).is_some_and(|home| home.budget.is_at_edge(nr_pages));
        of_node || self.is_at_edge_of_group(nr_pages)
    }

    /// The same for the group, which no node can help.
    pub fn is_at_edge_of_group(&self, nr_pages: usize) -> bool {
        self.budget.is_at_edge(nr_pages)
    }

    /// Lets `nr_pages` and up to `grace_pages` after them pass the marks of the bounds that give way; with
    /// `beyond` the bounds themselves, since there is nothing to reclaim.
    pub fn yield_caps(&self, node: NodeId, nr_pages: usize, grace_pages: usize, beyond: bool) {
        self.budget.yield_cap(nr_pages, grace_pages, beyond);
        if let Some(home) = self.node(node) {
            home.budget.yield_cap(nr_pages, grace_pages, beyond);
        }
    }
}
